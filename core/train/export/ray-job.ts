/**
 * A run as a job for Ray Train (resources/ray/train.py): a folder with the script, the mix's token files as they are, the first weights as a
 * Hugging Face folder, the order of instances and the learning rate of every step. With it the cluster takes the very batches that this
 * machine would take. Written anew for every submission, but for tokens and first weights, which stay.
 */
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createTrainingOrder, validationBatches } from '#core/data/batches.ts'
import { tokenFile, verifyMix, type MixManifest, type Split } from '#core/data/mix-manifest.ts'
import { openInstances, type Instances } from '#core/data/shards.ts'
import { copyFileHashed, writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import { npyChunks } from '#core/formats/npy.ts'
import { afterSkips, learningRateFactor } from '#core/shared/run-control.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { learningRateAt } from '#core/shared/schedule.ts'
import { huggingFaceConfig, openModelSource } from '../model-source.ts'
import { sequencesPerMicroBatch } from '../options.ts'
import { initialSource } from '../weights.ts'
import { writeShards } from './hugging-face.ts'

export type RayJobOptions = {
  config: RunConfig
  /** The mix's folder, and that of the checkpoint the stage starts from; null: fresh weights. */
  mix: string
  start: string | null
  /** resources/ray/train.py */
  script: string
  /** Where the run goes on; beyond step 0 from checkpoints/step-N of the job folder. */
  stands: { step: number; tokens: number; seconds: number }
  /** What it throws ends the writing; the folder can be written again. */
  onProgress?: (phase: 'weights' | 'tokens' | 'order', done: number, total: number, unit: string) => void
}

/** Instances by step, [steps × sequencesPerStep]; -1 - i where instance i is trained without a loss. */
function* orderRows(config: RunConfig, instances: Instances, onStep: (step: number) => void): Generator<Uint8Array> {
  const order = createTrainingOrder(instances, config.dataSeed ?? config.seed)
  const [ids, targets] = [new Int32Array(config.sequenceLength), new Int32Array(config.sequenceLength)]
  const masked = new Map<number, boolean>()
  const isMasked = (instance: number): boolean => {
    if (!masked.has(instance)) masked.set(instance, instances.read(instance, ids, targets, 0) === 0)
    return masked.get(instance)!
  }
  let position = 0
  for (let step = 1; step <= config.steps; step++) {
    position = afterSkips(config.control, position)
    const row = Array.from({ length: config.sequencesPerStep }, (_, i) => order.instanceAt(position + i))
    yield new Uint8Array(BigInt64Array.from(row, (instance) => BigInt(isMasked(instance) ? -1 - instance : instance)).buffer)
    position += config.sequencesPerStep
    onStep(step)
  }
}

function* learningRates({ steps, optimizer, control }: RunConfig): Generator<Uint8Array> {
  yield new Uint8Array(Float64Array.from({ length: steps }, (_, i) => learningRateAt(i + 1, steps, optimizer) * learningRateFactor(control, i + 1)).buffer)
}

function describeSplit(manifest: MixManifest, { domains }: Instances, split: Split): object[] {
  return domains.map(({ name, first }, i) => ({ file: `tokens/${tokenFile(name, split)}`, first, tokens: manifest.domains[i]![split === 'train' ? 'trainTokens' : 'validationTokens'] }))
}

/** job.json: what the script is told. */
function describe({ config, stands }: RayJobOptions, manifest: MixManifest, instances: Instances, heldOut: Instances): object {
  const { workers, gpusPerWorker } = config.cluster ?? { workers: 1, gpusPerWorker: 0 }
  const { betas, eps, weightDecay, decayNorms, decayEmbeddings, clip } = config.optimizer
  return {
    steps: config.steps, startStep: stands.step, startTokens: stands.tokens, startSeconds: stands.seconds,
    workers, gpusPerWorker, precision: config.precision,
    sequenceLength: config.sequenceLength, rowsPerMicroBatch: sequencesPerMicroBatch(config), expertsPerToken: config.model.num_experts_per_tok,
    loadBalanceWeight: config.loadBalanceWeight, routerZWeight: config.routerZWeight, optimizer: { betas, eps, weightDecay, decayNorms, decayEmbeddings, clip },
    evaluateEverySteps: config.evaluateEverySteps, checkpointEverySteps: config.checkpointEverySteps,
    eosId: manifest.eosId, tokenType: manifest.tokenBytes === 2 ? '<u2' : '<u4',
    train: describeSplit(manifest, instances, 'train'), validation: describeSplit(manifest, heldOut, 'validation'),
    heldOut: heldOut.domains
      .map(({ name }, domain) => ({ name, instances: [...validationBatches(heldOut, domain, 1, config.evaluationSequences)].flatMap((batch) => batch.instances) }))
      .filter((domain) => domain.instances.length > 0),
    recipe: config,
  }
}

async function writeTokens(folder: string, mix: string, manifest: MixManifest, onProgress: NonNullable<RayJobOptions['onProgress']>): Promise<void> {
  const names = manifest.domains.flatMap(({ name }) => [tokenFile(name, 'train'), tokenFile(name, 'validation')])
  const total = names.reduce((sum, name) => sum + manifest.files[name]!.sizeBytes, 0)
  let done = 0
  await writeFolderAtomic(folder, async (temporary) => {
    for (const name of names) await copyFileHashed(join(mix, name), join(temporary, name), (bytes) => onProgress('tokens', (done += bytes), total, 'bytes'))
  })
}

async function writeFirstWeights(folder: string, { config, mix, start, onProgress = () => undefined }: RayJobOptions): Promise<void> {
  await writeFolderAtomic(folder, async (temporary) => {
    const source = start === null ? initialSource(config.model, config.seed) : openModelSource(start)
    try {
      await writeShards(temporary, source, 'f32', (done, total, unit) => onProgress('weights', done, total, unit))
    } finally {
      source.close()
    }
    await writeFileAtomic(join(temporary, 'config.json'), [`${JSON.stringify(huggingFaceConfig(config.model, 'float32'), null, 2)}\n`])
    copyFileSync(join(mix, 'tokenizer.json'), join(temporary, 'tokenizer.json'))
  })
}

/** Writes the job into `folder`, which may hold an earlier submission of the same run. Gives the hash of the mix. Throws mix.damaged and what writing does. */
export async function writeRayJob(folder: string, options: RayJobOptions): Promise<{ mixHash: string }> {
  const { config, mix, script, onProgress = () => undefined } = options
  const manifest = await verifyMix(mix)
  mkdirSync(join(folder, 'checkpoints'), { recursive: true })
  for (const stale of ['metrics.jsonl', 'stop']) rmSync(join(folder, stale), { force: true })
  if (!existsSync(join(folder, 'initial'))) await writeFirstWeights(join(folder, 'initial'), options)
  if (!existsSync(join(folder, 'tokens'))) await writeTokens(join(folder, 'tokens'), mix, manifest, onProgress)
  const instances = openInstances(mix, manifest, 'train', config.sequenceLength)
  const heldOut = openInstances(mix, manifest, 'validation', config.sequenceLength)
  try {
    const rows = orderRows(config, instances, (step) => onProgress('order', step, config.steps, 'step'))
    await writeFileAtomic(join(folder, 'order.npy'), npyChunks('i8', [config.steps, config.sequencesPerStep], rows))
    await writeFileAtomic(join(folder, 'learning-rates.npy'), npyChunks('f8', [config.steps], learningRates(config)))
    await writeFileAtomic(join(folder, 'job.json'), [`${JSON.stringify(describe(options, manifest, instances, heldOut), null, 2)}\n`])
  } finally {
    instances.close()
    heldOut.close()
  }
  copyFileSync(script, join(folder, 'train.py'))
  return { mixHash: manifest.hash }
}
