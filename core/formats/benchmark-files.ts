/**
 * Files of common benchmarks, as their makers and the Hugging Face hub give them, as task lines. A file is recognised by the fields of its
 * first row. Prompts and normalisations are OLMES's (arXiv 2406.08446): pmi for ARC-Challenge, characters for the others, none for BoolQ.
 */
type Row = { line: number; value: Record<string, unknown> }
type Fields = Record<string, unknown>
type Benchmark = { header: Fields; is(row: Fields): boolean; item(row: Fields): Fields }

const text = (value: unknown): string => (typeof value === 'string' || typeof value === 'number' ? String(value) : '')
/** An answer as a letter or a number from 1 among labels, or a number from 0. */
const indexOf = (answer: unknown, labels: readonly string[]): number => (labels.includes(text(answer)) ? labels.indexOf(text(answer)) : Number(answer))
const letters = ['A', 'B', 'C', 'D', 'E']

/** Choices and labels of ARC, as a list of objects or as two lists. */
function arcChoices(row: Fields): { texts: string[]; labels: string[] } {
  const question = row['question'] as { choices?: unknown } | string
  const choices = (typeof question === 'object' ? question.choices : row['choices']) as { text: string; label: string }[] | { text: string[]; label: string[] }
  return Array.isArray(choices) ? { texts: choices.map((one) => one.text), labels: choices.map((one) => one.label) } : { texts: choices.text, labels: choices.label }
}

const benchmarks: Benchmark[] = [
  {
    header: { title: 'HellaSwag', normalisation: 'character', question: '{question}' },
    is: (row) => 'ctx' in row && 'endings' in row,
    item: (row) => ({ question: text(row['ctx']), choices: row['endings'], answer: Number(row['label']) }),
  },
  {
    header: { title: 'ARC', normalisation: 'pmi' },
    is: (row) => 'answerKey' in row,
    item(row) {
      const { texts, labels } = arcChoices(row)
      const question = row['question'] as { stem: string } | string
      return { question: typeof question === 'object' ? question.stem : question, choices: texts, answer: indexOf(row['answerKey'], labels) }
    },
  },
  {
    header: { title: 'PIQA', normalisation: 'character', question: 'Goal: {question}\nAnswer:' },
    is: (row) => 'sol1' in row && 'sol2' in row,
    item: (row) => ({ question: text(row['goal']), choices: [row['sol1'], row['sol2']], answer: Number(row['label']) }),
  },
  {
    header: { title: 'BoolQ', normalisation: 'none', question: '{question}\nAnswer:' },
    is: (row) => 'passage' in row && typeof row['answer'] === 'boolean',
    item: (row) => ({ question: `${text(row['passage'])}\nQuestion: ${text(row['question'])}?`, choices: ['no', 'yes'], answer: Number(row['answer']) }),
  },
  {
    header: { title: 'MMLU', normalisation: 'character' },
    is: (row) => 'mmlu' in row,
    item: (row) => ({ question: row['question'], choices: row['choices'], answer: indexOf(row['answer'], letters) }),
  },
]

/** The cells of a CSV text: quotes, doubled quotes and line breaks within them. */
export function parseCsv(csv: string): string[][] {
  const rows: string[][] = [[]]
  let [cell, quoted] = ['', false]
  for (let i = 0; i < csv.length; i++) {
    const c = csv[i]!
    if (quoted && c === '"' && csv[i + 1] === '"') cell += csv[++i]!
    else if (c === '"') quoted = !quoted
    else if (!quoted && (c === ',' || c === '\n')) {
      rows.at(-1)!.push(cell)
      cell = ''
      if (c === '\n') rows.push([])
    } else if (quoted || c !== '\r') cell += c
  }
  rows.at(-1)!.push(cell)
  return rows.filter((row) => row.length > 1 || row[0] !== '')
}

function rowsOf(content: string, file: string): Row[] | null {
  if (/\.csv$/i.test(file)) {
    // MMLU: no header; the question, four choices, the letter of the right one.
    return parseCsv(content).map((cells, i) => ({ line: i + 1, value: { mmlu: true, question: cells[0], choices: cells.slice(1, 5), answer: cells[5] } }))
  }
  try {
    return content.split('\n').flatMap((line, i) => (line.trim() === '' ? [] : [{ line: i + 1, value: JSON.parse(line) as Fields }]))
  } catch {
    return null
  }
}

/** Task lines of a benchmark's file, the header in front; null when it is none that is known. */
export function benchmarkOf(content: string, file: string): Row[] | null {
  const rows = rowsOf(content, file)
  const first = rows?.[0]?.value
  const benchmark = first && benchmarks.find(({ is }) => is(first))
  if (!rows || !benchmark) return null
  const name = file.replace(/\.[^.]*$/, '').replace(/[^A-Za-z0-9_-]/g, '-').slice(0, 64)
  return [{ line: 1, value: { task: name, kind: 'choice', ...benchmark.header } }, ...rows.map(({ line, value }) => ({ line, value: benchmark.item(value) }))]
}
