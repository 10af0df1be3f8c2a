/**
 * The memory of a recipe without taking any: the trainer is made on a backend that only adds up. The CPU asks for the same to
 * the byte; a card for a little more, where its kernels need room of their own. On the CPU the program shares memory with its model,
 * so that it is part of the plan: what is planned is what the system will count at the peak.
 */
import { totalmem } from 'node:os'
import type { Backend, Tensor } from '#core/backend/backend.ts'
import { planScratch, tensorBytes } from '#core/backend/planner.ts'
import { listWeights } from '#core/model/parameters.ts'
import type { MemoryPlan } from '#core/shared/devices.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { trainerOptionsOf } from '#core/train/options.ts'
import { createTrainer } from '#core/train/trainer.ts'

/** Gives no memory and computes nothing; tells `onTensor` of every tensor that would be placed. */
function createPlanningBackend(onTensor: (tensor: Tensor) => void): Backend {
  const refuse = (): never => {
    throw new Error('a planning backend computes nothing')
  }
  return {
    name: 'reference',
    description: 'plans only',
    allocate: (tensors) => tensors.forEach(onTensor),
    release: () => undefined,
    write: async () => undefined,
    read: refuse,
    snapshot: refuse,
    async prepare(plan) {
      const { offsets, totalBytes } = planScratch(plan)
      for (const tensor of offsets.keys()) onTensor(tensor)
      return { scratchBytes: totalBytes, run: refuse }
    },
    measurePeak: refuse,
    close: async () => undefined,
  }
}

const programOfThisProcess = process.memoryUsage.rss()

/**
 * What Node and the program's code take beside a model on `device`, as this process did once its code was loaded; the process of a job
 * loads about the same. Nothing on a card, which has memory of its own.
 */
export const programBytes = (device: RunConfig['device']): number => (device === 'cpu' ? programOfThisProcess : 0)

/** What training `config` needs, by part; AdamW keeps two moments of every weight. */
export async function planMemory(config: RunConfig): Promise<Pick<MemoryPlan, 'plannedBytes' | 'parts' | 'largestTensor'>> {
  let largest: Tensor | null = null
  const backend = createPlanningBackend((tensor) => {
    if (largest === null || tensorBytes(tensor) > tensorBytes(largest)) largest = tensor
  })
  const { plannedBytes: trainerBytes, weights } = await createTrainer(backend, trainerOptionsOf(config))
  const weightBytes = listWeights(weights).reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  const program = programBytes(config.device)
  const { name } = largest!
  return {
    plannedBytes: trainerBytes + program,
    parts: { weights: weightBytes, gradients: weightBytes, optimizer: 2 * weightBytes, activations: trainerBytes - 4 * weightBytes, program },
    largestTensor: { name, sizeBytes: tensorBytes(largest!) },
  }
}

/** Memory that this process may have: the machine's, or what a container leaves of it. */
export const machineMemoryBytes = (): number => Math.min(totalmem(), process.constrainedMemory() || Infinity)

/** The plan beside what the machine has; a card does not tell. */
export async function planOnMachine(config: RunConfig): Promise<MemoryPlan> {
  return { ...(await planMemory(config)), bindingLimitBytes: null, memoryBytes: config.device === 'cpu' ? machineMemoryBytes() : null }
}
