/**
 * The convention of GPT-2's byte-level BPE that encoder, decoder and trainer share: the printable character that stands for each byte in
 * a tokenizer.json. How text is cut into words is word-scanner.ts.
 */

/** byteCharacters[b] stands for byte b: itself where printable in Latin-1, else the next of U+0100, U+0101, … */
export const byteCharacters: readonly string[] = (() => {
  const isPrintable = (b: number): boolean => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
  let next = 256
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(isPrintable(b) ? b : next++))
})()

const byteOfCharacter = new Map(byteCharacters.map((character, byte) => [character, byte]))

/** The bytes that a token's text in tokenizer.json stands for; null when a character stands for none. */
export function tokenBytes(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfCharacter.get(token[i]!)
    if (byte === undefined) return null
    bytes[i] = byte
  }
  return bytes
}
