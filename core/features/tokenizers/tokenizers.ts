/** Calls on tokenizers. */
import { basename, dirname } from 'node:path'
import { createTokenizer, loadTokenizer } from '#core/data/tokenizer.ts'
import { AppError } from '#core/shared/errors.ts'
import { api } from '../api.ts'
import { openPath } from '../sources/paths.ts'
import { keepTokenizer, listTokenizers } from './files.ts'

const largestBytes = 64 << 20

export const tokenizersRouter = api.tokenizers.router({
  list: api.tokenizers.list.handler(({ context }) => listTokenizers(context.host)),

  load: api.tokenizers.load.handler(async ({ input, context: { host } }) => {
    if ('path' in input) {
      const path = await openPath(input.path, host.libraryPath)
      // A tokenizer.json says nothing of itself: its folder does.
      const name = /^tokenizer(\.json)?$/i.test(basename(path)) ? basename(dirname(path)) : basename(path)
      return keepTokenizer(host, name, loadTokenizer(path))
    }
    if (input.data.size > largestBytes) throw new AppError('tokenizers.tooLarge', `found ${input.data.size} bytes, expected at most ${largestBytes}`, { params: { found: input.data.size, expected: largestBytes }, hint: 'Is it a tokenizer.json?' })
    return keepTokenizer(host, input.name, createTokenizer(parseJson(await input.data.arrayBuffer(), input.name), input.name))
  }),
})

function parseJson(data: ArrayBuffer, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(data))
  } catch (error) {
    throw new AppError('file.notJson', `${name} is not JSON: ${(error as Error).message}`, { params: { file: name }, hint: 'Choose a tokenizer.json.', cause: error })
  }
}
