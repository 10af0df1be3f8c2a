/** What is remembered of devices: how fast each was measured to be, and which kernels were chosen for it. Entries that do not fit are as if absent. */
import { z } from 'zod'
import { measuredSchema, type Measured } from '#core/shared/devices.ts'
import type { KernelChoices } from '#core/shared/jobs.ts'
import type { ReadableStore, WritableStore } from './open.ts'
import { readSetting, writeSetting } from './settings.ts'

const measuredKey = 'devices.measured'
const kernelsKey = 'devices.kernels'
const measuredByKeySchema = z.record(z.string(), measuredSchema)
const kernelChoicesSchema = z.record(z.string(), z.string())

export function readMeasured(store: ReadableStore): Record<string, Measured> {
  return measuredByKeySchema.safeParse(readSetting(store, measuredKey)).data ?? {}
}

export function rememberMeasured(store: WritableStore, key: string, measured: Measured): void {
  writeSetting(store, measuredKey, { ...readMeasured(store), [key]: measured })
}

export function readKernelChoices(store: ReadableStore): KernelChoices {
  return kernelChoicesSchema.safeParse(readSetting(store, kernelsKey)).data ?? {}
}

export function rememberKernelChoice(store: WritableStore, key: string, choice: string): void {
  writeSetting(store, kernelsKey, { ...readKernelChoices(store), [key]: choice })
}
