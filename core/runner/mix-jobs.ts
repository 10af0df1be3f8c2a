/** Jobs on mixes of files: building one, and showing beforehand what its filters would drop. */
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { neededBytes } from '#core/data/build/build.ts'
import { fate, selectDocuments, type Selection } from '#core/data/build/select.ts'
import { openShards } from '#core/data/build/shard.ts'
import { tokenizeSources, type ReadSource } from '#core/data/build/tokenize.ts'
import { mixRow } from '#core/data/mix-manifest.ts'
import { createPause } from '#core/data/pause.ts'
import { baseOf, expectedTextBytes } from '#core/data/readers/files.ts'
import { openSource, type FileSource } from '#core/data/readers/source.ts'
import { tokenBytesFor } from '#core/data/token-writer.ts'
import { loadTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import type { FilterPreview } from '#core/shared/builds.ts'
import type { Dropped } from '#core/shared/filters.ts'
import type { Job, JobPaths } from '#core/shared/jobs.ts'
import type { MixSpec } from '#core/shared/mixes.ts'
import { buildMixOf } from './build-mix.ts'
import type { JobContext } from './context.ts'
import { readEvaluationTexts } from './evaluation-texts.ts'
import { phaseSender, stopSignal, untilStopped } from './progress.ts'

type JobOf<K extends Job['kind']> = Extract<Job, { kind: K }>

/** What a preview reads of each source. */
const sampledDocuments = 300
const sampledBytes = 1_000_000
/** Documents that are shown of each source: the first ones, and the first that are dropped. */
const shownDocuments = 30
const shownCharacters = 600
/** Vocabulary of the tokenizer that stands in for one that is not trained yet. */
const standInVocabulary = 2048

export function runBuildMixJob({ spec, paths, textBytes }: JobOf<'buildMix'>, context: JobContext): Promise<'done' | 'stopped'> {
  const signal = stopSignal(context)
  const phase = phaseSender(context)
  return untilStopped(async () => {
    const manifest = await buildMixOf(spec, null, paths, {
      signal,
      textBytes,
      onProgress(name, done, total, unit) {
        signal.throwIfAborted()
        phase(name, done, name === 'tokenize' && total === null && textBytes !== null ? Math.max(done, textBytes) : total, unit)
      },
    })
    context.send({ type: 'mix', mix: mixRow(manifest, spec.name, Date.now()) })
  })
}

type Sampled = FileSource & { isWhole(): boolean }

/** A source that ends after its first documents. */
function firstDocuments(source: FileSource): Sampled {
  let isWhole = false
  return {
    ...source,
    isWhole: () => isWhole,
    async *documents(onBadRow, onRead) {
      let [count, bytes] = [0, 0]
      isWhole = false
      for await (const document of source.documents(onBadRow, onRead)) {
        if (count >= sampledDocuments || bytes >= sampledBytes) return
        count++
        bytes += Buffer.byteLength(document.text)
        yield document
      }
      isWhole = true
    },
  }
}

async function* textsOf(sources: readonly FileSource[]): AsyncGenerator<string> {
  for (const source of sources) for await (const { text } of source.documents()) yield text
}

type Shown = FilterPreview['sources'][number]['shown']

/** What a comparison with other documents drops has no verdict in its shard: the reason is with the examples, or at least the filter is known. */
function comparisonIn(dropped: readonly Dropped[]): (id: string) => Shown[number]['dropped'] {
  const comparing = dropped.filter(({ filter }) => ['exact', 'near', 'contamination'].includes(filter))
  return (id) => {
    for (const { filter, examples } of comparing) {
      const example = examples.find((one) => one.id === id)
      if (example) return { filter, why: example.why }
    }
    return { filter: comparing.length === 1 ? comparing[0]!.filter : null, why: '' }
  }
}

function shownOf({ shards }: ReadSource, folder: string, tokenizer: Tokenizer, selection: Selection, dropped: readonly Dropped[]): Shown {
  const comparison = comparisonIn(dropped)
  const shown: Shown = []
  const counts: [kept: number, dropped: number] = [0, 0]
  for (const shard of openShards(folder, shards)) {
    for (const [i, document] of shard.documents.entries()) {
      const isDropped = selection.fates.get(shard.name)![i] === fate.dropped
      if (counts[isDropped ? 1 : 0]++ >= shownDocuments) continue
      const text = tokenizer.decode(shard.idsOf(document).subarray(0, shownCharacters)).slice(0, shownCharacters)
      shown.push({ id: document.id, text, tokens: document.tokens, dropped: isDropped ? (document.verdict ?? comparison(document.id)) : null })
    }
  }
  return shown
}

/** Puts a few documents of each source through the very code of a build, in a folder of its own. */
export async function previewFilters(spec: MixSpec, paths: JobPaths, textBytes: number | null = null, signal?: AbortSignal): Promise<FilterPreview> {
  const opened: FileSource[] = []
  for (const source of spec.sources) opened.push((await openSource(source, baseOf(source.paths))).source)
  const sources = opened.map(firstDocuments)
  const tokenizer = spec.tokenizer === null ? await trainTokenizer(textsOf(sources), { vocabularySize: Math.min(standInVocabulary, spec.vocabularySize) }) : loadTokenizer(resolve('/', spec.tokenizer))
  const { evaluationTexts, comparedTasks } = readEvaluationTexts(spec.filters, '/', paths)
  const folder = mkdtempSync(join(tmpdir(), 'moe-preview-'))
  try {
    const read = await tokenizeSources(sources, tokenizer, spec.filters, folder, { threads: 1, signal })
    const work = { read, folder, tokenizer, filters: spec.filters, split: spec.heldOut, threads: 1, pause: createPause(signal), onProgress: () => undefined }
    const selection = await selectDocuments(work, evaluationTexts)
    const { bavail, bsize } = statfsSync(paths.library)
    return {
      tokenizer: spec.tokenizer === null ? 'sampled' : 'chosen',
      sources: read.map((one, i) => {
        const tokens = [...openShards(folder, one.shards)].reduce((sum, shard) => sum + shard.tokens, 0)
        const dropped = selection.dropped[i]!
        return {
          name: one.source.name,
          documents: one.documents,
          isWhole: sources[i]!.isWhole(),
          tokens,
          bytes: one.bytes,
          keptTokens: tokens - dropped.reduce((sum, filter) => sum + filter.tokens, 0),
          dropped,
          shown: shownOf(one, folder, tokenizer, selection, dropped),
        }
      }),
      comparedTasks,
      neededBytes: neededBytes(textBytes ?? expectedTextBytes(opened.flatMap(({ found }) => found.files)), tokenBytesFor(spec.vocabularySize), spec.filters),
      freeBytes: bavail * bsize,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export function runPreviewFiltersJob({ spec, paths, textBytes }: JobOf<'previewFilters'>, context: JobContext): Promise<'done' | 'stopped'> {
  const signal = stopSignal(context)
  return untilStopped(async () => context.send({ type: 'filterPreview', preview: await previewFilters(spec, paths, textBytes, signal) }))
}
