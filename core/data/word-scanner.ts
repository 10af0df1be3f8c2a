/**
 * Cuts UTF-8 text into words as GPT-2's pattern does, by the kind of each character instead of a regular expression:
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * White space is Unicode's White_Space property as in Hugging Face's Rust tokenizers; JavaScript's `\s` differs in two characters (it
 * takes U+FEFF and leaves U+0085). The bytes must be valid UTF-8: who encodes a string has them.
 */

const unknown = 0
const other = 1
const letter = 2
const number = 3
const whiteSpace = 4

const space = 0x20
const apostrophe = 0x27

function kindOf(point: number): number {
  const character = String.fromCodePoint(point)
  if (/\p{L}/u.test(character)) return letter
  if (/\p{N}/u.test(character)) return number
  return /\p{White_Space}/u.test(character) ? whiteSpace : other
}

const asciiKinds = Uint8Array.from({ length: 128 }, (_, point) => kindOf(point))
/** Of every code point; filled in as they are met. */
const kinds = new Uint8Array(0x110000)

/** Bytes of the character that starts with `lead`. */
function widthOf(lead: number): number {
  return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
}

function kindBeyondAscii(bytes: Uint8Array, at: number, lead: number): number {
  const tail = (k: number): number => bytes[at + k]! & 0x3f
  const point =
    lead < 0xe0 ? ((lead & 0x1f) << 6) | tail(1) : lead < 0xf0 ? ((lead & 0x0f) << 12) | (tail(1) << 6) | tail(2) : ((lead & 0x07) << 18) | (tail(1) << 12) | (tail(2) << 6) | tail(3)
  const kind = kinds[point]!
  return kind === unknown ? (kinds[point] = kindOf(point)) : kind
}

function kindAt(bytes: Uint8Array, at: number): number {
  const lead = bytes[at]!
  return lead < 0x80 ? asciiKinds[lead]! : kindBeyondAscii(bytes, at, lead)
}

/** End of the contraction whose apostrophe is at `start`; `start` when it is none. A byte beyond `end` is no letter. */
function endOfContraction(bytes: Uint8Array, start: number, end: number): number {
  const letterAt = (at: number): string => (at < end ? String.fromCharCode(bytes[at]!) : '')
  const first = letterAt(start + 1)
  if (first === 's' || first === 't' || first === 'm' || first === 'd') return start + 2
  const both = first + letterAt(start + 2)
  return both === 're' || both === 've' || both === 'll' ? start + 3 : start
}

/** The end of the word that starts at `start`, which is before `end`, where the text ends. */
export function endOfWord(bytes: Uint8Array, start: number, end: number): number {
  const lead = bytes[start]!
  if (lead === apostrophe) {
    const after = endOfContraction(bytes, start, end)
    if (after > start) return after
  }
  // One space belongs to the run after it.
  let at = lead === space && start + 1 < end ? start + 1 : start
  const kind = kindAt(bytes, at)
  if (kind !== whiteSpace) {
    do at += widthOf(bytes[at]!)
    while (at < end && kindAt(bytes, at) === kind)
    return at
  }
  // White space leaves its last character to what follows, unless it is all there is.
  let last = start
  for (at = start; at < end && kindAt(bytes, at) === whiteSpace; at += widthOf(bytes[at]!)) last = at
  return at === end || last === start ? at : last
}
