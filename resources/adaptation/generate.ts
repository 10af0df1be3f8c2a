/**
 * The built-in instruction and preference sets: questions whose answers follow from small tables and rules, in several wordings, for models
 * that learned to read a minute ago. `node resources/adaptation/generate.ts` writes both files again, byte for byte (tests hold that).
 *
 * An answer has two right forms, a bare one ("blue") and a sentence ("The sky is blue."). The instructions show both as often; the preferences want
 * the sentence, and now and then a right sentence over a wrong one. `answers` are all forms that count as right.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRandom, permutation, type Random } from '#core/shared/random.ts'

type Item = { task: string; question: string; bare: string; sentence: string }

const colours: Record<string, string> = { sky: 'blue', grass: 'green', snow: 'white', blood: 'red', coal: 'black', sun: 'yellow', sea: 'blue', leaf: 'green', milk: 'white', rose: 'red', night: 'black', gold: 'yellow', cloud: 'white', moss: 'green', fire: 'red' }
const sounds: Record<string, string> = { dog: 'barks', cat: 'meows', cow: 'moos', duck: 'quacks', lion: 'roars', horse: 'neighs', bee: 'buzzes', snake: 'hisses', wolf: 'howls', bird: 'sings' }
const legs: Record<string, string> = { dog: 'four', cat: 'four', cow: 'four', duck: 'two', lion: 'four', horse: 'four', bee: 'six', snake: 'no', wolf: 'four', bird: 'two', ant: 'six', man: 'two' }
const opposites: Record<string, string> = { hot: 'cold', big: 'small', good: 'bad', old: 'new', long: 'short', day: 'night', up: 'down', left: 'right', open: 'closed', rich: 'poor', hard: 'soft', first: 'last', light: 'dark', high: 'low', true: 'false', war: 'peace' }
const days = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday']
const months = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December']
const numbers = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve']
const words = ['house', 'water', 'time', 'people', 'world', 'hand', 'work', 'school', 'money', 'power', 'state', 'night', 'city', 'line', 'land', 'light', 'book', 'name', 'head', 'face', 'heart', 'king', 'road', 'tree', 'stone', 'bird', 'fish', 'gold', 'rain', 'wind']

const entries = (table: Record<string, string>): [string, string][] => Object.entries(table)
const wordings = (forms: readonly string[], ...values: string[]): string[] => forms.map((form) => values.reduce((text, value, i) => text.replaceAll(`{${i}}`, value), form))

function* tableItems(task: string, table: Record<string, string>, forms: readonly string[], sentence: string): Generator<Item> {
  for (const [key, value] of entries(table)) {
    for (const question of wordings(forms, key)) yield { task, question, bare: value, sentence: wordings([sentence], key, value)[0]! }
  }
}

function* orderItems(task: string, list: readonly string[], noun: string): Generator<Item> {
  for (const [i, name] of list.entries()) {
    const next = list[(i + 1) % list.length]!
    const before = list[(i + list.length - 1) % list.length]!
    const after = ['Which {1} comes after {0}?', 'What {1} follows {0}?', 'Name the {1} after {0}.', 'After {0} comes which {1}?', 'Tell me the {1} after {0}.', 'Say the {1} after {0}.', 'What {1} is after {0}?', 'Write the {1} after {0}.', 'Which is the {1} after {0}?', 'What comes after {0}?']
    const first = ['Which {1} comes before {0}?', 'Name the {1} before {0}.', 'Before {0} comes which {1}?', 'Tell me the {1} before {0}.', 'Say the {1} before {0}.', 'What {1} is before {0}?', 'Write the {1} before {0}.', 'Which is the {1} before {0}?', 'What comes before {0}?']
    for (const question of wordings(after, name, noun)) yield { task, question, bare: next, sentence: `${next} comes after ${name}.` }
    for (const question of wordings(first, name, noun)) yield { task, question, bare: before, sentence: `${before} comes before ${name}.` }
  }
}

function* sumItems(): Generator<Item> {
  for (let a = 0; a <= 6; a++) {
    for (let b = 0; b <= 6; b++) {
      const forms = ['What is {0} plus {1}?', 'How much is {0} and {1}?', 'Add {0} and {1}.', 'Tell me {0} plus {1}.', 'Give the sum of {0} and {1}.', 'Say {0} plus {1}.', 'What do {0} and {1} make?', 'Write {0} plus {1}.']
      const [left, right, sum] = [numbers[a]!, numbers[b]!, numbers[a + b]!]
      for (const question of wordings(forms, left, right)) yield { task: 'addition', question, bare: sum, sentence: `${left} plus ${right} is ${sum}.` }
    }
  }
}

function* largerItems(): Generator<Item> {
  for (let a = 0; a <= 10; a++) {
    for (let b = 0; b <= 10; b++) {
      if (a === b) continue
      const [left, right, larger, smaller] = [numbers[a]!, numbers[b]!, numbers[Math.max(a, b)]!, numbers[Math.min(a, b)]!]
      for (const question of wordings(['Which is larger, {0} or {1}?', 'What is more, {0} or {1}?', 'Name the larger one of {0} and {1}.'], left, right)) {
        yield { task: 'larger', question, bare: larger, sentence: `${larger} is larger than ${smaller}.` }
      }
    }
  }
}

function* copyItems(): Generator<Item> {
  for (const word of words) {
    for (const question of wordings(['Repeat the word {0}.', 'Say the word {0}.', 'Write the word {0}.', 'Copy the word {0}.', 'Please say {0}.'], word)) {
      yield { task: 'copying', question, bare: word, sentence: `The word is ${word}.` }
    }
  }
}

function allItems(): Item[] {
  return [
    ...tableItems('colour', colours, ['What colour is the {0}?', 'Which colour does the {0} have?', 'Tell me the colour of the {0}.', 'The {0} has which colour?', 'Name the colour of the {0}.', 'Say what colour the {0} is.', 'Say the colour of the {0}.', 'Write the colour of the {0}.'], 'The {0} is {1}.'),
    ...tableItems('sound', sounds, ['What does a {0} do?', 'What sound does a {0} make?', 'Tell me what a {0} does.', 'How does a {0} sound?', 'Say what a {0} does.', 'Which sound comes from a {0}?'], 'A {0} {1}.'),
    ...tableItems('legs', legs, ['How many legs has a {0}?', 'How many legs does a {0} have?', 'Count the legs of a {0}.', 'Tell me how many legs a {0} has.', 'A {0} has how many legs?', 'Say how many legs a {0} has.'], 'A {0} has {1} legs.'),
    ...tableItems('opposite', opposites, ['What is the opposite of {0}?', 'Name the opposite of {0}.', 'Which word is the opposite of {0}?', 'Tell me the opposite of {0}.', 'Say the opposite of {0}.', 'The opposite of {0} is what?', 'Write the opposite of {0}.', 'What word is the opposite of {0}?', 'Give the opposite of {0}.', 'Which is the opposite of {0}?'], 'The opposite of {0} is {1}.'),
    ...orderItems('day', days, 'day'),
    ...orderItems('month', months, 'month'),
    ...sumItems(),
    ...largerItems(),
    ...copyItems(),
  ]
}

const shuffled = <T>(items: readonly T[], random: Random): T[] => Array.from(permutation(items.length, random), (i) => items[i]!)
const lines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('')

/** Both files' contents. */
export function generate(): { instructions: string; preferences: string } {
  const random = createRandom(1, 'built-in adaptation sets')
  const items = allItems()
  const answersOf = ({ bare, sentence }: Item): string[] => [bare, sentence]
  const instructions = items.flatMap((item) => answersOf(item).map((response) => ({ task: item.task, prompt: item.question, response, answers: answersOf(item) })))
  const preferences = items.map((item) => {
    const others = items.filter(({ task, bare }) => task === item.task && bare !== item.bare)
    const wrong = others[random.nextBelow(others.length)]!
    const rejected = random.nextBelow(4) === 0 ? item.sentence.replace(item.bare, wrong.bare) : item.bare
    return { task: item.task, prompt: item.question, chosen: item.sentence, rejected, answers: answersOf(item) }
  })
  return { instructions: lines(shuffled(instructions, random)), preferences: lines(shuffled(preferences, random)) }
}

if (process.argv[1] === import.meta.filename) {
  const { instructions, preferences } = generate()
  writeFileSync(join(import.meta.dirname, 'instructions.jsonl'), instructions)
  writeFileSync(join(import.meta.dirname, 'preferences.jsonl'), preferences)
}
