/** Reads the result files of analyses: what is there and fits its schema, or an error that says which file does not. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'

/** Throws analyses.noResult. */
export async function readResult<T>(folder: string, name: string, schema: { parse(value: unknown): T }): Promise<T> {
  const path = join(folder, name)
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    throw new AppError('analyses.noResult', `${path} cannot be used: ${error instanceof Error ? error.message : String(error)}`, { params: { file: path }, hint: 'Wait until the analysis is done; if it is, remove it and run it again.', cause: error })
  }
}
