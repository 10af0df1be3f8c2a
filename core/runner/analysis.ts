/**
 * An analysis from start to files, for the job and the command line alike: loads the checkpoints, opens the text, runs, and writes the result
 * into a folder that is whole or not there. Results are plain JSON: counters.json with experts-<layer>.json, or ablation.json.
 */
import { join } from 'node:path'
import { ablateExperts } from '#core/analyze/intervene.ts'
import { routingShape } from '#core/analyze/pass.ts'
import { analyseRouting, type AnalysedModel } from '#core/analyze/routing.ts'
import { givenText, openMixText, type AnalysedText } from '#core/analyze/text.ts'
import type { Backend } from '#core/backend/backend.ts'
import { verifyMix } from '#core/data/mix-manifest.ts'
import type { Tokenizer } from '#core/data/tokenizer.ts'
import { writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import type { Ablation, AnalysisSpec, RoutingCounters } from '#core/shared/analyses.ts'
import { AppError } from '#core/shared/errors.ts'
import type { AnalysedCheckpoint } from '#core/shared/jobs.ts'
import { countParameters } from '#core/shared/models.ts'
import { isPackedModel, loadModelAs, type ModelType } from '#core/train/load-model.ts'
import { readConfigOf } from '#core/train/model-source.ts'
import { readModelTokenizer } from '#core/train/model-tokenizer.ts'
import { machineMemoryBytes } from './memory-plan.ts'

/** Tokens of a batch: what the kernels are busy with while the batch before is counted. */
const batchTokens = 2048
/** Weights in float32 may take this share of the machine; larger ones are packed to bf16. */
const float32Share = 0.5
/** The counters may take this share of the machine. */
const memoryShare = 0.25

export type AnalysisRequest = {
  kind: AnalysisSpec['kind']
  model: AnalysedCheckpoint
  against: readonly AnalysedCheckpoint[]
  data: AnalysisSpec['data']
  sequenceLength: number | null
  /** The form to hold weights in; by default that of their files. */
  type?: ModelType | undefined
  /** Folder of the mixes. */
  mixes: string
}

export type AnalysisPorts = {
  onProgress?(phase: 'load' | 'analyse' | 'ablate' | 'write', done: number, total: number | null): void
  isStopped?(): boolean
}

/** The tokenizer beside a model. Throws AppError analyze.noTokenizer. */
export function tokenizerOf({ folder, label }: AnalysedCheckpoint): Tokenizer {
  const tokenizer = readModelTokenizer(folder)
  if (tokenizer !== null) return tokenizer
  throw new AppError('analyze.noTokenizer', `${label} has no tokenizer.json: its tokens cannot be told as text`, { params: { model: label }, hint: 'Put the tokenizer.json of the model into its folder.' })
}

/** Float32 where the machine has room for it, packed where the files are, or else. */
function typeFor(folder: string): ModelType | undefined {
  if (isPackedModel(folder)) return undefined
  return 4 * countParameters(readConfigOf(folder)).total <= float32Share * machineMemoryBytes() ? 'f32' : 'bf16'
}

/** Loads a checkpoint to look at it. */
export async function loadForAnalysis(backend: Backend, { id, folder, label, step }: AnalysedCheckpoint, type?: ModelType): Promise<AnalysedModel> {
  return { id, label, step, ...(await loadModelAs(backend, folder, type ?? typeFor(folder))) }
}

async function openText({ data, mixes }: AnalysisRequest, tokenizer: Tokenizer, cut: { sequence: number; sequences: number }): Promise<AnalysedText> {
  if (data.kind === 'text') return givenText(tokenizer.encode(data.text), 'text', cut)
  const folder = join(mixes, data.mixId)
  const manifest = await verifyMix(folder)
  if (manifest.tokenizerHash !== tokenizer.hash) {
    throw new AppError('analyze.otherTokenizer', `Mix ${data.mixId} was made with another tokenizer than the model's`, { params: { mix: data.mixId }, hint: 'Choose the mix that the model was trained on, or analyse a text.' })
  }
  return openMixText(folder, manifest, data, cut)
}

export type Analysed = { tokens: number } & ({ kind: 'routing'; counters: RoutingCounters } | { kind: 'ablation'; ablation: Ablation })

const json = (value: unknown): string => JSON.stringify(value)

/** Analyses and writes `folder`, which must not exist. Null when it was stopped: then nothing is written. */
export async function runAnalysis(backend: Backend, request: AnalysisRequest, folder: string, ports: AnalysisPorts = {}): Promise<Analysed | null> {
  const { onProgress = () => undefined, isStopped } = ports
  onProgress('load', 0, null)
  const tokenizer = tokenizerOf(request.model)
  const model = await loadForAnalysis(backend, request.model, request.type)
  routingShape(model.config)
  const sequence = Math.min(request.sequenceLength ?? 256, model.config.max_position_embeddings)
  const cut = { sequence, sequences: Math.max(1, Math.floor(batchTokens / sequence)) }
  const text = await openText(request, tokenizer, cut)
  try {
    if (request.kind === 'ablation') {
      const ablation = await ablateExperts(backend, model, text, { ...cut, isStopped, onProgress: (done, total) => onProgress('ablate', done, total) })
      if (ablation === null) return null
      await writeFolderAtomic(folder, (path) => writeFileAtomic(join(path, 'ablation.json'), [json(ablation)]))
      return { kind: 'ablation', tokens: ablation.tokens, ablation }
    }
    const against = []
    for (const other of request.against) against.push(await loadForAnalysis(backend, other, request.type))
    const decode = (ids: readonly number[]): string => tokenizer.decode(ids)
    const memoryBytes = memoryShare * machineMemoryBytes()
    const result = await analyseRouting(backend, model, against, text, { ...cut, decode, memoryBytes, isStopped, onProgress: (done, total) => onProgress('analyse', done, total) })
    if (result === null) return null
    onProgress('write', 0, null)
    const { counters } = result
    await writeFolderAtomic(folder, async (path) => {
      await writeFileAtomic(join(path, 'counters.json'), [json(counters)])
      for (const [i, layer] of counters.layers.entries()) await writeFileAtomic(join(path, `experts-${layer}.json`), [json(result.details(i))])
    })
    return { kind: 'routing', tokens: counters.tokens, counters }
  } finally {
    text.close()
  }
}
