/**
 * The byte-level alphabet and the word split of GPT-2-style BPE, as GPT-NeoX and OLMoE use them: every byte has a printable
 * character, text is cut into words that merges never cross. Encoder and trainer share them, so they cannot disagree.
 */

/** Words of a text (GPT-2's pattern): contractions, letters, digits, other symbols, each with at most one space before; white space. */
export const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

/** Character of each byte: printable Latin-1 bytes are themselves, the others follow from U+0100 on. */
export const byteCharacters: readonly string[] = (() => {
  const isPlain = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPlain(byte) ? byte : next++))
})()

/** Byte of each character of byteCharacters. */
export const characterBytes: ReadonlyMap<string, number> = new Map(byteCharacters.map((character, byte) => [character, byte]))
