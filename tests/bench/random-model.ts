/**
 * Packed models of random weights for the benchmark, made as bytes: a pool of random blocks with small scales, of which every matrix
 * takes a stretch from a place of its own. Nothing of the size of a model is ever in memory.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { elementCount, type PackedDType, type Tensor } from '#core/backend/backend.ts'
import { exactBytes, isPacked, layoutVersion } from '#core/backend/packed.ts'
import { packedFileName, writePackedFile } from '#core/formats/packed-file.ts'
import { declarePackedWeights, listPackedWeights } from '#core/model/packed-weights.ts'
import { modelConfigSchema, type ModelConfig } from '#core/shared/models.ts'
import { floatToBf16, floatToHalf } from '#core/shared/quantization.ts'
import { createRandom } from '#core/shared/random.ts'
import { entriesToWrite } from '#core/train/packed-weights.ts'

/** OLMoE-1B-7B (arXiv 2409.02060). */
export const olmoe7B: ModelConfig = modelConfigSchema.parse({
  vocab_size: 50304, hidden_size: 2048, intermediate_size: 1024, num_hidden_layers: 16, num_attention_heads: 16, num_experts: 64, num_experts_per_tok: 8,
})
/** 227 million parameters. */
export const medium: ModelConfig = modelConfigSchema.parse({
  vocab_size: 16384, hidden_size: 512, intermediate_size: 256, num_hidden_layers: 8, num_attention_heads: 8, num_experts: 64, num_experts_per_tok: 8,
})

const poolBlocks = 1 << 15
/** Bytes of 16 rows of a block (of a pair of numbers in bf16), and how many of them are scales at its end. */
export const stripBlock = { q4: { bytes: 288, scales: 32 }, q8: { bytes: 544, scales: 32 }, bf16: { bytes: 64, scales: 64 } } as const

/** Random blocks; scales (all of bf16) are normal with the deviation that makes weights about 0.02. */
export function randomPool(type: PackedDType, { bytes, scales }: { bytes: number; scales: number } = stripBlock[type]): Buffer {
  const pool = Buffer.alloc(poolBlocks * bytes)
  const words = new Uint32Array(pool.buffer, pool.byteOffset, pool.length / 4)
  let x = 0x9e3779b9
  for (let i = 0; i < words.length; i++) words[i] = x = (x ^= x << 13, x ^= x >>> 17, (x ^ (x << 5)) >>> 0)
  const random = createRandom(0, `pool/${type}`)
  const float = new Float32Array(1)
  const scaleOf = { q4: 0.0043, q8: 0.00027, bf16: 0.02 }[type]
  for (let block = 0; block < poolBlocks; block++) {
    for (let at = block * bytes + bytes - scales; at < (block + 1) * bytes; at += 2) {
      if (type !== 'bf16') pool.writeUInt16LE(floatToHalf(scaleOf * (0.8 + 0.4 * random.nextFloat())), at)
      else {
        float[0] = scaleOf * (2 * random.nextFloat() - 1)
        pool.writeUInt16LE(floatToBf16(new Uint32Array(float.buffer)[0]!), at)
      }
    }
  }
  return pool
}

/** `count` bytes from a place in the pool that `seed` chooses, in whole blocks, around and around. */
export function* stretch(pool: Buffer, blockBytes: number, seed: number, count: number): Generator<Uint8Array> {
  let at = ((seed * 7919) % (pool.length / blockBytes)) * blockBytes
  for (let left = count; left > 0; ) {
    const size = Math.min(left, pool.length - at)
    yield pool.subarray(at, at + size)
    left -= size
    at = 0
  }
}

/** Norms are one, the router is random. */
export function randomFloats(tensor: Tensor): Float32Array {
  if (tensor.name.endsWith('Norm')) return new Float32Array(elementCount(tensor)).fill(1)
  const random = createRandom(0, tensor.name)
  return Float32Array.from({ length: elementCount(tensor) }, () => 0.02 * random.nextNormal())
}

/** Writes a folder with config.json and a packed file of random weights. */
export async function writeRandomModel(folder: string, config: ModelConfig, type: PackedDType): Promise<{ sizeBytes: number }> {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ model_type: 'olmoe', ...config }))
  const pools = new Map<string, Buffer>()
  let index = 0
  const bytesOf = function* (tensor: Tensor): Generator<Uint8Array> {
    if (!isPacked(tensor)) return yield new Uint8Array(randomFloats(tensor).buffer)
    const pool = pools.get(tensor.dtype) ?? randomPool(tensor.dtype)
    pools.set(tensor.dtype, pool)
    yield* stretch(pool, stripBlock[tensor.dtype].bytes, index++, exactBytes(tensor))
  }
  return writePackedFile(join(folder, packedFileName), type, layoutVersion, entriesToWrite(declarePackedWeights(config, type), bytesOf))
}

/** Bytes of weights that one token of decoding reads: everything but the experts it does not reach and the other rows of the embedding. */
export function bytesPerToken(config: ModelConfig, type: PackedDType): number {
  const weights = declarePackedWeights(config, type)
  // Only the experts' stacks have three dimensions.
  const share = ({ shape }: Tensor): number => (shape.length === 3 ? config.num_experts_per_tok / config.num_experts : 1)
  return listPackedWeights(weights).reduce((sum, tensor) => (tensor === weights.embedding ? sum : sum + exactBytes(tensor) * share(tensor)), 0)
}
