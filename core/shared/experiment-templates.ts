/**
 * The controlled experiments of the paper as templates (reference section 4): one knob, two or three settings of it, everything else
 * equal, with what the paper found. Every arm is a configuration of one model family. Texts are the renderer's, by the template's id.
 */
import type { RunConfig } from './runs.ts'

export type PaperResult = {
  /** Numbers at the end of the paper's runs; the first is the one that ours is compared with. */
  metrics: readonly { name: 'c4' | 'train' | 'hellaswag' | 'mmlu'; byArm: Readonly<Record<string, number>> }[]
  /** The arm with the lower loss. */
  better: string
  tokens: number
}
type Arm = { id: string; change: (config: RunConfig) => RunConfig }
export type Template = {
  id: string
  /** Of the paper. */
  section: string
  group: 'moe' | 'training' | 'architecture'
  /** What it needs beside a size: a checkpoint of a dense model, or two mixes. */
  needs: 'nothing' | 'denseCheckpoint' | 'twoMixes'
  arms: readonly Arm[]
  paper: PaperResult
}

type Model = RunConfig['model']
const model = (id: string, change: (model: Model) => Partial<Model>): Arm => ({ id, change: (c) => ({ ...c, model: { ...c.model, ...change(c.model) } }) })
const optimizer = (id: string, change: Partial<RunConfig['optimizer']>): Arm => ({ id, change: (c) => ({ ...c, optimizer: { ...c.optimizer, ...change } }) })
const field = <K extends keyof RunConfig>(id: string, key: K, value: RunConfig[K]): Arm => ({ id, change: (c) => ({ ...c, [key]: value }) })
const asIs = (id: string): Arm => ({ id, change: (c) => c })

/** Width of all that one token reaches in a layer: what the arms of an experiment have in common. */
const activeWidth = (m: Model): number => m.num_experts_per_tok * m.intermediate_size
const experts = (id: string, count: number, perToken: number): Arm =>
  model(id, (m) => ({ num_experts: count, num_experts_per_tok: perToken, intermediate_size: activeWidth(m) / perToken }))
const dense = (id: string): Arm => model(id, (m) => ({ num_experts: 0, num_experts_per_tok: 0, dense_intermediate_size: activeWidth(m) }))
const chained = (id: string, ...arms: Arm[]): Arm => ({ id, change: (c) => arms.reduce((config, arm) => arm.change(config), c) })

const c4 = (byArm: Record<string, number>): PaperResult['metrics'][number] => ({ name: 'c4', byArm })
const hellaswag = (byArm: Record<string, number>): PaperResult['metrics'][number] => ({ name: 'hellaswag', byArm })
const train = (byArm: Record<string, number>): PaperResult['metrics'][number] => ({ name: 'train', byArm })

export const templates: readonly Template[] = [
  {
    id: 'moeVsDense', section: '4.1.1', group: 'moe', needs: 'nothing', arms: [experts('moe', 64, 8), dense('dense')],
    paper: { better: 'moe', tokens: 130e9, metrics: [c4({ moe: 2.701, dense: 2.862 }), train({ moe: 2.394, dense: 2.565 }), hellaswag({ moe: 66.6, dense: 56.3 })] },
  },
  {
    id: 'granularity', section: '4.1.2', group: 'moe', needs: 'nothing', arms: [experts('e64', 64, 8), experts('e32', 32, 4), experts('e8', 8, 1)],
    paper: { better: 'e64', tokens: 130e9, metrics: [c4({ e64: 2.7, e32: 2.71, e8: 2.752 }), hellaswag({ e64: 66.6, e32: 66, e8: 63.3 })] },
  },
  {
    id: 'sharedExpert', section: '4.1.3', group: 'moe', needs: 'nothing',
    arms: [experts('routed', 32, 4), chained('shared', experts('', 32, 4), model('', () => ({ num_experts: 31, num_experts_per_tok: 3, num_shared_experts: 1 })))],
    paper: { better: 'routed', tokens: 130e9, metrics: [c4({ routed: 2.71, shared: 2.722 }), train({ routed: 2.402, shared: 2.415 }), hellaswag({ routed: 66, shared: 64.9 })] },
  },
  {
    id: 'routing', section: '4.1.4', group: 'moe', needs: 'nothing',
    arms: [
      chained('tokenChoice', experts('', 8, 2), model('', () => ({ decoder_sparse_step: 2 }))),
      chained('expertChoice', experts('', 8, 2), model('', () => ({ decoder_sparse_step: 2, routing: 'expert_choice' })), field('', 'loadBalanceWeight', 0)),
    ],
    paper: { better: 'tokenChoice', tokens: 200e9, metrics: [c4({ tokenChoice: 2.715, expertChoice: 2.802 }), train({ tokenChoice: 2.41, expertChoice: 2.49 }), hellaswag({ tokenChoice: 58.5, expertChoice: 53.6 })] },
  },
  {
    id: 'upcycling', section: '4.1.5', group: 'moe', needs: 'denseCheckpoint', arms: [asIs('upcycled'), asIs('scratch')],
    paper: { better: 'scratch', tokens: 610e9, metrics: [c4({ upcycled: 2.618, scratch: 2.611 }), hellaswag({ upcycled: 64.1, scratch: 64.8 })] },
  },
  {
    id: 'upcyclingNoise', section: 'F', group: 'moe', needs: 'denseCheckpoint', arms: [asIs('plain'), asIs('noise')],
    paper: { better: 'plain', tokens: 700e9, metrics: [c4({ plain: 2.598, noise: 2.6 })] },
  },
  {
    id: 'loadBalance', section: '4.1.6', group: 'training', needs: 'nothing',
    arms: [chained('on', experts('', 8, 2), field('', 'loadBalanceWeight', 0.01)), chained('off', experts('', 8, 2), field('', 'loadBalanceWeight', 0))],
    paper: { better: 'on', tokens: 10e9, metrics: [c4({ on: 3.712, off: 3.788 }), train({ on: 3.447, off: 3.521 })] },
  },
  {
    id: 'routerZ', section: '4.1.7', group: 'training', needs: 'nothing', arms: [field('on', 'routerZWeight', 0.001), field('off', 'routerZWeight', 0)],
    paper: { better: 'on', tokens: 750e9, metrics: [c4({ on: 2.595, off: 2.62 })] },
  },
  {
    id: 'dataset', section: '4.2.1', group: 'training', needs: 'twoMixes', arms: [asIs('first'), asIs('second')],
    paper: { better: 'first', tokens: 130e9, metrics: [hellaswag({ first: 55.9, second: 54.6 })] },
  },
  {
    id: 'initialization', section: '4.2.2', group: 'architecture', needs: 'nothing',
    arms: [model('truncated', () => ({ initializer_kind: 'truncated_normal' })), model('normal', () => ({ initializer_kind: 'normal' }))],
    paper: { better: 'truncated', tokens: 600e9, metrics: [c4({ truncated: 2.62, normal: 2.66 }), hellaswag({ truncated: 63.8, normal: 60 })] },
  },
  {
    id: 'norm', section: '4.2.3', group: 'architecture', needs: 'nothing',
    arms: [model('rms', () => ({ norm_kind: 'rms' })), model('layer', () => ({ norm_kind: 'layer' }))],
    paper: { better: 'rms', tokens: 105e9, metrics: [c4({ rms: 2.694, layer: 2.726 }), train({ rms: 2.373, layer: 2.398 }), hellaswag({ rms: 60.2, layer: 58.3 })] },
  },
  {
    id: 'decayNorms', section: '4.2.3', group: 'training', needs: 'nothing', arms: [optimizer('decayed', { decayNorms: true }), optimizer('spared', { decayNorms: false })],
    paper: { better: 'decayed', tokens: 31e9, metrics: [c4({ decayed: 2.728, spared: 2.732 }), hellaswag({ decayed: 58.2, spared: 57.3 })] },
  },
  {
    id: 'decayEmbeddings', section: '4.2.4', group: 'training', needs: 'nothing', arms: [optimizer('decayed', { decayEmbeddings: true }), optimizer('spared', { decayEmbeddings: false })],
    paper: { better: 'decayed', tokens: 63e9, metrics: [c4({ decayed: 2.7935, spared: 2.7948 }), hellaswag({ decayed: 53.4, spared: 53.3 })] },
  },
  {
    id: 'qkNorm', section: '4.2.5', group: 'architecture', needs: 'nothing', arms: [model('with', () => ({ use_qk_norm: true })), model('without', () => ({ use_qk_norm: false }))],
    paper: { better: 'with', tokens: 330e9, metrics: [c4({ with: 2.653, without: 2.661 }), train({ with: 2.351, without: 2.363 }), hellaswag({ with: 61.9, without: 60.9 })] },
  },
  {
    id: 'adamEps', section: '4.2.6', group: 'training', needs: 'nothing', arms: [optimizer('small', { eps: 1e-8 }), optimizer('large', { eps: 1e-5 })],
    paper: { better: 'small', tokens: 31e9, metrics: [c4({ small: 2.728, large: 2.98 }), train({ small: 2.404, large: 2.633 }), hellaswag({ small: 58.2, large: 42.4 })] },
  },
  {
    id: 'layerShared', section: 'F', group: 'moe', needs: 'nothing',
    arms: [dense('dense'), model('shared', (m) => ({ num_experts: m.num_hidden_layers, num_experts_per_tok: 1, intermediate_size: activeWidth(m), share_moe_across_layers: true }))],
    paper: { better: 'dense', tokens: 230e9, metrics: [c4({ dense: 2.847, shared: 2.872 }), hellaswag({ dense: 51.7, shared: 49.2 })] },
  },
]

/** Throws when there is none: ids come through a schema that knows them all. */
export function templateOf(id: string): Template {
  const found = templates.find((template) => template.id === id)
  if (found === undefined) throw new Error(`there is no experiment ${id}`)
  return found
}
