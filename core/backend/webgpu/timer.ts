/** Time by kernel through timestamp queries: one pair per dispatch, resolved with each submit, summed when asked. */

const resolveQuery = 0x200
const [copySource, mapReadUsage, copyTarget, mapRead] = [4, 1, 8, 1]

export type Timer = {
  /** Where the next dispatch's pass writes its begin and end. */
  mark(label: string): GPUComputePassTimestampWrites
  /** Puts the marks since the last resolve into the encoder. */
  resolve(encoder: GPUCommandEncoder): void
  /** Nanoseconds by label so far; waits for the device. */
  totals(): Promise<Map<string, number>>
}

/** A submit holds at most `capacity` marks. */
export function createTimer(device: GPUDevice, capacity = 2048): Timer {
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * capacity })
  const sums = new Map<string, number>()
  const waiting: Promise<void>[] = []
  let labels: string[] = []
  return {
    mark(label) {
      if (labels.length >= capacity) throw new Error(`more than ${capacity} dispatches in one submit`)
      labels.push(label)
      return { querySet, beginningOfPassWriteIndex: 2 * labels.length - 2, endOfPassWriteIndex: 2 * labels.length - 1 }
    },
    resolve(encoder) {
      const own = labels
      labels = []
      if (own.length === 0) return
      const size = own.length * 16
      const resolved = device.createBuffer({ size, usage: resolveQuery | copySource })
      const target = device.createBuffer({ size, usage: mapReadUsage | copyTarget })
      encoder.resolveQuerySet(querySet, 0, 2 * own.length, resolved, 0)
      encoder.copyBufferToBuffer(resolved, 0, target, 0, size)
      // Mapped once the submit that follows is under way.
      waiting.push(Promise.resolve().then(async () => {
        await target.mapAsync(mapRead)
        const times = new BigUint64Array(target.getMappedRange())
        own.forEach((label, i) => sums.set(label, (sums.get(label) ?? 0) + Math.max(0, Number(times[2 * i + 1]! - times[2 * i]!))))
        target.destroy()
        resolved.destroy()
      }))
    },
    async totals() {
      await Promise.all(waiting.splice(0))
      return new Map(sums)
    },
  }
}
