/** The model card of a release, written from what the library knows: nothing in it is a claim that a number of the bundle does not carry. */
import type { MixManifest } from '#core/data/mix-manifest.ts'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { countParameters } from '#core/shared/models.ts'
import type { Run, Series } from '#core/shared/runs.ts'

export type CardFacts = { run: Run; checkpoints: Checkpoint[]; mix: MixManifest | null; series: Series[]; parents: { id: string; run: string }[]; codeVersion: string; origin: string | null }

type Cells = (string | number)[]
const count = (value: number): string => value.toLocaleString('en-US')
const row = (cells: Cells): string => `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|').replace(/\s+/g, ' ')).join(' | ')} |`
const table = (head: Cells, rows: Cells[]): string[] => [row(head), row(head.map(() => '---')), ...rows.map(row)]

function modelSection({ run }: CardFacts): string[] {
  const c = run.config.model
  const p = countParameters(c)
  const experts = `${c.num_experts} per layer, ${c.num_experts_per_tok} for each token${c.num_shared_experts > 0 ? `, ${c.num_shared_experts} shared` : ''}, routing ${c.routing}`
  return [
    '## Model',
    '',
    ...table(['', ''], [
      ['Parameters', `${count(p.total)} in all, ${count(p.active)} active for one token`],
      ['Layers, width, heads', `${c.num_hidden_layers}, ${c.hidden_size}, ${c.num_attention_heads}`],
      ['Experts', c.num_experts === 0 ? 'none (dense)' : experts],
      ['Vocabulary, context', `${count(c.vocab_size)} tokens, ${count(c.max_position_embeddings)} positions`],
    ]),
  ]
}

function dataSection({ mix, run }: CardFacts): string[] {
  if (mix === null) return ['## Data', '', run.config.stage === 'import' ? 'The model was imported; what it was trained on is not recorded here.' : `The mix ${run.mixId ?? run.config.mix} is not in the library any more.`]
  return [
    '## Data',
    '',
    `Mix \`${mix.id}\`, sha256 \`${mix.hash}\`; tokenizer sha256 \`${mix.tokenizerHash}\`. Its whole manifest is records/mix.json.`,
    '',
    ...table(['Source', 'Licence', 'Documents', 'Training tokens', 'Held-out tokens', 'Fingerprint (sha256)'], mix.domains.map((d) => [d.name, d.licence, count(d.documents), count(d.trainTokens), count(d.validationTokens), `\`${d.fingerprint}\``])),
  ]
}

function trainingSection({ run, series }: CardFacts): string[] {
  if (run.config.stage === 'import') return []
  const last = (key: string): string => series.find((one) => one.key === key)?.values.at(-1)?.toFixed(4) ?? '–'
  const o = run.config.optimizer
  return [
    '## Training',
    '',
    ...table(['', ''], [
      ['Stage', run.config.stage],
      ['Steps, tokens', `${count(run.step)} of ${count(run.config.steps)}, ${count(run.tokens)}`],
      ['Batch', `${run.config.sequencesPerStep} sequences of ${run.config.sequenceLength} tokens`],
      ['Optimizer', `AdamW, peak learning rate ${o.peakLearningRate}, ${o.schedule}, warm-up ${o.warmupSteps} steps, betas ${o.betas.join(' and ')}, eps ${o.eps}, weight decay ${o.weightDecay}, clip ${o.clip}`],
      ['Auxiliary losses', `load balance ${run.config.loadBalanceWeight}, router z ${run.config.routerZWeight}`],
      ['Seeds', `weights ${run.config.seed}, data order ${run.config.dataSeed ?? run.config.seed}`],
      ['Computed on', run.runningOn ? `${run.runningOn.name} (${run.runningOn.api}), ${run.runningOn.precision}` : 'not recorded'],
      ['Time', `${run.seconds.toFixed(0)} s of training`],
      ['Last training loss', last('loss')],
      ['Held-out loss (nats per token)', last('validation')],
      ...series.filter(({ key }) => key.startsWith('validation/')).map(({ key }) => [`… on ${key.slice('validation/'.length)}`, last(key)]),
    ]),
  ]
}

/** README.md of a bundle. */
export function modelCard(facts: CardFacts): string {
  const { run, checkpoints, parents, codeVersion, origin } = facts
  const start = run.config.stage === 'import' ? '- made elsewhere' : '- starts from fresh weights'
  return [
    '---', 'library_name: transformers', 'tags:', '- olmoe', '- mixture-of-experts', '---', '',
    `# ${run.name}`, '',
    `A ${run.config.model.num_experts === 0 ? 'dense' : 'Mixture-of-Experts'} language model of the OLMoE family, made with MoE Workbench ${codeVersion}.`,
    ...(origin === null ? [] : ['', `Imported from ${origin}.`]),
    ...(run.note === '' ? [] : ['', run.note]),
    '',
    ...modelSection(facts), '', ...dataSection(facts), '', ...trainingSection(facts), '',
    '## Checkpoints', '',
    ...table(['Folder', 'Step', 'Tokens', 'Held-out loss'], checkpoints.map((one) => [`checkpoints/${one.id}`, count(one.step), count(one.tokens), one.validationLoss?.toFixed(4) ?? '–'])), '',
    'Each folder loads in transformers (OlmoeForCausalLM) where the model is OLMoE as published, and in MoE Workbench in any case.', '',
    '## Lineage', '',
    ...(parents.length > 0 ? parents.map(({ id, run: name }) => `- starts from checkpoint \`${id}\` of ${name}`) : [start]),
    '- the whole graph: records/lineage.json', '',
    '## Files', '',
    'bundle.json names every file with its size and sha256. records/ has the recipe (run.json), every logged number (metrics.csv, experts.jsonl), the log (log.jsonl), the lineage and the data manifest.', '',
  ].join('\n')
}
