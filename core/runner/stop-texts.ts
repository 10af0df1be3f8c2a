/**
 * Texts that end a reply. They may come in pieces over several tokens, so the end of what was written is held back for as long as it may be
 * the beginning of one: what has been given out is never taken back.
 */
export type StopTexts = {
  /** What may be shown now that `piece` was written, and whether a stop text is complete. */
  push(piece: string): { text: string; isStopped: boolean }
  /** What was held back when the text ended by itself. */
  rest(): string
}

export function createStopTexts(stops: readonly string[]): StopTexts {
  const wanted = stops.filter((stop) => stop !== '')
  let held = ''

  /** How much of the end of `text` may be the beginning of a stop text. */
  const beginning = (text: string): number => {
    const longest = Math.min(text.length, Math.max(0, ...wanted.map(({ length }) => length - 1)))
    for (let length = longest; length > 0; length--) {
      const end = text.slice(-length)
      if (wanted.some((stop) => stop.startsWith(end))) return length
    }
    return 0
  }

  return {
    push(piece) {
      const text = held + piece
      const found = wanted.map((stop) => text.indexOf(stop)).filter((at) => at >= 0)
      if (found.length > 0) {
        held = ''
        return { text: text.slice(0, Math.min(...found)), isStopped: true }
      }
      const kept = beginning(text)
      held = kept === 0 ? '' : text.slice(-kept)
      return { text: text.slice(0, text.length - kept), isStopped: false }
    },
    rest: () => held,
  }
}
