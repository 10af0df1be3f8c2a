/** GPT-2's word pattern as a regular expression: what the scanner of core/data must agree with. */
const wordPattern =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu

/** The words of a text, in order; joined they are the text again. */
export function splitWords(text: string): string[] {
  return text.match(wordPattern) ?? []
}
