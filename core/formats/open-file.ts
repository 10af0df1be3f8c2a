/** Opening a file that the user named: what the system refuses is theirs to solve, and says so. */
import { openSync } from 'node:fs'
import { AppError } from '#core/shared/errors.ts'

/** A descriptor to read from; the caller closes it. Throws AppError `file.unreadable`. */
export function openForReading(path: string): number {
  try {
    return openSync(path, 'r')
  } catch (error) {
    throw new AppError('file.unreadable', `${path} cannot be read`, { params: { file: path }, hint: 'Check the path and its permissions.', cause: error })
  }
}
