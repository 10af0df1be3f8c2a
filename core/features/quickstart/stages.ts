/**
 * The quick start's runs: which they are, how each begins from the one before, and who begins the next when one is done. All that is remembered
 * is which runs they are and how far it is to go, so the state after a restart of the core is simply what became of them.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { errorDataSchema } from '#core/shared/common.ts'
import { AppError, toErrorData, type ErrorData } from '#core/shared/errors.ts'
import type { Host } from '#core/shared/host.ts'
import { quickstartStages, type QuickstartStage } from '#core/shared/quickstart.ts'
import { runConfigSchema, type Run, type RunConfig } from '#core/shared/runs.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { findRun } from '#core/store/runs.ts'
import { readSetting, writeSetting } from '#core/store/settings.ts'
import type { Services } from '../services.ts'

type Parts = Pick<Services, 'host' | 'store' | 'supervisor'>

const runKey = 'quickstart.runId'
const rememberedKey = 'quickstart.stages'
const rememberedSchema = z.object({
  until: z.enum(quickstartStages),
  /** Runs of the stages after the first. */
  runIds: z.array(z.string()),
  /** Why the next stage could not begin. */
  error: errorDataSchema.nullable(),
})
type Remembered = z.infer<typeof rememberedSchema>
/** A library from before there were more stages has made its base model, and is done. */
const onlyBase: Remembered = { until: 'base', runIds: [], error: null }

export type Stage = { stage: QuickstartStage; run: Run; checkpointId: string | null }
export type Stages = { begun: Stage[]; until: QuickstartStage; error: ErrorData | null }

const presets: Record<QuickstartStage, string> = { base: 'quickstart', sft: 'quickstart-sft', dpo: 'quickstart-dpo' }

const remembered = ({ store }: Pick<Services, 'store'>): Remembered => rememberedSchema.catch(onlyBase).parse(readSetting(store, rememberedKey) ?? onlyBase)

/** The stages that have begun, as far as their runs are still there. */
export function readStages({ store }: Pick<Services, 'store'>): Stages {
  const { until, runIds, error } = remembered({ store })
  const begun: Stage[] = []
  for (const [i, id] of [readSetting(store, runKey), ...runIds].entries()) {
    const run = typeof id === 'string' ? findRun(store, id) : null
    if (run === null) break
    begun.push({ stage: quickstartStages[i]!, run, checkpointId: listCheckpoints(store, run.id).find(({ valid }) => valid)?.id ?? null })
  }
  return { begun, until, error }
}

/** The stage that comes next when this is all that has begun, and where it begins; null at the end. */
export function nextStage({ begun, until }: Stages): { stage: QuickstartStage; from: string } | null {
  const last = begun.at(-1)
  const stage = quickstartStages[begun.length]
  if (last?.run.status !== 'done' || last.checkpointId === null || stage === undefined || begun.length > quickstartStages.indexOf(until)) return null
  return { stage, from: last.checkpointId }
}

/** Begins a new quick start: its first run, with whatever later stages follow by themselves. */
export function beginAnew({ host, store, supervisor }: Parts, until: QuickstartStage): void {
  const run = supervisor.create(recipeOf(host, 'base', {}))
  writeSetting(store, runKey, run.id)
  writeSetting(store, rememberedKey, { until, runIds: [], error: null } satisfies Remembered)
}

/** Sets how far it is to go; what has begun stays. */
export function goUntil(services: Parts, until: QuickstartStage): void {
  writeSetting(services.store, rememberedKey, { ...remembered(services), until } satisfies Remembered)
}

/** Begins a stage after the first, in place of whatever run it and later ones had. */
export function beginStage(services: Parts, stage: QuickstartStage, from: string, until: QuickstartStage): void {
  const { host, store, supervisor } = services
  const index = quickstartStages.indexOf(stage)
  const model = readStages(services).begun[0]!.run.config.model
  const run = supervisor.create(recipeOf(host, stage, { model, startFrom: { checkpointId: from, optimizer: false } }))
  writeSetting(store, rememberedKey, { until, runIds: [...remembered(services).runIds.slice(0, index - 1), run.id], error: null } satisfies Remembered)
}

/** Begins the stage that is due, if one is. What hinders it is remembered and shown; the quick start goes on from there. */
export function advance(services: Parts): void {
  const stages = readStages(services)
  const next = nextStage(stages)
  if (next === null || stages.error !== null) return
  try {
    beginStage(services, next.stage, next.from, stages.until)
  } catch (error) {
    if (!(error instanceof AppError)) services.host.log('error', `quick start: ${error instanceof Error ? error.stack : String(error)}`)
    writeSetting(services.store, rememberedKey, { ...remembered(services), error: toErrorData(error) })
  }
}

/** Advances whenever a run ends, until the core closes. */
export async function keepAdvancing(services: Services): Promise<void> {
  const news = services.events.watch(undefined)
  advance(services)
  for await (const { event } of news) if (event.type === 'run' && event.run.status === 'done') advance(services)
}

function recipeOf({ resourcesPath }: Host, stage: QuickstartStage, added: object): RunConfig {
  const path = join(resourcesPath, 'presets', `${presets[stage]}.json`)
  const bad = (found: string): AppError =>
    new AppError('quickstart.badRecipe', `${path}: ${found}`, { params: { path, found }, hint: 'Install the workbench again: this file came with it.' })
  let json: object
  try {
    json = JSON.parse(readFileSync(path, 'utf8')) as object
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error))
  }
  const recipe = runConfigSchema.safeParse({ ...json, ...added })
  if (recipe.success) return recipe.data
  const issue = recipe.error.issues[0]!
  throw bad(`${issue.path.join('.')}: ${issue.message}`)
}
