/** `moe tokenizer train|encode`: a byte-level BPE tokenizer.json from files, and the ids of texts under any such file. */
import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { openSource } from '#core/data/readers/source.ts'
import { loadTokenizer, serializeTokenizer } from '#core/data/tokenizer.ts'
import { trainOnSources } from '#core/runner/build-mix.ts'
import { sourceFrom } from './data.ts'
import { numberOption, requiredOption, UsageError, type Command } from './command.ts'

type Trained = { out: string; vocabularySize: number; hash: string; seconds: number }

export const tokenizerTrain: Command = {
  name: 'tokenizer train',
  summary: 'train a byte-level BPE tokenizer on files',
  usage: '<file, folder or pattern …> --out tokenizer.json [--vocabulary n --sample-bytes n]',
  options: { out: { type: 'string' }, vocabulary: { type: 'string' }, 'sample-bytes': { type: 'string' }, text: { type: 'string' } },
  help: { out: 'the file to write', vocabulary: 'tokens of all kinds together (default 16384)', 'sample-bytes': 'text to train on, spread over all files (default: 20,000,000)', text: 'field with the text (default: found by looking)' },
  async run({ values, positionals }, context): Promise<Trained> {
    const out = resolve(requiredOption(values, 'out'))
    const startedAt = performance.now()
    const { source } = await openSource(sourceFrom(values, positionals, 'texts'), process.cwd())
    const vocabularySize = numberOption(values, 'vocabulary', 16_384, { min: 258, integer: true })
    const sampleBytes = numberOption(values, 'sample-bytes', 20_000_000, { min: 1000, integer: true })
    const tokenizer = await trainOnSources([source], { vocabularySize, sampleBytes }, (_, done, total) => context.progress(`${done} of ${total} merges`))
    writeFileSync(out, serializeTokenizer(tokenizer))
    return { out, vocabularySize: tokenizer.vocabularySize, hash: tokenizer.hash, seconds: (performance.now() - startedAt) / 1000 }
  },
  words: (r: Trained) => `${r.out}: ${r.vocabularySize} tokens, ${r.seconds.toFixed(1)} s`,
}

type Encoded = { tokens: number; bytes: number; documents: { id: string; ids: number[] }[] }

export const tokenizerEncode: Command = {
  name: 'tokenizer encode',
  summary: 'the ids of a text or of the documents of files',
  usage: '--tokenizer tokenizer.json (--text TEXT | <file …>)',
  options: { tokenizer: { type: 'string' }, text: { type: 'string' } },
  help: { tokenizer: 'a byte-level BPE tokenizer.json', text: 'a text given outright; special tokens in it are read as such' },
  async run({ values, positionals }): Promise<Encoded> {
    const tokenizer = loadTokenizer(requiredOption(values, 'tokenizer'))
    if ((values.text === undefined) === (positionals.length === 0)) throw new UsageError('give --text or files')
    const result: Encoded = { tokens: 0, bytes: 0, documents: [] }
    const add = (id: string, text: string, special: 'token' | 'text'): void => {
      const ids = [...tokenizer.encode(text, { special })]
      result.documents.push({ id, ids })
      result.tokens += ids.length
      result.bytes += Buffer.byteLength(text)
    }
    if (typeof values.text === 'string') add('text', values.text, 'token')
    else for await (const { id, text } of (await openSource(sourceFrom({}, positionals, 'texts'), process.cwd())).source.documents()) add(id, text, 'text')
    return result
  },
  words: ({ documents, tokens, bytes }: Encoded) => `${documents.map(({ id, ids }) => `${id}: ${ids.join(' ')}`).join('\n')}\n${tokens} tokens, ${(bytes / Math.max(1, tokens)).toFixed(2)} bytes per token`,
}
