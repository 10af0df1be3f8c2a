/** A process of its own for a few steps of one shape, so that its memory and its start can be measured: prints one line of JSON. */
import { createCpuBackend } from '#core/backend/cpu.ts'
import { programBytes } from '#core/runner/memory-plan.ts'
import { openStepper, type ShapeName } from './step.ts'

const [name, precision] = process.argv.slice(2) as [ShapeName, 'float32' | 'mixed']
const startedAt = performance.now()
const backend = createCpuBackend({ precision })
const stepper = await openStepper(backend, name)
const openedAt = performance.now()
const seconds = [await stepper.step(), await stepper.step(), await stepper.step()]
console.log(JSON.stringify({ openSeconds: (openedAt - startedAt) / 1000, seconds, peakBytes: process.resourceUsage().maxRSS * 1024, plannedBytes: stepper.plannedBytes + programBytes('cpu') }))
await backend.close()
