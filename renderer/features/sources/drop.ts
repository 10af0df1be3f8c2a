/**
 * What was dropped or chosen, as groups that become one source each: every folder one, all loose files together one. Where a shell
 * tells the paths of files they are taken where they lie; a browser tells none, so there the files themselves are sent.
 */
export type LocalFile = { path: string; file: File }
export type DroppedGroup = { name: string; files: LocalFile[] } | { name: string; paths: string[] }

/** What the desktop shell's preload adds to the page. */
declare global {
  // A global of the page is declared by an interface of its name only.
  // eslint-disable-next-line @typescript-eslint/consistent-type-definitions
  interface Window {
    moeShell?: { pathOf(file: File): string }
  }
}

const isLeftOut = (name: string): boolean => name.startsWith('.') || name === 'node_modules'

function listEntries(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader()
  return new Promise((resolve, reject) => {
    const all: FileSystemEntry[] = []
    // A reader gives a hundred at a time, and none at its end.
    const next = (): void => reader.readEntries((some) => (some.length === 0 ? resolve(all) : (all.push(...some), next())), reject)
    next()
  })
}

async function filesIn(entry: FileSystemEntry, prefix: string): Promise<LocalFile[]> {
  if (isLeftOut(entry.name)) return []
  const path = prefix + entry.name
  if (entry.isFile) return [{ path, file: await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)) }]
  const found: LocalFile[] = []
  for (const inner of await listEntries(entry as FileSystemDirectoryEntry)) found.push(...(await filesIn(inner, `${path}/`)))
  return found
}

/** The groups of a drop. */
export async function readDrop(transfer: DataTransfer): Promise<DroppedGroup[]> {
  // Both must be read before the first wait: the browser forgets them after the event.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null)
  const files = [...transfer.files]
  const shell = window.moeShell
  if (shell) return groupPaths(files.map((file) => ({ path: shell.pathOf(file), isFolder: entries.some((entry) => entry.isDirectory && entry.name === file.name) })))
  const groups: DroppedGroup[] = []
  const loose: LocalFile[] = []
  for (const entry of entries) {
    const found = await filesIn(entry, '')
    if (entry.isDirectory && found.length > 0) groups.push({ name: entry.name, files: found })
    else loose.push(...found)
  }
  if (loose.length > 0) groups.push({ name: loose[0]!.path, files: loose })
  return groups
}

function groupPaths(found: { path: string; isFolder: boolean }[]): DroppedGroup[] {
  const loose = found.filter(({ isFolder }) => !isFolder).map(({ path }) => path)
  const folders = found.filter(({ isFolder }) => isFolder).map(({ path }) => ({ name: path, paths: [path] }))
  return loose.length > 0 ? [...folders, { name: loose[0]!, paths: loose }] : folders
}

/** The group of files that were chosen in a dialog of the browser, a folder's or single ones. */
export function readChosen(list: FileList): DroppedGroup[] {
  const all = [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }))
  const files = all.filter(({ path }) => !path.split('/').some(isLeftOut))
  return files.length === 0 ? [] : [{ name: files[0]!.path.split('/')[0]!, files }]
}
