/** A thread that encodes its pieces when told, with a tokenizer made for that round: its cache is cold, as the peer's is. */
import { parentPort, workerData } from 'node:worker_threads'
import { createTokenizer } from '#core/data/tokenizer.ts'

const { json, pieces } = workerData as { json: unknown; pieces: string[] }
let tokenizer = createTokenizer(json)
parentPort!.on('message', () => {
  let ids = 0
  for (const piece of pieces) ids += tokenizer.encode(piece, { special: 'text' }).length
  parentPort!.postMessage(ids)
  tokenizer = createTokenizer(json)
})
