/** A worker thread that makes shards, one at a time. It knows its tokenizer and filters from the start. */
import { parentPort, workerData } from 'node:worker_threads'
import { toErrorData } from '#core/shared/errors.ts'
import type { FilterSettings } from '#core/shared/filters.ts'
import { createTokenizer } from '../tokenizer.ts'
import { buildShard, type ShardTask } from './shard.ts'

const { folder, tokenizerJson, filters } = workerData as { folder: string; tokenizerJson: unknown; filters: FilterSettings }
const tokenizer = createTokenizer(tokenizerJson)

parentPort!.on('message', (task: ShardTask) => {
  try {
    buildShard(task, folder, tokenizer, filters)
    parentPort!.postMessage({ error: null })
  } catch (error) {
    const full = (error as NodeJS.ErrnoException).code === 'ENOSPC'
    parentPort!.postMessage({ error: full ? { code: 'disk.full', message: `the disk is full: ${folder} cannot take more`, params: { file: folder }, hint: 'Free some space and build again; what was made is kept.' } : toErrorData(error) })
  }
})
