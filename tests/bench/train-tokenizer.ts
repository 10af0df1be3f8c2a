/**
 * Rows of the benchmark on training a tokenizer, beside Hugging Face's Rust trainer on one thread and on all, merges compared. Its Python
 * package takes a vocabulary size; MOE_PYTHON (or python3) is asked for it. The npm package takes none and trains 30,000 tokens.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { BPE, byteLevelPreTokenizer, Tokenizer as RustTokenizer } from 'tokenizers'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { mergeParts } from '#core/data/tokenizer-json.ts'
import type { Tokenizer } from '#core/data/tokenizer.ts'
import type { DataRow } from './data.ts'
import { median, spreadOf } from './measure.ts'

const rounds = 3
const python = process.env.MOE_PYTHON ?? 'python3'

/** A peer trains on the text at `path`, on so many threads, into `out`; its seconds. */
type Peer = { name: string; vocabularySize: number; train(path: string, threads: number, out: string): number }

const npm: Peer = {
  name: 'npm’s Rust tokenizers',
  vocabularySize: 30_000,
  train(path, threads, out) {
    const rust = new RustTokenizer(BPE.empty())
    rust.setPreTokenizer(byteLevelPreTokenizer(false))
    process.env.TOKENIZERS_PARALLELISM = String(threads > 1)
    const startedAt = performance.now()
    rust.train([path])
    const seconds = (performance.now() - startedAt) / 1000
    rust.save(out)
    return seconds
  },
}
const pip: Peer = {
  name: 'Python’s Rust tokenizers',
  vocabularySize: 16_384,
  train: (path, threads, out) => Number(execFileSync(python, [join(import.meta.dirname, 'train-tokenizer.py'), path, '16384', String(threads), out], { encoding: 'utf8' })),
}

function hasPython(): boolean {
  try {
    execFileSync(python, ['-c', 'import tokenizers'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

type Model = { vocab: Record<string, number>; merges: (string | [string, string])[] }

/** How far the merges agree, in words. */
function agreement(theirs: Model, ours: Tokenizer): string {
  const merges = ours.json.model.merges.map((merge) => mergeParts(merge).join(' '))
  const differs = theirs.merges.findIndex((merge, i) => mergeParts(merge).join(' ') !== merges[i])
  return differs < 0 ? `all ${theirs.merges.length} merges the same` : `merges the same up to ${differs} of ${theirs.merges.length}`
}

async function rowOf(peer: Peer, threads: number, path: string, lines: string[], sizeBytes: number): Promise<DataRow> {
  const out = `${path}.json`
  const [ours, theirs]: [number[], number[]] = [[], []]
  let agrees = ''
  for (let round = 0; round < rounds; round++) {
    theirs.push(sizeBytes / 1e6 / peer.train(path, threads, out))
    const { model } = JSON.parse(readFileSync(out, 'utf8')) as { model: Model }
    // npm's has only the bytes that occur, ours all 256.
    const bytes = Object.keys(model.vocab).length - model.merges.length
    const startedAt = performance.now()
    const tokenizer = await trainTokenizer(lines, { vocabularySize: peer.vocabularySize + 256 - bytes, specialTokens: [], minimumCount: 0, threads: threads - 1 })
    ours.push(sizeBytes / 1e3 / (performance.now() - startedAt))
    agrees = agreement(model, tokenizer)
  }
  const name = `train ${peer.vocabularySize.toLocaleString('en')} tokens, ${threads} thread${threads > 1 ? 's' : ''}`
  return { name, value: median(ours), unit: 'MB/s', peer: `${peer.name} on as many (${median(theirs).toFixed(1)} MB/s), ${agrees}`, ratio: median(ours) / median(theirs), spread: spreadOf(ours) }
}

/** All rows; `path` holds the text. */
export async function trainRows(path: string): Promise<DataRow[]> {
  const text = readFileSync(path, 'utf8')
  // The peers read a file line by line.
  const lines = text.split(/(?<=\n)/)
  const rows: DataRow[] = []
  for (const peer of hasPython() ? [pip, npm] : [npm]) for (const threads of [1, availableParallelism()]) rows.push(await rowOf(peer, threads, path, lines, Buffer.byteLength(text)))
  return rows
}
