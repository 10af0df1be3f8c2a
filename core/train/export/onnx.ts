/**
 * A model as an ONNX graph with a key-value cache, float32, to be run by onnxruntime. Attention is plain operators; the experts are
 * onnxruntime's own MoE operator (reference §7.3: raw router logits in, softmax over all, top-k, not renormalised), or plain operators
 * that compute every expert and weigh most of them with zero: slower, but any runtime has them.
 *
 * Inputs: input_ids [batch, sequence], position_ids likewise, past.<layer>.key / .value [batch, heads, past, head width].
 * Outputs: logits [batch, sequence, V], present.<layer>.key / .value, router.<layer> [batch · sequence, E] raw logits.
 *
 * Letters: D hidden_size, F intermediate_size, E num_experts, V vocab_size, H heads, G key-value heads, W head width.
 */
import { join } from 'node:path'
import { writeFolderAtomic } from '#core/formats/atomic.ts'
import { writeOnnx, type OnnxAttribute, type OnnxConstant, type OnnxNode, type OnnxValue, type OnnxWeight } from '#core/formats/onnx.ts'
import { headWidth } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import { isOlmoe, type ModelConfig } from '#core/shared/models.ts'
import { writeFileAtomic } from '#core/formats/atomic.ts'
import { huggingFaceConfig, openModelSource, type ModelSource } from '../model-source.ts'
import { copyTokenizer } from '../model-tokenizer.ts'
import type { ExportedFiles, ExportProgress } from './hugging-face.ts'

export type OnnxExperts = 'operator' | 'plain'
export const onnxFileName = 'model.onnx'

/** Grows a graph: constants and nodes get names of their own. */
function createBuilder() {
  const [nodes, constants, weights]: [OnnxNode[], OnnxConstant[], OnnxWeight[]] = [[], [], []]
  const known = new Map<string, string>()
  const op = (type: string, inputs: readonly string[], attributes: Record<string, OnnxAttribute> = {}, { outputs, domain }: { outputs?: string[]; domain?: string } = {}): string => {
    const names = outputs ?? [`v${nodes.length}`]
    nodes.push({ op: type, inputs, outputs: names, attributes, domain })
    return names[0]!
  }
  const constant = (type: 'float32' | 'int64', values: readonly number[], shape: readonly number[] = [values.length]): string => {
    const key = `${type} ${shape.join()} ${values.join()}`
    if (!known.has(key)) {
      known.set(key, `c${constants.length}`)
      constants.push({ name: `c${constants.length}`, type, shape, values })
    }
    return known.get(key)!
  }
  return {
    nodes,
    constants,
    weights,
    op,
    ints: (...values: number[]): string => constant('int64', values),
    float: (number: number): string => constant('float32', [number], []),
    weight: (name: string, shape: readonly number[], data: () => Float32Array): string => {
      weights.push({ name, shape, data })
      return name
    },
  }
}
type Builder = ReturnType<typeof createBuilder>

/** w ⊙ x / sqrt(mean(x²) + eps) over the last axis. */
function rmsNorm(b: Builder, c: ModelConfig, x: string, weight: string): string {
  const mean = b.op('ReduceMean', [b.op('Mul', [x, x]), b.ints(-1)], { keepdims: 1 })
  const root = b.op('Sqrt', [b.op('Add', [mean, b.float(c.rms_norm_eps)])])
  return b.op('Mul', [b.op('Div', [x, root]), weight])
}

/** x [N, J] · Wᵀ, W [M, J] as it lies in the model. */
const linear = (b: Builder, x: string, weight: string): string => b.op('Gemm', [x, weight], { transB: 1 })

/** Cosines and sines of all positions, each half repeated: [positions, W]. */
function rotations(c: ModelConfig, of: (angle: number) => number): Float32Array {
  const width = headWidth(c)
  const table = new Float32Array(c.max_position_embeddings * width)
  for (let position = 0; position < c.max_position_embeddings; position++) {
    for (let i = 0; i < width; i++) table[position * width + i] = of(position * c.rope_theta ** (-2 * (i % (width / 2)) / width))
  }
  return table
}

/** RoPE on x [batch, heads, sequence, W]: x cos + rotateHalf(x) sin. */
function rotate(b: Builder, c: ModelConfig, x: string, cos: string, sin: string): string {
  const half = headWidth(c) / 2
  const slice = (from: number, to: number): string => b.op('Slice', [x, b.ints(from), b.ints(to), b.ints(-1)])
  const turned = b.op('Concat', [b.op('Neg', [slice(half, 2 * half)]), slice(0, half)], { axis: -1 })
  return b.op('Add', [b.op('Mul', [x, cos]), b.op('Mul', [turned, sin])])
}

/** Keys or values of G heads as of H heads: every one stands for H / G of them. */
function spreadHeads(b: Builder, c: ModelConfig, x: string): string {
  const times = c.num_attention_heads / c.num_key_value_heads
  if (times === 1) return x
  const wide = b.op('Concat', [b.op('Shape', [x], { start: 0, end: 2 }), b.ints(times), b.op('Shape', [x], { start: 2, end: 4 })], { axis: 0 })
  const repeated = b.op('Expand', [b.op('Unsqueeze', [x, b.ints(2)]), wide])
  return b.op('Reshape', [repeated, b.ints(0, c.num_attention_heads, -1, headWidth(c))])
}

type Shared = { batchShape: string; cos: string; sin: string; mask: string }

function attention(b: Builder, c: ModelConfig, layer: number, x: string, shared: Shared, w: (name: string, ...shape: number[]) => string): string {
  const { hidden_size: D, num_attention_heads: H, num_key_value_heads: G } = c
  const W = headWidth(c)
  /** [N, heads · W] → [batch, heads, sequence, W]. */
  const heads = (rows: string, count: number): string => b.op('Transpose', [b.op('Reshape', [rows, b.op('Concat', [shared.batchShape, b.ints(count, W)], { axis: 0 })])], { perm: [0, 2, 1, 3] })
  const query = rotate(b, c, heads(rmsNorm(b, c, linear(b, x, w('self_attn.q_proj', D, D)), w('self_attn.q_norm', D)), H), shared.cos, shared.sin)
  const key = rotate(b, c, heads(rmsNorm(b, c, linear(b, x, w('self_attn.k_proj', G * W, D)), w('self_attn.k_norm', G * W)), G), shared.cos, shared.sin)
  const value = heads(linear(b, x, w('self_attn.v_proj', G * W, D)), G)
  const keys = b.op('Concat', [`past.${layer}.key`, key], { axis: 2 }, { outputs: [`present.${layer}.key`] })
  const values = b.op('Concat', [`past.${layer}.value`, value], { axis: 2 }, { outputs: [`present.${layer}.value`] })
  const scores = b.op('MatMul', [b.op('Mul', [query, b.float(W ** -0.5)]), b.op('Transpose', [spreadHeads(b, c, keys)], { perm: [0, 1, 3, 2] })])
  const weights = b.op('Softmax', [b.op('Where', [shared.mask, scores, b.float(-1e30)])], { axis: -1 })
  const mixed = b.op('Transpose', [b.op('MatMul', [weights, spreadHeads(b, c, values)])], { perm: [0, 2, 1, 3] })
  return linear(b, b.op('Reshape', [mixed, b.ints(-1, D)]), w('self_attn.o_proj', D, D))
}

/** Rows of all experts in one tensor; with `interleaved`, gate and up rows take turns, as the operator wants them. */
function expertRows(source: ModelSource, layer: number, names: readonly string[], shape: readonly [number, number], interleaved: boolean): Float32Array {
  const [rows, width] = shape
  const out = new Float32Array(source.config.num_experts * names.length * rows * width)
  for (let e = 0; e < source.config.num_experts; e++) {
    names.forEach((name, part) => {
      const matrix = source.read(`model.layers.${layer}.mlp.experts.${e}.${name}.weight`, shape)
      for (let row = 0; row < rows; row++) {
        const to = e * names.length * rows + (interleaved ? row * names.length + part : part * rows + row)
        out.set(matrix.subarray(row * width, (row + 1) * width), to * width)
      }
    })
  }
  return out
}

function expertsByOperator(b: Builder, source: ModelSource, layer: number, x: string, logits: string): string {
  const { hidden_size: D, intermediate_size: F, num_experts: E, num_experts_per_tok: k, norm_topk_prob } = source.config
  const gateUp = b.weight(`layers.${layer}.gateUp`, [E, 2 * F, D], () => expertRows(source, layer, ['gate_proj', 'up_proj'], [F, D], true))
  const down = b.weight(`layers.${layer}.down`, [E, D, F], () => expertRows(source, layer, ['down_proj'], [D, F], false))
  const attributes = { k, activation_type: 'swiglu', swiglu_fusion: 1, activation_alpha: { float: 1 }, activation_beta: { float: 0 }, normalize_routing_weights: norm_topk_prob ? 1 : 0 }
  return b.op('MoE', [x, logits, gateUp, '', down], attributes, { domain: 'com.microsoft' })
}

/** Every expert on every row, weighed by the gate, which is zero for those not chosen. */
function expertsPlainly(b: Builder, source: ModelSource, layer: number, x: string, logits: string): string {
  const { hidden_size: D, intermediate_size: F, num_experts: E, num_experts_per_tok: k, norm_topk_prob } = source.config
  const matrices = (name: string, shape: readonly [number, number]): string => {
    const weight = b.weight(`layers.${layer}.${name}`, [E, ...shape], () => expertRows(source, layer, [name], shape, false))
    return b.op('Transpose', [weight], { perm: [0, 2, 1] })
  }
  const probabilities = b.op('Softmax', [logits], { axis: -1 })
  const [values, chosen] = [`gates.${layer}`, `chosen.${layer}`]
  b.op('TopK', [probabilities, b.ints(k)], { axis: -1 }, { outputs: [values, chosen] })
  const kept = norm_topk_prob ? b.op('Div', [values, b.op('ReduceSum', [values, b.ints(-1)], { keepdims: 1 })]) : values
  const gates = b.op('ScatterElements', [b.op('Mul', [probabilities, b.float(0)]), chosen, kept], { axis: 1 })
  const all = b.op('Unsqueeze', [x, b.ints(0)])
  const gate = b.op('MatMul', [all, matrices('gate_proj', [F, D])])
  const hidden = b.op('Mul', [b.op('Mul', [gate, b.op('Sigmoid', [gate])]), b.op('MatMul', [all, matrices('up_proj', [F, D])])])
  const weighed = b.op('Mul', [b.op('MatMul', [hidden, matrices('down_proj', [D, F])]), b.op('Unsqueeze', [b.op('Transpose', [gates], { perm: [1, 0] }), b.ints(2)])])
  return b.op('ReduceSum', [weighed, b.ints(0)], { keepdims: 0 })
}

/** Which keys a query may see: those at or before its own position. [batch, 1, sequence, all]. */
function causalMask(b: Builder): string {
  const last = (value: string, axis: number): string => b.op('Gather', [b.op('Shape', [value]), b.ints(axis)])
  const all = b.op('Squeeze', [b.op('Add', [last('past.0.key', 2), last('input_ids', 1)])])
  const scalar = (number: number): string => b.op('Squeeze', [b.ints(number)])
  const keys = b.op('Range', [scalar(0), all, scalar(1)])
  return b.op('LessOrEqual', [keys, b.op('Unsqueeze', ['position_ids', b.ints(1, 3)])])
}

function buildGraph(source: ModelSource, experts: OnnxExperts) {
  const { config: c } = source
  const { hidden_size: D, num_experts: E, vocab_size: V, num_key_value_heads: G } = c
  const W = headWidth(c)
  const b = createBuilder()
  const named = (prefix: string) => (name: string, ...shape: number[]): string => b.weight(`${prefix}${name}.weight`, shape, () => source.read(`${prefix}${name}.weight`, shape))
  const table = (name: string, of: (angle: number) => number): string => b.op('Unsqueeze', [b.op('Gather', [b.weight(name, [c.max_position_embeddings, W], () => rotations(c, of)), 'position_ids']), b.ints(1)])
  const model = named('model.')
  const shared = { batchShape: b.op('Shape', ['input_ids']), cos: table('cos', Math.cos), sin: table('sin', Math.sin), mask: causalMask(b) }
  let h = b.op('Reshape', [b.op('Gather', [model('embed_tokens', V, D), 'input_ids']), b.ints(-1, D)])
  const cache = (kind: 'past' | 'present', length: string): OnnxValue[] =>
    Array.from({ length: c.num_hidden_layers }, (_, i) => ['key', 'value'].map((what): OnnxValue => ({ name: `${kind}.${i}.${what}`, type: 'float32', shape: ['batch', G, length, W] }))).flat()
  for (let layer = 0; layer < c.num_hidden_layers; layer++) {
    const w = named(`model.layers.${layer}.`)
    h = b.op('Add', [h, attention(b, c, layer, rmsNorm(b, c, h, w('input_layernorm', D)), shared, w)])
    const u = rmsNorm(b, c, h, w('post_attention_layernorm', D))
    const logits = b.op('Gemm', [u, w('mlp.gate', E, D)], { transB: 1 }, { outputs: [`router.${layer}`] })
    h = b.op('Add', [h, (experts === 'operator' ? expertsByOperator : expertsPlainly)(b, source, layer, u, logits)])
  }
  const head = named('')('lm_head', V, D)
  b.op('Reshape', [linear(b, rmsNorm(b, c, h, model('norm', D)), head), b.op('Concat', [shared.batchShape, b.ints(V)], { axis: 0 })], {}, { outputs: ['logits'] })
  const ids = (name: string): OnnxValue => ({ name, type: 'int64', shape: ['batch', 'sequence'] })
  const routers = Array.from({ length: c.num_hidden_layers }, (_, i): OnnxValue => ({ name: `router.${i}`, type: 'float32', shape: ['rows', E] }))
  return {
    name: 'olmoe', nodes: b.nodes, constants: b.constants, weights: b.weights,
    inputs: [ids('input_ids'), ids('position_ids'), ...cache('past', 'past')],
    outputs: [{ name: 'logits', type: 'float32', shape: ['batch', 'sequence', V] } satisfies OnnxValue, ...cache('present', 'all'), ...routers],
    opsets: { '': 18, ...(experts === 'operator' && { 'com.microsoft': 1 }) },
  }
}

/** Writes the model of `folder` as a new folder `out`: model.onnx, its data, config.json and the tokenizer. Throws `export.notOlmoe`. */
export function exportOnnx(folder: string, out: string, { experts = 'operator', onProgress = () => undefined }: { experts?: OnnxExperts; onProgress?: ExportProgress } = {}): Promise<ExportedFiles> {
  return writeFolderAtomic(out, async (temporary) => {
    const source = openModelSource(folder)
    try {
      if (!isOlmoe(source.config)) throw new AppError('export.notOlmoe', `${folder} is a variant of the family`, { params: { field: 'the model', found: 'a variant of the family', expected: 'OLMoE as published' }, hint: 'This variant has no place in that format. Export it as a bundle.' })
      const graph = buildGraph(source, experts)
      let done = 0
      const weights = graph.weights.map((weight) => ({ ...weight, data: () => (onProgress(++done, graph.weights.length, 'tensors'), weight.data()) }))
      return {
        'config.json': await writeFileAtomic(join(temporary, 'config.json'), [`${JSON.stringify(huggingFaceConfig(source.config, 'float32'), null, 2)}\n`]),
        ...(await copyTokenizer(folder, temporary)),
        ...(await writeOnnx(join(temporary, onnxFileName), { ...graph, weights })),
      }
    } finally {
      source.close()
    }
  })
}
