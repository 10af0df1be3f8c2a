/** Tokenizer, trainer and loader (data.ts) as a group of the benchmark. */
import { benchData } from './data.ts'
import type { Bench } from './measure.ts'

export const bench: Bench = {
  title: 'data: tokenizer and trainer beside the Rust tokenizers, the loader',
  async run({ show }) {
    for (const row of await benchData()) show({ group: 'data', ...row })
  },
}
