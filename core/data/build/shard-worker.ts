/** A worker thread of a build: makes shards, or looks for known text in finished ones. It knows its tokenizer and filters from the start. */
import { parentPort, workerData } from 'node:worker_threads'
import { toErrorData, type ErrorData } from '#core/shared/errors.ts'
import type { FilterSettings } from '#core/shared/filters.ts'
import type { TokenizerJson } from '../tokenizer-json.ts'
import { createTokenizer } from '../tokenizer.ts'
import { createScanner, type KnownNgrams, type ScanTask } from './contamination.ts'
import { buildShard, type ShardTask } from './shard.ts'

/** `known` where there is something to look for. */
export type ShardWorkerData = { folder: string; tokenizerJson: TokenizerJson; filters: FilterSettings; known?: KnownNgrams }
/** `result` is a scan's. */
export type ShardReply = { error: ErrorData | null; result: Uint8Array | null }

const { folder, tokenizerJson, filters, known } = workerData as ShardWorkerData
const tokenizer = createTokenizer(tokenizerJson)
const scan = known && filters.contamination ? createScanner(folder, tokenizer, known, filters.contamination) : null

parentPort!.on('message', (task: ShardTask | ScanTask) => {
  const reply = (error: ErrorData | null, result: Uint8Array | null = null): void => parentPort!.postMessage({ error, result } satisfies ShardReply)
  try {
    if (task.kind !== 'build') return reply(null, scan!(task))
    buildShard(task, folder, tokenizer, filters)
    reply(null)
  } catch (error) {
    const full = (error as NodeJS.ErrnoException).code === 'ENOSPC'
    reply(full ? { code: 'disk.full', message: `the disk is full: ${folder} cannot take more`, params: { file: folder }, hint: 'Free some space and build again; what was made is kept.' } : toErrorData(error))
  }
})
