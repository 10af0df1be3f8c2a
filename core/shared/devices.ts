/**
 * Devices: what a run can compute on. One is the CPU, the others are the graphics cards that WebGPU reaches; the CPU is always
 * first. Everything that touches a driver happens in a runner, so a driver that crashes costs a listing, never the core.
 * `measured` is remembered by device and driver; a probe answers for one recipe and is not remembered.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { errorDataSchema } from './common.ts'
import { deviceSchema, phaseSchema, runConfigSchema, runDeviceSchema } from './runs.ts'

/** `cpu`, or a card's interface and name as its driver spells it. */
export const deviceIdSchema = z.string().min(1).max(300)

export const measuredSchema = z.object({
  /** Multiply-add peak (2 per multiply-add). */
  flopsPerSecond: z.number(),
  /** Memory read and written by a long copy; null where it is not measured. */
  bytesPerSecond: z.number().nullable(),
})
export type Measured = z.infer<typeof measuredSchema>

export const deviceInfoSchema = z.object({
  id: deviceIdSchema,
  kind: deviceSchema,
  name: z.string(),
  /** Empty where nobody tells. */
  vendor: z.string(),
  /** A card's family; the CPU's instruction set. */
  architecture: z.string(),
  driver: z.string(),
  /** The interface to a card (vulkan, metal, d3d12); empty for the CPU. */
  api: z.string(),
  /** Computes on the CPU under a card's interface: for tests, and slow. */
  isSoftware: z.boolean(),
  /** Threads that the CPU computes with; null for a card. */
  threads: z.int().nullable(),
  /** Memory of the whole machine for the CPU; null for a card, which does not tell. */
  memoryBytes: z.number().nullable(),
  features: z.object({
    /** Takes 16-bit operands: float16 on a card, bf16 on the CPU. */
    f16: z.boolean(),
    /** Smallest and largest subgroup; null when there are none. */
    subgroups: z.tuple([z.int(), z.int()]).nullable(),
    timestamps: z.boolean(),
    /** Matrix units, one line for each shape of operands. */
    subgroupMatrix: z.array(z.string()),
  }),
  limits: z.object({ maxBufferBytes: z.number(), maxBindingBytes: z.number(), maxWorkgroupMemoryBytes: z.number(), maxWorkgroupThreads: z.int() }).nullable(),
  measured: measuredSchema.nullable(),
})
export type DeviceInfo = z.infer<typeof deviceInfoSchema>

export const deviceListSchema = z.object({
  devices: z.array(deviceInfoSchema),
  /** Why cards may be missing from the list: their driver crashed, or did not answer. */
  problem: errorDataSchema.nullable(),
})
export type DeviceList = z.infer<typeof deviceListSchema>

/** Memory that a recipe needs, known before any is taken. */
export const memoryPlanSchema = z.object({
  plannedBytes: z.number(),
  /** `program`: what is taken before a model is opened; nothing on a card. */
  parts: z.object({ weights: z.number(), gradients: z.number(), optimizer: z.number(), activations: z.number(), program: z.number() }),
  largestTensor: z.object({ name: z.string(), sizeBytes: z.number() }),
  /** The most that one tensor may have on this device; null: no limit of its own. */
  bindingLimitBytes: z.number().nullable(),
  /** Memory of the device, where it tells. */
  memoryBytes: z.number().nullable(),
})
export type MemoryPlan = z.infer<typeof memoryPlanSchema>

const spreadSchema = z.object({ median: z.number(), min: z.number(), max: z.number() })
export type Spread = z.infer<typeof spreadSchema>

/** Median and extremes of at least one value. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, min: sorted[0]!, max: sorted.at(-1)! }
}

export const probeResultSchema = z.object({
  device: runDeviceSchema,
  memory: memoryPlanSchema,
  tokensPerSecond: spreadSchema,
  stepMs: spreadSchema,
  /** Samples behind both; a recipe of many micro-batches is extrapolated from some of them. */
  samples: z.int(),
  /** For `config.steps` steps, evaluation and checkpoints not counted. */
  totalSeconds: z.number(),
})
export type ProbeResult = z.infer<typeof probeResultSchema>

export const probeEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('phase'), phase: phaseSchema }),
  z.object({ type: z.literal('memory'), memory: memoryPlanSchema }),
  z.object({ type: z.literal('result'), result: probeResultSchema }),
  /** It does not run there as it is; the error says what to change. */
  z.object({ type: z.literal('failed'), error: errorDataSchema }),
])
export type ProbeEvent = z.infer<typeof probeEventSchema>

/** What a probe may take, from opening the device to its last step. */
export const probeBudgetMs = 20_000

export const devicesContract = {
  /** Listed once per start; `refresh` looks again. */
  list: oc.input(z.object({ refresh: z.boolean().default(false) }).prefault({})).output(deviceListSchema),
  /** Measures now. Refused while anything trains. */
  measure: oc.input(z.object({ id: deviceIdSchema })).output(deviceInfoSchema),
  /** Trains on random tokens for at most `probeBudgetMs`; the last event is `result` or `failed`. Refused while anything trains. */
  probe: oc.input(z.object({ config: runConfigSchema })).output(eventIterator(probeEventSchema)),
}
