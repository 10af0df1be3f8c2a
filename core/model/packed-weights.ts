/**
 * The weights of a model for inference: matrices packed in bf16, 8 or 4 bits, norms and router in float32. Gate and up projections of
 * experts are tensors of their own here, so that each ends with whole strips of rows.
 *
 * In 8 or 4 bits every row is whole blocks of 32 numbers; a matrix whose rows are not stays in bf16, as GGUF files have it too. The
 * embedding of a 4-bit model is kept in 8 bits: a token reads one row of it, so its size costs no time.
 */
import { persistent, type PackedDType, type Tensor } from '#core/backend/backend.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { blockWidth } from '#core/shared/quantization.ts'
import { declareModel, listWeights, weightSources, type Model } from './parameters.ts'

export type PackedMoeWeights = {
  router: Tensor // [E, D]
  gate: Tensor // [E, F, D]
  up: Tensor // [E, F, D]
  down: Tensor // [E, D, F]
}

export type PackedWeights = Model<PackedMoeWeights>

/** The form of a matrix in a model of `type`. */
function formOf(type: PackedDType, width: number): PackedDType {
  return width % blockWidth === 0 ? type : 'bf16'
}

/** Declares a full set of tensors for a model in `type`. */
export function declarePackedWeights(config: ModelConfig, type: PackedDType): PackedWeights {
  const { hidden_size: D, intermediate_size: F, num_experts: E } = config
  const plain = (name: string, ...shape: number[]): Tensor => persistent(name, shape)
  const inForm = (form: PackedDType) => (name: string, ...shape: number[]): Tensor => persistent(name, shape, formOf(form, shape.at(-1)!))
  const matrix = inForm(type)
  return declareModel(config, plain, matrix, inForm(type === 'q4' ? 'q8' : type), (at) => ({
    router: plain(`${at}.router`, E, D),
    gate: matrix(`${at}.gate`, E, F, D),
    up: matrix(`${at}.up`, E, F, D),
    down: matrix(`${at}.down`, E, D, F),
  }))
}

/** All tensors in one fixed order: that of a file. */
export function listPackedWeights(weights: PackedWeights): Tensor[] {
  return listWeights(weights)
}

const expertNames: Record<string, string> = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' }

/** A tensor, the Hugging Face names of its matrices in order, and the shape of each. */
export type PackedSource = { tensor: Tensor; names: string[]; shape: number[] }

/** The Hugging Face matrices of every tensor, in listPackedWeights order: one, one per expert, or gate and up of a dense network, whose rows follow each other. */
export function packedSources(config: ModelConfig, weights: PackedWeights): PackedSource[] {
  return weightSources(weights).map((source) => {
    const { tensor } = source
    if ('whole' in source) return { tensor, names: [source.whole], shape: [...tensor.shape] }
    if ('dense' in source) {
      const [names, shape] = source.dense === 'gateUp' ? [['gate_proj', 'up_proj'], [tensor.shape[0]! / 2, tensor.shape[1]!]] : [['down_proj'], [...tensor.shape]]
      return { tensor, names: names.map((name) => `${source.at}.${name}.weight`), shape }
    }
    if (source.moe === 'router') return { tensor, names: [`${source.layer}.gate.weight`], shape: [...tensor.shape] }
    const experts = Array.from({ length: config.num_experts }, (_, e) => `${source.layer}.experts.${e}.${expertNames[source.moe]!}.weight`)
    return { tensor, names: experts, shape: tensor.shape.slice(1) }
  })
}
