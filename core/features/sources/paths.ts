/**
 * Which places of the machine a page may name: those that the user of the core may read, without what is hidden (keys and settings lie
 * there) and without the system's own pseudo-files. The library itself is open, wherever it is. And folders as a page lists them.
 */
import { readdir, realpath, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { kindOf } from '#core/data/readers/files.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Folder } from '#core/shared/sources.ts'

const mostEntries = 2000
const systemFolders = process.platform === 'linux' ? ['/proc', '/sys', '/dev', '/run'] : []

const isInside = (path: string, folder: string): boolean => {
  const inner = relative(folder, path)
  return inner === '' || (!inner.startsWith('..') && !isAbsolute(inner))
}

/** The absolute form of a path that a page gives; "~" and relative ones start at the user's home. Throws source.closedPath. */
export async function openPath(given: string, libraryPath: string): Promise<string> {
  const path = resolve(homedir(), given.replace(/^~(?=$|[\\/])/, '.'))
  // A link must not lead to where its name could not.
  const real = await realpath(path).catch(() => path)
  for (const one of [path, real]) {
    const isHidden = one.split(sep).some((part) => part.startsWith('.'))
    if (isInside(one, libraryPath) || (!isHidden && !systemFolders.some((folder) => isInside(one, folder)))) continue
    throw new AppError('source.closedPath', `${given} is a hidden or system place`, { params: { file: given }, hint: 'Choose files outside of hidden and system folders, or copy them to such a place.' })
  }
  return path
}

/** Folders first, then files that can be a source. Throws source.closedPath and file.unreadable. */
export async function listFolder(given: string | null, libraryPath: string): Promise<Folder> {
  const path = await openPath(given ?? homedir(), libraryPath)
  const found = await readdir(path).catch((error: unknown) => {
    throw new AppError('file.unreadable', `${path} cannot be read`, { params: { file: path }, hint: 'Check the path and its permissions.', cause: error })
  })
  const entries: Folder['entries'] = []
  for (const name of found.filter((one) => !one.startsWith('.'))) {
    const at = join(path, name)
    const info = await stat(at).catch(() => null)
    if (info?.isDirectory()) entries.push({ name, path: at, isFolder: true, sizeBytes: 0 })
    else if (info?.isFile() && kindOf(name).format !== null) entries.push({ name, path: at, isFolder: false, sizeBytes: info.size })
  }
  entries.sort((a, b) => Number(b.isFolder) - Number(a.isFolder) || a.name.localeCompare(b.name))
  const parent = dirname(path)
  return { path, parent: parent === path ? null : parent, entries: entries.slice(0, mostEntries), isCut: entries.length > mostEntries }
}
