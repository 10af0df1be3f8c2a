/**
 * What the tests expect to be warned of. Every console.warn, console.error and process warning that a test did not
 * announce with `expectWarning` fails it (tests/setup.ts): a warning nobody reads is a fault nobody sees.
 */

const expected: RegExp[] = []
const unexpected: string[] = []

/** Announces that this test may print a warning or an error matching `pattern`. Holds until the test ends. */
export function expectWarning(pattern: RegExp): void {
  expected.push(pattern)
}

/** Files a warning that was printed. */
export function recordWarning(text: string): void {
  if (!expected.some((pattern) => pattern.test(text))) unexpected.push(text)
}

/** The warnings nobody announced since the last call; forgets the announcements too. */
export function takeUnexpectedWarnings(): string[] {
  expected.length = 0
  return unexpected.splice(0)
}
