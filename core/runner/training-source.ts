/** What a run trains on: a mix of documents, or the conversations of an adaptation. Opened before the device is; both feed the same loop. */
import { join } from 'node:path'
import type { Backend } from '#core/backend/backend.ts'
import { createTrainingOrder, validationBatches } from '#core/data/batches.ts'
import { verifyMix, type MixManifest } from '#core/data/mix-manifest.ts'
import { openInstances, type Instances } from '#core/data/shards.ts'
import { isAdaptation } from '#core/shared/adaptation.ts'
import type { ChatTemplate } from '#core/shared/chat-templates.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Job } from '#core/shared/jobs.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { createAdapter } from '#core/train/adapter.ts'
import { microBatchesOf, weighted } from '#core/train/batch.ts'
import { evaluateDomains, type LoopPorts, type ValidationSet } from '#core/train/loop.ts'
import { sequencesPerMicroBatch } from '#core/train/options.ts'
import type { Trainer } from '#core/train/trainer.ts'
import type { JobContext } from './context.ts'
import { openConversationData, planSteps, referenceLogProbs } from './conversation-data.ts'

type TrainJob = Extract<Job, { kind: 'train' }>
type Feed = Pick<LoopPorts, 'stepBatch' | 'evaluate'>

export type TrainingSource = {
  /** The recipe, completed by what the data says. */
  config: RunConfig
  /** Of the data; a checkpoint names it. */
  identity: { mixId: string; mixHash: string }
  tokenizerPath: string
  /** What a checkpoint is saved with, for chatting. */
  template: ChatTemplate | null
  summary: string
  /** Prepares the batches. It may use the trainer's weights, which are set afterwards. */
  feed(backend: Backend, trainer: Trainer): Promise<Feed>
  close(): void
}

/** Opens the data of a run. Throws what is wrong with it. */
export function openTrainingSource(job: TrainJob, context: JobContext): Promise<TrainingSource> {
  return isAdaptation(job.config.stage) ? openConversations(job, context) : openMix(job)
}

function requireVocabulary(config: RunConfig, { vocabularySize }: MixManifest): void {
  if (vocabularySize <= config.model.vocab_size) return
  throw new AppError('run.vocabularyTooSmall', `model.vocab_size is ${config.model.vocab_size}, the mix has ids up to ${vocabularySize - 1}`, {
    params: { field: 'model.vocab_size', found: config.model.vocab_size, expected: vocabularySize },
    hint: `Set model.vocab_size to at least ${vocabularySize}.`,
  })
}

/** Held-out pieces of every domain as micro-batches. */
function validationSets(heldOut: Instances, config: RunConfig, perMicro: number): ValidationSet[] {
  return heldOut.domains
    .map(({ name }, index) => ({ domain: name, batches: weighted([...validationBatches(heldOut, index, perMicro, config.evaluationSequences)], perMicro * config.sequenceLength) }))
    .filter(({ batches }) => batches.length > 0)
}

async function openMix({ paths, mixId, config }: TrainJob): Promise<TrainingSource> {
  if (mixId === null) throw new Error('a run that trains on documents has a mix')
  const folder = join(paths.library, 'mixes', mixId)
  const manifest = await verifyMix(folder)
  requireVocabulary(config, manifest)
  const instances = openInstances(folder, manifest, 'train', config.sequenceLength)
  const heldOut = openInstances(folder, manifest, 'validation', config.sequenceLength)
  const order = createTrainingOrder(instances, config.dataSeed ?? config.seed)
  const perMicro = sequencesPerMicroBatch(config)
  return {
    config,
    identity: { mixId, mixHash: manifest.hash },
    tokenizerPath: join(folder, 'tokenizer.json'),
    template: null,
    summary: `${instances.count} instances of ${config.sequenceLength} tokens per epoch`,
    async feed(_backend, trainer) {
      const sets = validationSets(heldOut, config, perMicro)
      return {
        stepBatch: async (position, count) => ({ micros: microBatchesOf(order.batchAt(position, count), perMicro * config.sequenceLength) }),
        evaluate: () => evaluateDomains(trainer, sets),
      }
    },
    close() {
      instances.close()
      heldOut.close()
    },
  }
}

async function openConversations(job: TrainJob, context: JobContext): Promise<TrainingSource> {
  const { dataset, template } = await openConversationData(job, context)
  // A run that goes on has its steps already; they may have been changed since.
  const config = job.resumeFrom === null ? planSteps(job.config, dataset) : job.config
  return {
    config,
    identity: { mixId: `conversations-${dataset.hash.slice(0, 12)}`, mixHash: dataset.hash },
    tokenizerPath: join(job.paths.library, 'checkpoints', config.startFrom!.checkpointId, 'tokenizer.json'),
    template,
    summary: `${dataset.manifest.instances.train} instances of up to ${config.sequenceLength} tokens per pass`,
    async feed(backend, trainer) {
      const reference = config.stage === 'sft' ? null : await referenceLogProbs(job, backend, trainer, dataset, context)
      return createAdapter({ trainer, config, dataset, reference })
    },
    close: () => dataset.close(),
  }
}
