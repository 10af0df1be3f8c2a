/**
 * Conversations as a run trains on them, in one folder: token sequences of two splits, their index, a manifest with hashes. Built once,
 * deterministically, and published whole; a resume reads the same files. A prompt is held out by its hash, so that it is the same one in every
 * stage that reads the same data, and no prompt is on both sides.
 *
 * Files of a split: `<split>.tokens` (uint32; the highest bit says that the token's prediction is trained) and `<split>.index` (uint32 per
 * sequence: its length; the highest bit says that its answer is a wanted one).
 */
import { createHash } from 'node:crypto'
import { closeSync, createReadStream, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { AdaptationStage } from '#core/shared/adaptation.ts'
import { AppError } from '#core/shared/errors.ts'
import { createHashedFile } from '../token-writer.ts'
import type { Instance, Sequence } from './encode.ts'

export const datasetSplits = ['train', 'heldOut'] as const
export type DatasetSplit = (typeof datasetSplits)[number]

const fileSchema = z.object({ sizeBytes: z.int(), sha256: z.string() })
const datasetManifestSchema = z.object({
  format: z.literal('moe-workbench-conversations'),
  version: z.literal(1),
  /** What it was made of: files, mapping, template, tokenizer, lengths. */
  recipe: z.string(),
  sequencesPerInstance: z.int(),
  instances: z.object({ train: z.int(), heldOut: z.int() }),
  tokens: z.int(),
  lossTokens: z.int(),
  conversations: z.int(),
  tooLong: z.int(),
  files: z.record(z.string(), fileSchema),
})
export type DatasetManifest = z.infer<typeof datasetManifestSchema>

export type Dataset = {
  manifest: DatasetManifest
  /** sha256 of the manifest: the identity of the data. */
  hash: string
  read(split: DatasetSplit, instance: number): Instance
  close(): void
}

export type DatasetOptions = { stage: AdaptationStage; recipe: string; maxTokens: number; packing: boolean; heldOutShare: number }

const flag = 0x80000000
const hashRange = 2 ** 32

/** Whether a prompt is held out: a share of all by their hash. */
export function isHeldOut(promptText: string, share: number): boolean {
  return createHash('sha256').update(promptText).digest().readUInt32BE() < share * hashRange
}

type SplitWriter = { add(instance: Instance): void; count(): number; close(): void }

/** Writes a split; with `packTo`, sequences are joined as long as they fit into that many tokens. */
function createSplitWriter(folder: string, split: DatasetSplit, packTo: number | null, files: DatasetManifest['files']): SplitWriter {
  const [tokens, index] = [createHashedFile(join(folder, `${split}.tokens`)), createHashedFile(join(folder, `${split}.index`))]
  let instances = 0
  let packed: Sequence = { ids: [], loss: [] }
  const put = ({ ids, loss }: Sequence, desirable: boolean): void => {
    tokens.write(Buffer.from(Uint32Array.from(ids, (id, t) => id + (loss[t] ? flag : 0)).buffer))
    index.write(Buffer.from(Uint32Array.of(ids.length + (desirable ? flag : 0)).buffer))
  }
  const flush = (): void => {
    if (packed.ids.length === 0) return
    put(packed, true)
    instances++
    packed = { ids: [], loss: [] }
  }
  return {
    add({ sequences, desirable }) {
      if (packTo === null) {
        sequences.forEach((sequence) => put(sequence, desirable))
        instances++
        return
      }
      const [{ ids, loss }] = sequences as [Sequence]
      if (packed.ids.length + ids.length > packTo) flush()
      packed.ids.push(...ids)
      packed.loss.push(...loss)
    },
    count: () => instances,
    close() {
      flush()
      files[`${split}.tokens`] = tokens.close()
      files[`${split}.index`] = index.close()
    },
  }
}

/** Fills an empty folder, which becomes visible as a whole by whoever made it. Throws adaptation.noData when nothing is left to train on. */
export async function fillDataset(folder: string, instances: AsyncIterable<Instance & { promptText: string }>, options: DatasetOptions, onProgress: (conversations: number) => void): Promise<DatasetManifest> {
  const { stage, recipe, maxTokens, heldOutShare } = options
  const files: DatasetManifest['files'] = {}
  const packTo = options.packing && stage === 'sft' ? maxTokens : null
  const writers = { train: createSplitWriter(folder, 'train', packTo, files), heldOut: createSplitWriter(folder, 'heldOut', packTo, files) }
  const counts = { tokens: 0, lossTokens: 0, conversations: 0, tooLong: 0 }
  for await (const instance of instances) {
    if (instance.sequences.some(({ ids }) => ids.length > maxTokens)) counts.tooLong++
    else {
      writers[isHeldOut(instance.promptText, heldOutShare) ? 'heldOut' : 'train'].add(instance)
      for (const { ids, loss } of instance.sequences) {
        counts.tokens += ids.length
        counts.lossTokens += loss.filter(Boolean).length
      }
      if (++counts.conversations % 1000 === 0) onProgress(counts.conversations)
    }
  }
  writers.train.close()
  writers.heldOut.close()
  if (writers.train.count() === 0) {
    throw new AppError('adaptation.noData', `found ${counts.conversations} conversations to train on and ${counts.tooLong} longer than ${maxTokens} tokens, expected at least one${stage === 'dpo' ? ' pair' : ''}`, {
      params: { stage, found: counts.conversations, tooLong: counts.tooLong, limit: maxTokens },
      hint: 'DPO needs pairs of chosen and rejected answers. Raise the sequence length if conversations are too long.',
    })
  }
  const manifest: DatasetManifest = {
    format: 'moe-workbench-conversations', version: 1, recipe, sequencesPerInstance: stage === 'sft' ? 1 : 2,
    instances: { train: writers.train.count(), heldOut: writers.heldOut.count() }, ...counts, files,
  }
  writeFileSync(join(folder, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  return manifest
}

function damaged(folder: string, file: string): AppError {
  return new AppError('adaptation.damaged', `${join(folder, file)} is not what its manifest says`, { params: { file: join(folder, file) }, hint: 'Delete that folder: it is built again from the data.' })
}

/** Opens a built folder, every file read against its hash. Throws adaptation.damaged. */
export async function openDataset(folder: string): Promise<Dataset> {
  const text = readFileSync(join(folder, 'manifest.json'), 'utf8')
  const parsed = datasetManifestSchema.safeParse(JSON.parse(text))
  if (!parsed.success) throw damaged(folder, 'manifest.json')
  const manifest = parsed.data
  for (const [name, { sha256 }] of Object.entries(manifest.files)) {
    const found = createHash('sha256')
    for await (const chunk of createReadStream(join(folder, name), { highWaterMark: 1 << 20 })) found.update(chunk as Buffer)
    if (found.digest('hex') !== sha256) throw damaged(folder, name)
  }
  const opened = Object.fromEntries(datasetSplits.map((split) => [split, openSplit(folder, split)])) as Record<DatasetSplit, ReturnType<typeof openSplit>>
  return {
    manifest,
    hash: createHash('sha256').update(text).digest('hex'),
    read(split, instance) {
      const n = manifest.sequencesPerInstance
      const sequences = Array.from({ length: n }, (_, i) => opened[split].read(instance * n + i))
      return { sequences, desirable: sequences[0]!.desirable }
    },
    close: () => datasetSplits.forEach((split) => opened[split].close()),
  }
}

function openSplit(folder: string, split: DatasetSplit) {
  const bytes = readFileSync(join(folder, `${split}.index`))
  const lengths = Uint32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(i * 4))
  const starts = new Float64Array(lengths.length + 1)
  lengths.forEach((length, i) => (starts[i + 1] = starts[i]! + (length & ~flag)))
  const file = openSync(join(folder, `${split}.tokens`), 'r')
  return {
    read(i: number): Sequence & { desirable: boolean } {
      const tokens = new Uint32Array(starts[i + 1]! - starts[i]!)
      readSync(file, new Uint8Array(tokens.buffer), 0, tokens.byteLength, starts[i]! * 4)
      return { ids: Array.from(tokens, (token) => token & ~flag), loss: Array.from(tokens, (token) => token >= flag), desirable: lengths[i]! >= flag }
    },
    close: () => closeSync(file),
  }
}
