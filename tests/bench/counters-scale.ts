/**
 * The counters alone at the published shape: 16 layers × 64 experts × 50,304 tokens of vocabulary, fed with made-up routes (a token prefers
 * experts of its own, ids as common as in text). What is measured is memory, and the time to count a token.
 */
import { countersBound, createCounters, type Observed, type Shape } from '#core/analyze/counters.ts'
import { createRandom } from '#core/shared/random.ts'

export const publishedShape: Shape = { layers: 16, experts: 64, topK: 8, vocabulary: 50_304 }
const [batchTokens, sequence] = [2048, 256]
export const domains = ['web', 'code', 'papers', 'books', 'encyclopedia']

/** Routes of the next batch into `seen`: K different experts that follow from the id, sometimes moved by one. */
function fill(seen: Observed, shape: Shape, random: ReturnType<typeof createRandom>): void {
  const { layers: L, experts: E, topK: K, vocabulary: V } = shape
  for (let t = 0; t < batchTokens; t++) {
    seen.ids[t] = Math.floor(V * random.nextFloat() ** 4)
    seen.predicted[t] = Math.floor(V * random.nextFloat() ** 4)
  }
  for (let t = 0; t < batchTokens; t++) seen.targets[t] = (t + 1) % sequence === 0 ? -1 : seen.ids[t + 1]!
  for (let layer = 0; layer < L; layer++) {
    const moved = random.nextBelow(E)
    for (let t = 0; t < batchTokens; t++) {
      const first = (seen.ids[t]! * 2_654_435 + layer * 17 + (t % 7 === 0 ? moved : 0)) % E
      for (let j = 0; j < K; j++) seen.experts[layer]![t * K + j] = (first + 5 * j) % E
    }
  }
}

export type Scale = { tokens: number; boundBytes: number; boundOfTenMillion: number; takenBytes: number; residentBytes: number; microsecondsPerToken: number }

/** Counts about `tokens` made-up tokens. */
export function measureCounters(tokens: number, shape: Shape = publishedShape): Scale {
  const { layers: L, experts: E, topK: K } = shape
  const random = createRandom(1, 'bench/counters')
  const floats = (width: number): Float32Array[] => Array.from({ length: L }, () => Float32Array.from({ length: batchTokens * width }, () => random.nextFloat() / 4))
  const seen: Observed = { ids: new Int32Array(batchTokens), targets: new Int32Array(batchTokens), predicted: new Int32Array(batchTokens), loss: new Float32Array(batchTokens).fill(2), experts: Array.from({ length: L }, () => new Int32Array(batchTokens * K)), gate: floats(K), logits: floats(E) }
  const before = process.memoryUsage()
  const counters = createCounters(shape, domains)
  const batches = Math.ceil(tokens / batchTokens)
  let countingMs = 0
  for (let batch = 0; batch < batches; batch++) {
    fill(seen, shape, random)
    const domain = batch % domains.length
    const startedAt = performance.now()
    counters.add(seen, Array.from({ length: batchTokens / sequence }, (_, i) => ({ from: i * sequence, to: (i + 1) * sequence, domain })))
    countingMs += performance.now() - startedAt
  }
  const after = process.memoryUsage()
  const counted = counters.total()
  return {
    tokens: counted,
    boundBytes: countersBound(shape, counted, domains.length),
    boundOfTenMillion: countersBound(shape, 10_000_000, domains.length),
    takenBytes: after.arrayBuffers - before.arrayBuffers,
    residentBytes: after.rss - before.rss,
    microsecondsPerToken: (countingMs * 1000) / counted,
  }
}
