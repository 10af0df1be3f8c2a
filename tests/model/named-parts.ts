/** Weights or gradients on a backend beside a safetensors file of the same ones by their Hugging Face names. */
import type { Backend } from '#core/backend/backend.ts'
import { openSafetensors } from '#core/formats/safetensors.ts'
import { huggingFaceParts, type Weights } from '#core/model/parameters.ts'
import type { ModelConfig } from '#core/shared/models.ts'

/** Worst of `measure` over every Hugging Face part of `weights` against `file`. */
export async function worstPart(backend: Backend, config: ModelConfig, weights: Weights, file: string, measure: (found: Float64Array, expected: Float32Array) => number): Promise<number> {
  const expected = openSafetensors(file)
  let worst = 0
  for (const { tensor, parts } of huggingFaceParts(config, weights)) {
    const data = Float64Array.from(await backend.read(tensor))
    for (const { name, elementOffset } of parts) {
      const values = expected.readFloat32(name)
      worst = Math.max(worst, measure(data.subarray(elementOffset, elementOffset + values.length), values))
    }
  }
  expected.close()
  return worst
}
