/**
 * Lets a long computation share its process: it asks now and then, and waits one turn of the event loop when the last one is a while ago.
 * Messages (stop, progress) get through; no timer, no thread.
 */

export type Pause = () => Promise<void> | undefined

/** Call and await it often: it gives a promise only when `sliceMs` have passed, and throws the reason of an aborted `signal`. */
export function createPause(signal?: AbortSignal, sliceMs = 30): Pause {
  let since = performance.now()
  return () => {
    signal?.throwIfAborted()
    if (performance.now() - since < sliceMs) return undefined
    return new Promise((resolve) =>
      setImmediate(() => {
        since = performance.now()
        resolve()
      }),
    )
  }
}
