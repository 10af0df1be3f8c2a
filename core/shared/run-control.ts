/**
 * What can be changed of a run under way, as part of its recipe: learning-rate changes from a step on, batches that are skipped, what
 * happens at a value that is not finite, prompts for samples. Because the recipe holds them, the same recipe draws the same curve
 * again, interventions included; `Intervention` is the record of who changed what when, which no rewind removes.
 */
import { z } from 'zod'

export const controlSchema = z.object({
  learningRateChanges: z
    .array(z.object({ fromStep: z.int().min(1), factor: z.number().min(0).max(100) }))
    .default([])
    .describe('from that step on the schedule is multiplied by the factor, until the next change'),
  skips: z
    .array(z.object({ position: z.int().min(0), instances: z.int().positive() }))
    .default([])
    .describe('instances of the data order that are passed over'),
  pauseOnNotFinite: z.boolean().default(false).describe('a loss or gradient that is not finite stops the run instead of failing it'),
  prompts: z.array(z.string().max(2000)).max(8).default([]).describe('continued by the model at each checkpoint'),
  sampleTokens: z.int().min(1).max(512).default(48),
})
export type RunControl = z.output<typeof controlSchema>

/** What the schedule's learning rate is multiplied by at `step`. */
export function learningRateFactor({ learningRateChanges }: RunControl, step: number): number {
  let [from, factor] = [0, 1]
  for (const change of learningRateChanges) if (change.fromStep <= step && change.fromStep >= from) [from, factor] = [change.fromStep, change.factor]
  return factor
}

/** Where the batch at `position` of the data order begins once what is skipped has been passed over. */
export function afterSkips({ skips }: RunControl, position: number): number {
  let at = position
  for (;;) {
    const skip = skips.find((one) => one.position <= at && at < one.position + one.instances)
    if (skip === undefined) return at
    at = skip.position + skip.instances
  }
}

/** Where the batch of `step` begins, for a run that stood at `from`. */
export function positionOfStep(control: RunControl, from: { step: number; loaderPosition: number }, step: number, sequencesPerStep: number): number {
  let position = afterSkips(control, from.loaderPosition)
  for (let at = from.step + 1; at < step; at++) position = afterSkips(control, position + sequencesPerStep)
  return position
}

/** A change asked for while a run is under way; it holds from the next step on. */
export const changeSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('learningRate'), factor: z.number().min(0).max(100) }),
  /** The schedule stays as it was; the run ends there with a checkpoint. */
  z.object({ kind: z.literal('stopAt'), step: z.int().positive() }),
])
export type RunChange = z.infer<typeof changeSchema>

type Changeable = { steps: number; control: RunControl; optimizer: { scheduleSteps: number | null } }

/** The recipe with `change` made from `step` on (the next one to be taken). */
export function applyChange<C extends Changeable>(config: C, change: RunChange, step: number): C {
  if (change.kind === 'stopAt') {
    return { ...config, steps: Math.max(change.step, step), optimizer: { ...config.optimizer, scheduleSteps: config.optimizer.scheduleSteps ?? config.steps } }
  }
  const others = config.control.learningRateChanges.filter(({ fromStep }) => fromStep !== step)
  return { ...config, control: { ...config.control, learningRateChanges: [...others, { fromStep: step, factor: change.factor }] } }
}

export const interventionSchema = z.object({
  /** The first step that it changed. */
  step: z.int(),
  at: z.number(),
  what: z.discriminatedUnion('kind', [
    ...changeSchema.options,
    z.object({ kind: z.literal('rollBack'), fromStep: z.int(), skippedStep: z.int().nullable(), skippedSteps: z.int(), removedCheckpoints: z.int() }),
    z.object({ kind: z.literal('device'), from: z.string(), to: z.string() }),
  ]),
})
export type Intervention = z.infer<typeof interventionSchema>

/** What the model made of one prompt at a checkpoint. */
export const sampleSchema = z.object({ step: z.int(), prompt: z.string(), text: z.string() })
export type Sample = z.infer<typeof sampleSchema>
