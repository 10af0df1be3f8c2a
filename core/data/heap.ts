/**
 * A binary heap of (priority, value) pairs of numbers: lowest priority first, then lowest value, so that ties have one answer.
 * The encoder and the trainer of the tokenizer stand on it. It grows and never looks inside its values.
 */

export type Heap = {
  readonly size: number
  push(priority: number, value: number): void
  /** Removes the first pair; read it from `priority` and `value`. False when the heap is empty. */
  pop(): boolean
  /** The pair that the last pop removed. */
  readonly priority: number
  readonly value: number
  clear(): void
}

/** An empty heap. */
export function createHeap(): Heap {
  let priorities = new Float64Array(64)
  let values = new Float64Array(64)
  let size = 0
  let [topPriority, topValue] = [0, 0]

  const grow = (): void => {
    const [morePriorities, moreValues] = [new Float64Array(size * 2), new Float64Array(size * 2)]
    morePriorities.set(priorities)
    moreValues.set(values)
    priorities = morePriorities
    values = moreValues
  }
  const comesBefore = (priority: number, value: number, at: number): boolean =>
    priority < priorities[at]! || (priority === priorities[at]! && value < values[at]!)
  const put = (at: number, priority: number, value: number): void => {
    priorities[at] = priority
    values[at] = value
  }

  return {
    get size() {
      return size
    },
    get priority() {
      return topPriority
    },
    get value() {
      return topValue
    },
    push(priority, value) {
      if (size === priorities.length) grow()
      let at = size++
      while (at > 0) {
        const parent = (at - 1) >> 1
        if (!comesBefore(priority, value, parent)) break
        put(at, priorities[parent]!, values[parent]!)
        at = parent
      }
      put(at, priority, value)
    },
    pop() {
      if (size === 0) return false
      topPriority = priorities[0]!
      topValue = values[0]!
      const [priority, value] = [priorities[--size]!, values[size]!]
      let at = 0
      for (;;) {
        let child = 2 * at + 1
        if (child >= size) break
        if (child + 1 < size && comesBefore(priorities[child + 1]!, values[child + 1]!, child)) child++
        if (comesBefore(priority, value, child)) break
        put(at, priorities[child]!, values[child]!)
        at = child
      }
      put(at, priority, value)
      return true
    },
    clear() {
      size = 0
    },
  }
}
