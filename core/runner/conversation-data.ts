/**
 * The data of an adaptation run, in a folder of its own in the library: its conversations as tokens, and what the starting checkpoint makes of them
 * (the reference log-probabilities of DPO and KTO). Both are made once, before the first step, and are what a resume reads.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend } from '#core/backend/backend.ts'
import { fillDataset, openDataset, type Dataset } from '#core/data/conversations/dataset.ts'
import { createEncoder, encodeInstances } from '#core/data/conversations/encode.ts'
import { openConversations } from '#core/data/conversations/files.ts'
import { adaptationPaths, requireTemplate } from '#core/data/conversations/resources.ts'
import { loadTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import { readChatTemplate } from '#core/formats/chat-template.ts'
import type { ChatTemplate } from '#core/shared/chat-templates.ts'
import type { JobPaths } from '#core/shared/jobs.ts'
import type { AdaptationStage } from '#core/shared/adaptation.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { computeReference, type ReferenceLogProbs } from '#core/train/adapter.ts'
import { readCheckpoint } from '#core/train/checkpoint.ts'
import type { Trainer } from '#core/train/trainer.ts'
import { loadWeightsInto } from '#core/train/weights.ts'
import type { JobContext } from './context.ts'

export type AdaptationPlace = { paths: JobPaths; runId: string; config: RunConfig }

/** The folder of a run's conversations. */
export const adaptationFolder = (library: string, runId: string): string => join(library, 'adaptations', runId)

const startFolder = ({ paths, config }: AdaptationPlace): string => join(paths.library, 'checkpoints', config.startFrom!.checkpointId)

export type ConversationData = { dataset: Dataset; template: ChatTemplate; tokenizer: Tokenizer }

/** Opens the run's conversations; builds them first where they are not there yet. */
export async function openConversationData(place: AdaptationPlace, context: JobContext): Promise<ConversationData> {
  const { paths, runId, config } = place
  const settings = config.adaptation!
  const tokenizer = loadTokenizer(join(startFolder(place), 'tokenizer.json'))
  const template = requireTemplate(settings.template, readChatTemplate(startFolder(place)), paths.resources)
  const folder = join(adaptationFolder(paths.library, runId), 'data')
  if (!existsSync(folder)) {
    mkdirSync(adaptationFolder(paths.library, runId), { recursive: true })
    const tell = (done: number): void => context.send({ type: 'phase', phase: { phase: 'conversations', done, total: null, unit: 'conversations', etaSeconds: null } })
    tell(0)
    const stage = config.stage as AdaptationStage
    const conversations = await openConversations(adaptationPaths(settings.data, paths.resources), settings.mapping, settings.skipBadRows)
    const files = conversations.files.map(({ name, sizeBytes, modifiedMs }) => ({ name, sizeBytes, modifiedMs }))
    const recipe = JSON.stringify({ stage, files, mapping: conversations.mapping, template, tokenizer: tokenizer.hash, eosId: config.model.eos_token_id, maxTokens: config.sequenceLength })
    const encode = createEncoder(tokenizer, template, config.model.eos_token_id ?? 0)
    const options = { stage, recipe, maxTokens: config.sequenceLength, packing: settings.packing, heldOutShare: settings.heldOutShare }
    const manifest = await writeFolderAtomic(folder, (temporary) => fillDataset(temporary, encodeInstances(stage, conversations.examples(), encode), options, tell))
    if (manifest.tooLong > 0) context.log('warning', `${manifest.tooLong} of ${manifest.conversations + manifest.tooLong} conversations are longer than ${config.sequenceLength} tokens and are left out`)
  }
  const dataset = await openDataset(folder)
  const { instances, tokens, lossTokens } = dataset.manifest
  context.log('info', `${instances.train} instances to train on, ${instances.heldOut} held out; ${lossTokens} of ${tokens} tokens carry loss`)
  return { dataset, template, tokenizer }
}

/** The recipe with the steps that its passes over the data take, and the warm-up that is a share of them. */
export function planSteps(config: RunConfig, { manifest }: Dataset): RunConfig {
  const { epochs, warmupShare } = config.adaptation!
  const steps = epochs === null ? config.steps : Math.max(1, Math.ceil((epochs * manifest.instances.train) / config.sequencesPerStep))
  return { ...config, steps, optimizer: { ...config.optimizer, ...(warmupShare !== null && { warmupSteps: Math.round(warmupShare * steps) }) } }
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Reference log-probabilities of both splits one after the other, float64 little-endian, beside what they are of. */
type ReferenceIdentity = { data: string; weights: string; device: string; sha256: string }

/**
 * log π_ref of all of the data. Read where they were computed of the same data with the same weights; else the starting checkpoint is put into the
 * trainer, whose weights must be set afterwards.
 */
export async function referenceLogProbs(place: AdaptationPlace, backend: Backend, trainer: Trainer, dataset: Dataset, context: JobContext): Promise<ReferenceLogProbs> {
  const folder = adaptationFolder(place.paths.library, place.runId)
  const [values, identity] = [join(folder, 'reference.f64'), join(folder, 'reference.json')]
  const weights = readCheckpoint(startFolder(place)).manifest.files['model.safetensors']!.sha256
  const of = { data: dataset.hash, weights, device: backend.name }
  const { instances, sequencesPerInstance } = dataset.manifest
  const split = (all: Float64Array): ReferenceLogProbs => ({ train: all.slice(0, instances.train * sequencesPerInstance), heldOut: all.slice(instances.train * sequencesPerInstance) })
  if (existsSync(values) && existsSync(identity)) {
    const bytes = readFileSync(values)
    const known = JSON.parse(readFileSync(identity, 'utf8')) as ReferenceIdentity
    if (JSON.stringify(known) === JSON.stringify({ ...of, sha256: sha256(bytes) })) return split(new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)))
  }
  await loadWeightsInto(backend, startFolder(place), place.config.model, trainer.weights)
  const reference = await computeReference(trainer, place.config, dataset, (done, total) => context.send({ type: 'phase', phase: { phase: 'reference', done, total, unit: 'instances', etaSeconds: null } }))
  const bytes = Buffer.concat([reference.train, reference.heldOut].map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength)))
  await writeFileAtomic(values, [bytes])
  await writeFileAtomic(identity, [JSON.stringify({ ...of, sha256: sha256(bytes) })])
  return reference
}
