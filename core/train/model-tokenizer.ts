/**
 * The tokenizer and the chat template of a model, from whatever the model lies in: files beside the weights of a folder, or keys of a GGUF
 * file. A tokenizer that names rows the model does not have is refused: it belongs to another one.
 */
import { copyFileSync, existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createTokenizer, loadTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { sha256File, writeFileAtomic, type WrittenFile } from '#core/formats/atomic.ts'
import { openGguf, type GgufFile } from '#core/formats/gguf-read.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { readGgufChatTemplate, readGgufTokenizer } from './gguf-model.ts'
import { isGgufPath } from './model-source.ts'

/** Files of a tokenizer and of how to talk to the model, taken over where they are. */
export const tokenizerFiles = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'generation_config.json', 'chat_template.jinja', 'chat_template.json'] as const

function withGguf<R>(path: string, read: (file: GgufFile) => R): R {
  const file = openGguf(path)
  try {
    return read(file)
  } finally {
    file.close()
  }
}

/** The tokenizer of a model folder or GGUF file; null for a folder that has none. Throws `tokenizer.invalid` or `model.invalid`. */
export function readModelTokenizer(path: string): Tokenizer | null {
  if (isGgufPath(path)) return withGguf(path, (file) => createTokenizer(readGgufTokenizer(file), path))
  const file = join(path, 'tokenizer.json')
  return existsSync(file) ? loadTokenizer(file) : null
}

/** The same for what cannot be without one. Throws `model.noTokenizer` and `model.vocabularyTooSmall`. */
export function requireTokenizer(path: string, config: ModelConfig): Tokenizer {
  const tokenizer = readModelTokenizer(path)
  if (tokenizer === null) throw new AppError('model.noTokenizer', `${path} has no tokenizer.json`, { params: { file: path }, hint: 'Put the model’s tokenizer.json beside its config.json.' })
  const { model, added_tokens: added } = tokenizer.json
  const id = [...Object.values(model.vocab), ...added.map((token) => token.id)].reduce((largest, one) => Math.max(largest, one), 0)
  if (id < config.vocab_size) return tokenizer
  throw new AppError('model.vocabularyTooSmall', `the tokenizer has id ${id}, the model ${config.vocab_size} rows`, { params: { id, rows: config.vocab_size }, hint: 'Use the tokenizer that the model was trained with.' })
}

/** The chat template of a model, or null. */
export function readChatTemplate(path: string): string | null {
  if (isGgufPath(path)) return withGguf(path, readGgufChatTemplate)
  const file = join(path, 'chat_template.jinja')
  if (existsSync(file)) return readFileSync(file, 'utf8')
  const configuration = join(path, 'tokenizer_config.json')
  if (!existsSync(configuration)) return null
  const template = (JSON.parse(readFileSync(configuration, 'utf8')) as { chat_template?: unknown }).chat_template
  return typeof template === 'string' ? template : null
}

/** Puts the tokenizer's files of a model into `folder`; those of a GGUF file are made of its keys. Gives what was written. */
export async function copyTokenizer(from: string, folder: string): Promise<Record<string, WrittenFile>> {
  const files: Record<string, WrittenFile> = {}
  if (isGgufPath(from)) {
    const template = readChatTemplate(from)
    files['tokenizer.json'] = await writeFileAtomic(join(folder, 'tokenizer.json'), [JSON.stringify(readModelTokenizer(from)!.json)])
    if (template !== null) files['chat_template.jinja'] = await writeFileAtomic(join(folder, 'chat_template.jinja'), [template])
    return files
  }
  for (const name of tokenizerFiles) {
    if (!existsSync(join(from, name))) continue
    copyFileSync(join(from, name), join(folder, name))
    files[name] = { sizeBytes: statSync(join(folder, name)).size, sha256: await sha256File(join(folder, name)) }
  }
  return files
}
