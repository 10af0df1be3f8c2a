/**
 * One buffer that texts are turned into UTF-8 in, again and again: no allocation for a text of usual length, and a long one does not keep
 * its memory. Unpaired surrogates become U+FFFD, as UTF-8 has none.
 */

const keptBytes = 1 << 20

export function createUtf8Buffer() {
  const utf8 = new TextEncoder()
  const kept = new Uint8Array(keptBytes)
  let bytes = kept
  return {
    /** The bytes of the last text, and whatever is after them. */
    get bytes() {
      return bytes
    },
    /** Gives the number of bytes. */
    fill(text: string): number {
      // A UTF-16 unit is three bytes at most.
      const needed = text.length * 3 <= keptBytes ? 0 : Buffer.byteLength(text)
      bytes = needed <= keptBytes ? kept : new Uint8Array(needed)
      return utf8.encodeInto(text, bytes).written
    },
  }
}
