/**
 * The one random generator: xoshiro128** (Blackman and Vigna, 2018), seeded through splitmix32 from a seed and a stream name,
 * so that independent uses of one seed never share numbers. Its whole state is four 32-bit words, saved with a checkpoint.
 */

export type Random = {
  /** Uniform integer in [0, 2³²). */
  nextUint32(): number
  /** Uniform in [0, 1), 32 bits of it. */
  nextFloat(): number
  /** Uniform integer in [0, bound), bound ≤ 2³²; unbiased. */
  nextBelow(bound: number): number
  /** Standard normal (Box–Muller, one of the pair). */
  nextNormal(): number
  /** Fills `values` with deviation·nextNormal(), numbers beyond `limit` deviations drawn again: the same as call by call, several million times. */
  fillNormal(values: Float32Array, deviation: number, limit: number): void
  /** The four state words. */
  state(): number[]
}

const rotateLeft = (x: number, k: number): number => (x << k) | (x >>> (32 - k))

/** Four seed words from a seed and a stream name. */
function seedWords(seed: number, stream: string): number[] {
  let x = (seed ^ 0x9e3779b9) >>> 0
  for (let i = 0; i < stream.length; i++) x = Math.imul(x ^ stream.charCodeAt(i), 0x01000193) >>> 0
  x = (x ^ Math.floor(seed / 2 ** 32)) >>> 0
  return Array.from({ length: 4 }, () => {
    x = (x + 0x9e3779b9) >>> 0
    let z = x
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  })
}

/** A generator that starts from four state words (not all zero). */
export function randomFromState(words: readonly number[]): Random {
  let [a = 1, b = 0, c = 0, d = 0] = words
  const nextUint32 = (): number => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0
    const t = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = rotateLeft(d, 11)
    return result
  }
  const nextFloat = (): number => nextUint32() / 2 ** 32
  return {
    nextUint32,
    nextFloat,
    nextBelow(bound: number): number {
      const limit = 2 ** 32 - (2 ** 32 % bound)
      let x = nextUint32()
      while (x >= limit) x = nextUint32()
      return x % bound
    },
    nextNormal(): number {
      const radius = Math.sqrt(-2 * Math.log(1 - nextFloat()))
      return radius * Math.cos(2 * Math.PI * nextFloat())
    },
    fillNormal(values: Float32Array, deviation: number, limit: number): void {
      // A state in variables of its own stays in registers; the closure's would be an object for every number.
      let [p, q, r, s] = [a | 0, b | 0, c | 0, d | 0]
      const next = (): number => {
        const m = Math.imul(q, 5)
        const result = Math.imul((m << 7) | (m >>> 25), 9) >>> 0
        const t = q << 9
        r ^= p
        s ^= q
        q ^= r
        p ^= s
        r ^= t
        s = (s << 11) | (s >>> 21)
        return result / 2 ** 32
      }
      for (let i = 0; i < values.length; ) {
        const radius = Math.sqrt(-2 * Math.log(1 - next()))
        const x = radius * Math.cos(2 * Math.PI * next())
        if (Math.abs(x) <= limit) values[i++] = x * deviation
      }
      ;[a, b, c, d] = [p, q, r, s]
    },
    state: () => [a >>> 0, b >>> 0, c >>> 0, d >>> 0],
  }
}

/** The generator of one stream of a seed. Equal arguments give equal numbers, on every machine. */
export function createRandom(seed: number, stream: string): Random {
  return randomFromState(seedWords(seed, stream))
}

/** 0..count−1 in a random order (Fisher–Yates). */
export function permutation(count: number, random: Random): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i)
  for (let i = count - 1; i > 0; i--) {
    const j = random.nextBelow(i + 1)
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  return order
}
