/**
 * A model as a GGUF file that llama.cpp runs: matrices in BF16, Q8_0 or Q4_0, norms and router in float32; names and keys are
 * gguf-model.ts's. The rounding is that of our own packed models, so both engines compute with the same numbers. A 4-bit model keeps
 * its embedding in 8 bits, a matrix whose rows are not whole blocks stays in BF16.
 */
import { basename } from 'node:path'
import { writeGguf, type GgufTensor, type GgufType } from '#core/formats/gguf.ts'
import type { WrittenFile } from '#core/formats/atomic.ts'
import { isPacked } from '#core/backend/packed.ts'
import type { PackedDType } from '#core/backend/backend.ts'
import { declarePackedWeights, packedSources, type PackedSource } from '#core/model/packed-weights.ts'
import { encodeRows } from '#core/shared/quantization.ts'
import { ggufMetadata, ggufPlace } from '../gguf-model.ts'
import { openModelSource, type ModelSource } from '../model-source.ts'
import { readChatTemplate, requireTokenizer } from '../model-tokenizer.ts'
import type { ExportProgress } from './hugging-face.ts'

const ggufTypes: Record<PackedDType, GgufType> = { bf16: 'BF16', q8: 'Q8_0', q4: 'Q4_0' }

function tensorOf(source: ModelSource, { tensor, names, shape }: PackedSource): GgufTensor {
  const width = shape.at(-1)!
  const bytes = function* (): Generator<Uint8Array> {
    for (const name of names) {
      if (isPacked(tensor)) yield source.readRows(name, shape, tensor.dtype) ?? encodeRows(tensor.dtype, source.read(name, shape), width)
      else yield new Uint8Array(source.read(name, shape).buffer)
    }
  }
  return { name: ggufPlace(names[0]!)!.name, type: isPacked(tensor) ? ggufTypes[tensor.dtype] : 'F32', shape: tensor.shape, data: bytes }
}

/** Writes a model that has its tokenizer beside it as the GGUF file `out`. Throws `export.notOlmoe`. */
export async function exportGguf(folder: string, out: string, type: PackedDType, { name = basename(folder), onProgress = () => undefined }: { name?: string; onProgress?: ExportProgress } = {}): Promise<WrittenFile> {
  const source = openModelSource(folder)
  try {
    const metadata = ggufMetadata(source.config, requireTokenizer(folder, source.config).json, name, readChatTemplate(folder))
    const places = packedSources(source.config, declarePackedWeights(source.config, type))
    const tensors = places.map((place, i) => {
      const tensor = tensorOf(source, place)
      return { ...tensor, data: () => (onProgress(i + 1, places.length, 'tensors'), tensor.data()) }
    })
    return await writeGguf(out, metadata, tensors)
  } finally {
    source.close()
  }
}
