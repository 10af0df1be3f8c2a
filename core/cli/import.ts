/** `moe import`: a model made elsewhere, or a bundle, becomes a checkpoint of the library. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { importRequestSchema, repositoryPattern, type ImportResult } from '#core/shared/exchange.ts'
import { UsageError, type Command } from './command.ts'
import { withCore } from './core.ts'
import { followTransfer } from './transfer.ts'

type Result = ImportResult & { seconds: number }

export const importCommand: Command = {
  name: 'import',
  summary: 'a Hugging Face folder, a GGUF file, a bundle or a model of the hub, as a checkpoint of the library',
  usage: '<folder | file.gguf | owner/name> [--type keep|bf16|q8|q4] [--name N] [--revision R]',
  options: { type: { type: 'string' }, name: { type: 'string' }, revision: { type: 'string' } },
  help: { type: 'keep (default): as it came; bf16, q8 or q4: packed while importing', name: 'what it is called in the library', revision: 'of a repository: branch, tag or commit (default main); the hub is HF_ENDPOINT, the token HF_TOKEN' },
  async run({ values, positionals }, context): Promise<Result> {
    const [from] = positionals
    if (from === undefined || positionals.length > 1) throw new UsageError('give one folder, file or repository')
    const isRepository = !existsSync(from) && repositoryPattern.test(from)
    const parsed = importRequestSchema.safeParse({ from: isRepository ? from : resolve(from), isRepository, type: values.type, name: values.name, revision: values.revision })
    if (!parsed.success) throw new UsageError(`--${parsed.error.issues[0]!.path.join('.')}: ${parsed.error.issues[0]!.message}`)
    const startedAt = performance.now()
    return withCore(context, async (core) => {
      const transfer = await followTransfer(core, () => core.client.exchange.import(parsed.data), context)
      if (transfer.kind !== 'import' || transfer.result === null) throw new Error('an import that is done has its result')
      return { ...transfer.result, seconds: (performance.now() - startedAt) / 1000 }
    })
  },
  words: ({ checkpointId, files, sizeBytes, seconds }: Result) =>
    [...Object.entries(files).map(([name, { sizeBytes: bytes, sha256 }]) => `${name}: ${bytes} bytes, sha256 ${sha256}`), `checkpoint ${checkpointId}: ${(sizeBytes / 2 ** 20).toFixed(1)} MiB, ${seconds.toFixed(1)} s`].join('\n'),
}
