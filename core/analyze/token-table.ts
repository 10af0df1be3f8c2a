/**
 * How often each expert served each token id, one table per layer: E counts for every id of the vocabulary, exact, in 1 byte where a count
 * stays below 256 and in 2 where it does not (the rare count of 65 536 and more goes to a map). A row of the low bytes is one cache line for
 * 64 experts, so counting costs one miss per token. Pages that no id touches cost nothing.
 */
const blockRows = 256

export type TokenTable = {
  /** Counts one more use of `expert` for `id`. */
  add(id: number, expert: number): void
  /** The counts of `id` into `row` [E]. */
  read(id: number, row: Float64Array): void
  /** Bytes taken so far. */
  bytes(): number
}

/** Most bytes that `layers` tables can take after `tokens` tokens with `perToken` experts each, whatever the routing. */
export function tokenTableBound(layers: number, vocabulary: number, experts: number, tokens: number, perToken: number): number {
  const promoted = Math.min(vocabulary, Math.floor(tokens / 256)) + blockRows
  const huge = Math.floor((tokens * perToken) / 65_536)
  return layers * (vocabulary * experts + 4 * vocabulary + promoted * experts + 64 * huge)
}

/** An empty table of one layer. */
export function createTokenTable(vocabulary: number, experts: number): TokenTable {
  const low = new Uint8Array(vocabulary * experts)
  /** Where the high bytes of an id are: 1-based; 0 = it has none. */
  const place = new Int32Array(vocabulary)
  const blocks: Uint8Array[] = []
  const huge = new Map<number, number>()
  let rows = 0

  function carry(id: number, expert: number): void {
    if (place[id] === 0) {
      if (rows % blockRows === 0) blocks.push(new Uint8Array(blockRows * experts))
      place[id] = ++rows
    }
    const row = place[id]! - 1
    const block = blocks[Math.floor(row / blockRows)]!
    const at = (row % blockRows) * experts + expert
    if ((block[at] = (block[at]! + 1) & 255) === 0) huge.set(id * experts + expert, (huge.get(id * experts + expert) ?? 0) + 1)
  }

  return {
    add(id, expert) {
      const at = id * experts + expert
      if ((low[at] = (low[at]! + 1) & 255) === 0) carry(id, expert)
    },
    read(id, into) {
      const from = id * experts
      for (let e = 0; e < experts; e++) into[e] = low[from + e]!
      if (place[id] === 0) return
      const row = place[id]! - 1
      const block = blocks[Math.floor(row / blockRows)]!
      for (let e = 0; e < experts; e++) into[e]! += block[(row % blockRows) * experts + e]! * 256 + (huge.get(from + e) ?? 0) * 65_536
    },
    bytes: () => low.length + 4 * vocabulary + blocks.length * blockRows * experts + 64 * huge.size,
  }
}
