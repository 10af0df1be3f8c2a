/** The sources of the library, kept current by one stream; uploads under way with their progress. */
import { defineStore } from 'pinia'
import { computed, reactive, ref } from 'vue'
import { sourceNameOf, type DownloadRequest, type LibrarySource, type SourceChange, type SourceEvent } from '#core/shared/sources.ts'
import { api, follow } from '#renderer/client.ts'
import { told } from '#renderer/features/runs/store.ts'
import type { DroppedGroup, LocalFile } from './drop.ts'

export type Upload = { key: number; name: string; sentBytes: number; totalBytes: number; isCancelled: boolean }

let nextKey = 0

export const useSources = defineStore('sources', () => {
  const byId = ref(new Map<string, LibrarySource>())
  const loaded = ref(false)
  const uploads = ref<Upload[]>([])
  const all = computed(() => [...byId.value.values()])
  let isStarted = false

  function apply(event: SourceEvent): void {
    if (event.type === 'source') byId.value.set(event.source.id, event.source)
    else byId.value.delete(event.id)
  }

  async function load(): Promise<void> {
    const sources = await told(api.sources.list())
    byId.value = new Map(sources.map((source) => [source.id, source]))
    loaded.value = true
  }

  /** Follows the sources from the first page on that shows any. */
  function need(): void {
    if (isStarted) return
    isStarted = true
    follow((signal) => api.sources.watch(undefined, { signal }), { start: () => load().catch(() => {}), event: apply })
  }

  const put = (source: LibrarySource): LibrarySource => (byId.value.set(source.id, source), source)
  const addPaths = async (paths: string[]) => put(await told(api.sources.add({ paths })))
  const addSample = async () => (await told(api.sources.addSample())).map(put)
  const download = async (request: DownloadRequest, name?: string, licence?: string) => put(await api.sources.download({ request, name, licence }))
  const update = async (id: string, change: SourceChange) => put(await told(api.sources.update({ id, change })))
  const look = async (id: string) => put(await told(api.sources.look({ id })))
  const resume = async (id: string) => put(await told(api.sources.resume({ id })))
  const stop = async (id: string) => put(await told(api.sources.stop({ id })))
  async function remove(id: string): Promise<number> {
    const { freedBytes } = await told(api.sources.remove({ id }))
    byId.value.delete(id)
    return freedBytes
  }

  /** Takes what was dropped; the sources that come of it. */
  async function addDropped(groups: DroppedGroup[]): Promise<LibrarySource[]> {
    const added: LibrarySource[] = []
    for (const group of groups) {
      const source = 'paths' in group ? await addPaths(group.paths) : await upload(group.name, group.files)
      if (source) added.push(source)
    }
    return added
  }

  async function upload(name: string, files: LocalFile[]): Promise<LibrarySource | null> {
    const state = reactive<Upload>({ key: nextKey++, name, sentBytes: 0, totalBytes: files.reduce((sum, { file }) => sum + file.size, 0), isCancelled: false })
    uploads.value.push(state)
    try {
      const begun = await told(api.sources.beginUpload({ sizeBytes: state.totalBytes }))
      const isSent = await sendAll(files, begun, state)
      if (isSent) return put(await told(api.sources.endUpload({ uploadId: begun.uploadId, name: sourceNameOf(name) })))
      await api.sources.cancelUpload({ uploadId: begun.uploadId })
      return null
    } finally {
      uploads.value = uploads.value.filter(({ key }) => key !== state.key)
    }
  }

  return { byId, all, loaded, uploads, need, addPaths, addDropped, addSample, download, update, look, resume, stop, remove }
})

/** Sends every file piece by piece; false when it was cancelled. */
async function sendAll(files: LocalFile[], { uploadId, pieceBytes }: { uploadId: string; pieceBytes: number }, state: Upload): Promise<boolean> {
  for (const { path, file } of files) {
    for (let offset = 0; offset === 0 || offset < file.size; offset += pieceBytes) {
      if (state.isCancelled) return false
      const data = file.slice(offset, offset + pieceBytes)
      await told(api.sources.upload({ uploadId, file: path, offset, data, isLast: offset + pieceBytes >= file.size }))
      state.sentBytes += data.size
    }
  }
  return true
}
