/**
 * Events to any number of watchers, each with a queue of its own: a slow watcher costs memory, never the publisher's
 * time. Nothing is kept for whoever comes later; a stream begins with the state and goes on with what changes.
 */

export type Hub<T> = {
  publish(event: T): void
  /** Events from now on (subscribed at the call, not at the first read) until `signal` aborts or the hub closes. */
  watch(signal: AbortSignal | undefined): AsyncGenerator<T, void>
  /** Ends every watcher's stream. */
  close(): void
}

type Watcher<T> = { queue: T[]; wake: () => void }

/** `enqueue` puts an event into a watcher's queue; it may merge it with what waits there. */
export function createHub<T>(enqueue: (queue: T[], event: T) => void = (queue, event) => queue.push(event)): Hub<T> {
  const watchers = new Set<Watcher<T>>()
  let closed = false

  async function* read(watcher: Watcher<T>, signal: AbortSignal | undefined): AsyncGenerator<T, void> {
    const wake = (): void => watcher.wake()
    signal?.addEventListener('abort', wake)
    try {
      while (!closed && signal?.aborted !== true) {
        const event = watcher.queue.shift()
        if (event !== undefined) yield event
        else await new Promise<void>((resolve) => (watcher.wake = resolve))
      }
    } finally {
      signal?.removeEventListener('abort', wake)
      watchers.delete(watcher)
    }
  }

  return {
    publish(event) {
      for (const watcher of watchers) {
        enqueue(watcher.queue, event)
        watcher.wake()
      }
    },
    watch(signal) {
      const watcher: Watcher<T> = { queue: [], wake: () => undefined }
      if (signal?.aborted !== true && !closed) watchers.add(watcher)
      // A stream that is left before its first read never enters the generator: its place is freed here.
      signal?.addEventListener('abort', () => watchers.delete(watcher), { once: true })
      return read(watcher, signal)
    },
    close() {
      closed = true
      for (const watcher of watchers) watcher.wake()
    },
  }
}
