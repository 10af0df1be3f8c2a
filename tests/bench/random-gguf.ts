/** GGUF files of random weights in Q4_0, of the same shapes as random-model.ts makes: what llama.cpp is given to read. */
import { byteCharacters } from '#core/data/byte-level.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { ggufTensorBytes, writeGguf, type GgufTensor, type GgufType, type GgufValue } from '#core/formats/gguf.ts'
import { persistent } from '#core/backend/backend.ts'
import { randomFloats, randomPool, stretch } from './random-model.ts'

/** Metadata of an OLMoE model whose vocabulary is the bytes and numbered words. */
function metadataOf(c: ModelConfig): Record<string, GgufValue> {
  const uint32 = (value: number): GgufValue => ({ type: 'uint32', value })
  const strings = (value: string[]): GgufValue => ({ type: 'strings', value })
  return {
    'general.architecture': { type: 'string', value: 'olmoe' },
    'general.name': { type: 'string', value: 'random' },
    'olmoe.block_count': uint32(c.num_hidden_layers),
    'olmoe.context_length': uint32(c.max_position_embeddings),
    'olmoe.embedding_length': uint32(c.hidden_size),
    'olmoe.feed_forward_length': uint32(c.intermediate_size),
    'olmoe.attention.head_count': uint32(c.num_attention_heads),
    'olmoe.attention.head_count_kv': uint32(c.num_key_value_heads),
    'olmoe.attention.layer_norm_rms_epsilon': { type: 'float32', value: c.rms_norm_eps },
    'olmoe.rope.freq_base': { type: 'float32', value: c.rope_theta },
    'olmoe.expert_count': uint32(c.num_experts),
    'olmoe.expert_used_count': uint32(c.num_experts_per_tok),
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: 'olmo' },
    'tokenizer.ggml.tokens': strings(Array.from({ length: c.vocab_size }, (_, i) => byteCharacters[i] ?? `t${i - 255}`)),
    'tokenizer.ggml.token_type': { type: 'int32s', value: new Array<number>(c.vocab_size).fill(1) },
    'tokenizer.ggml.merges': strings(['t 1']),
    'tokenizer.ggml.bos_token_id': uint32(0),
    'tokenizer.ggml.eos_token_id': uint32(0),
  }
}

/** Writes a random OLMoE model with every matrix in Q4_0, norms and router in F32. */
export async function writeRandomGguf(path: string, c: ModelConfig): Promise<{ sizeBytes: number }> {
  const { hidden_size: D, intermediate_size: F, num_experts: E, vocab_size: V } = c
  const B = (D / c.num_attention_heads) * c.num_key_value_heads
  // Blocks of the pool end with their scale, those of GGUF begin with it.
  const pool = randomPool('q4', { bytes: 18, scales: 2 })
  const turned = Buffer.concat([pool.subarray(16), pool.subarray(0, 16)])
  let index = 0
  const tensor = (name: string, type: GgufType, ...shape: number[]): GgufTensor => {
    const seed = index++
    const floats = (): Uint8Array[] => [new Uint8Array(randomFloats(persistent(/norm/.test(name) ? `${name}.Norm` : name, shape)).buffer)]
    return { name: `${name}.weight`, type, shape, data: () => (type === 'F32' ? floats() : stretch(turned, 18, seed, ggufTensorBytes(type, shape))) }
  }
  const layers = Array.from({ length: c.num_hidden_layers }, (_, i) => {
    const at = (name: string): string => `blk.${i}.${name}`
    return [
      tensor(at('attn_norm'), 'F32', D), tensor(at('attn_q'), 'Q4_0', D, D), tensor(at('attn_k'), 'Q4_0', B, D), tensor(at('attn_v'), 'Q4_0', B, D),
      tensor(at('attn_q_norm'), 'F32', D), tensor(at('attn_k_norm'), 'F32', B), tensor(at('attn_output'), 'Q4_0', D, D), tensor(at('ffn_norm'), 'F32', D),
      tensor(at('ffn_gate_inp'), 'F32', E, D), tensor(at('ffn_gate_exps'), 'Q4_0', E, F, D), tensor(at('ffn_up_exps'), 'Q4_0', E, F, D), tensor(at('ffn_down_exps'), 'Q4_0', E, D, F),
    ]
  })
  return writeGguf(path, metadataOf(c), [tensor('token_embd', 'Q4_0', V, D), ...layers.flat(), tensor('output_norm', 'F32', D), tensor('output', 'Q4_0', V, D)])
}
