/** `moe data download`: a Hugging Face data set, or addresses, into a folder. Interrupted, the same command goes on. */
import { existsSync, statSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { downloadFile, type Downloaded } from '#core/data/download/download.ts'
import { defaultHub } from '#core/data/download/hugging-face.ts'
import { listDownloads } from '#core/runner/source-jobs.ts'
import { requiredOption, UsageError, type Command } from './command.ts'
import { onInterrupt } from './core.ts'

type Result = { folder: string; files: Downloaded[] }

export const dataDownload: Command = {
  name: 'data download',
  summary: 'a Hugging Face data set, or addresses, into a folder; goes on where it was interrupted',
  usage: '<owner/name | https://… …> --out <folder> [--revision R] [--mirror URL]',
  options: { out: { type: 'string' }, revision: { type: 'string' }, mirror: { type: 'string' } },
  help: { out: 'the folder for the files', revision: 'branch, tag or commit (default main)', mirror: `hub with the same addresses (default HF_ENDPOINT, else ${defaultHub}); the token is HF_TOKEN` },
  async run({ values, positionals }, context): Promise<Result> {
    const folder = resolve(requiredOption(values, 'out'))
    if (positionals.length === 0) throw new UsageError('give a data set or addresses')
    const token = process.env.HF_TOKEN || null
    const hub = String(values.mirror ?? process.env.HF_ENDPOINT ?? defaultHub)
    const stop = new AbortController()
    const release = onInterrupt(() => stop.abort(new UsageError('stopped; the same command goes on from here')))
    const files: Downloaded[] = []
    try {
      for (const given of positionals) {
        const isUrl = /^https?:\/\//.test(given)
        if (!isUrl && !/^[\w.-]+\/[\w.-]+$/.test(given)) throw new UsageError(`"${given}" is neither owner/name nor an address`)
        const request = { dataset: isUrl ? null : given, revision: String(values.revision ?? 'main'), urls: isUrl ? [given] : [] }
        const wanted = await listDownloads(request, folder, hub, token)
        for (const file of wanted) {
          const isThere = existsSync(file.path) && file.sizeBytes !== null && statSync(file.path).size === file.sizeBytes
          if (isThere) continue
          const onProgress = (bytes: number, total: number | null): void => context.progress(`${basename(file.path)}: ${bytes}${total === null ? '' : ` of ${total}`} bytes`)
          files.push(await downloadFile(file, { token: isUrl ? null : token, signal: stop.signal, onProgress }))
        }
      }
    } finally {
      release()
    }
    return { folder, files }
  },
  words: ({ folder, files }: Result) => [...files.map(({ path, sizeBytes, sha256 }) => `${path}: ${sizeBytes} bytes, sha256 ${sha256}`), `${files.length} new files in ${folder}`].join('\n'),
}
