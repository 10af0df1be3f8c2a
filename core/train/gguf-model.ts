/**
 * OLMoE in GGUF, both ways: which key holds which field of the configuration, which tensor which of the model's, and how a tokenizer
 * stands there (reference §7.1). llama.cpp's architecture `olmoe` is the judge of all three. It rotates as we do, so queries and keys
 * are not permuted. Only OLMoE as published has a place there: variants of the family are refused.
 */
import { newTokenizerJson, mergeParts, type TokenizerJson } from '#core/data/tokenizer-json.ts'
import type { GgufValue } from '#core/formats/gguf.ts'
import type { GgufFile } from '#core/formats/gguf-read.ts'
import { AppError } from '#core/shared/errors.ts'
import { isOlmoe, modelConfigSchema, type ModelConfig } from '#core/shared/models.ts'

const single: Record<string, string> = { 'model.embed_tokens': 'token_embd', 'model.norm': 'output_norm', lm_head: 'output' }
const ofLayer: Record<string, string> = {
  input_layernorm: 'attn_norm', 'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm', 'self_attn.k_norm': 'attn_k_norm', post_attention_layernorm: 'ffn_norm', 'mlp.gate': 'ffn_gate_inp',
}
const ofExpert: Record<string, string> = { gate_proj: 'ffn_gate_exps', up_proj: 'ffn_up_exps', down_proj: 'ffn_down_exps' }

/** Where a tensor with a Hugging Face name lies: a GGUF tensor, and which matrix of it. Null for a name that OLMoE does not have. */
export function ggufPlace(name: string): { name: string; index: number } | null {
  const stem = name.replace(/\.weight$/, '')
  if (stem in single) return { name: `${single[stem]}.weight`, index: 0 }
  const [, layer, part] = /^model\.layers\.(\d+)\.(.+)$/.exec(stem) ?? []
  if (part === undefined) return null
  if (part in ofLayer) return { name: `blk.${layer}.${ofLayer[part]}.weight`, index: 0 }
  const [, expert, matrix] = /^mlp\.experts\.(\d+)\.(\w+)$/.exec(part) ?? []
  return matrix !== undefined && matrix in ofExpert ? { name: `blk.${layer}.${ofExpert[matrix]}.weight`, index: Number(expert) } : null
}

/** Field of our configuration → key under `olmoe.`, and whether it is a count. */
const keys: [keyof ModelConfig, string, 'uint32' | 'float32'][] = [
  ['num_hidden_layers', 'block_count', 'uint32'],
  ['max_position_embeddings', 'context_length', 'uint32'],
  ['hidden_size', 'embedding_length', 'uint32'],
  ['intermediate_size', 'feed_forward_length', 'uint32'],
  ['num_attention_heads', 'attention.head_count', 'uint32'],
  ['num_key_value_heads', 'attention.head_count_kv', 'uint32'],
  ['rms_norm_eps', 'attention.layer_norm_rms_epsilon', 'float32'],
  ['rope_theta', 'rope.freq_base', 'float32'],
  ['num_experts', 'expert_count', 'uint32'],
  ['num_experts_per_tok', 'expert_used_count', 'uint32'],
]

/** Metadata of a model. Throws `export.notOlmoe` for what llama.cpp's olmoe does not compute. */
export function ggufMetadata(config: ModelConfig, tokenizer: TokenizerJson, name: string, chatTemplate: string | null): Record<string, GgufValue> {
  const refuse = (field: string, found: unknown, expected: unknown): never => {
    throw new AppError('export.notOlmoe', `${field} is ${String(found)}, expected ${String(expected)}`, { params: { field, found: String(found), expected: String(expected) }, hint: 'This variant of the family has no place in that format. Export it as a bundle.' })
  }
  if (!isOlmoe(config)) refuse('the model', 'a variant of the family', 'OLMoE as published')
  if (config.norm_topk_prob) refuse('norm_topk_prob', true, false)
  if (config.num_key_value_heads !== config.num_attention_heads) refuse('num_key_value_heads', config.num_key_value_heads, `${config.num_attention_heads}, one for each head (llama.cpp normalises keys over the whole width)`)
  const metadata: Record<string, GgufValue> = { 'general.architecture': { type: 'string', value: 'olmoe' }, 'general.name': { type: 'string', value: name } }
  for (const [field, key, type] of keys) metadata[`olmoe.${key}`] = { type, value: config[field] as number }
  return { ...metadata, ...ggufTokenizer(config, tokenizer), ...(chatTemplate !== null && { 'tokenizer.chat_template': { type: 'string', value: chatTemplate } }) }
}

const tokenTypes = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const

/** The tokenizer's keys. Rows of the embedding that no token names are filled up with unused ones, as llama.cpp counts rows by tokens. */
function ggufTokenizer(config: ModelConfig, json: TokenizerJson): Record<string, GgufValue> {
  const tokens = Array.from({ length: config.vocab_size }, (_, id) => `[PAD${id}]`)
  const types = new Array<number>(config.vocab_size).fill(tokenTypes.unused)
  const put = (id: number, token: string, type: number): void => {
    if (id >= config.vocab_size) throw new AppError('model.vocabularyTooSmall', `the tokenizer has id ${id}, the model ${config.vocab_size} rows`, { params: { id, rows: config.vocab_size }, hint: 'Use the tokenizer that the model was trained with.' })
    tokens[id] = token
    types[id] = type
  }
  for (const [token, id] of Object.entries(json.model.vocab)) put(id, token, tokenTypes.normal)
  for (const { id, content, special } of json.added_tokens) put(id, content, special ? tokenTypes.control : tokenTypes.userDefined)
  const id = (key: string, value: number | null): Record<string, GgufValue> => (value === null ? {} : { [`tokenizer.ggml.${key}`]: { type: 'uint32', value } })
  return {
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: 'olmo' },
    'tokenizer.ggml.tokens': { type: 'strings', value: tokens },
    'tokenizer.ggml.token_type': { type: 'int32s', value: types },
    'tokenizer.ggml.merges': { type: 'strings', value: json.model.merges.map((merge) => mergeParts(merge).join(' ')) },
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: false },
    ...id('bos_token_id', config.eos_token_id),
    ...id('eos_token_id', config.eos_token_id),
    ...id('padding_token_id', config.pad_token_id),
  }
}

function invalid(file: GgufFile, field: string, what: string): AppError {
  return new AppError('model.invalid', `${file.path}: ${field}: ${what}`, { params: { file: file.path, field }, hint: 'Only GGUF files of the architecture olmoe can be opened.' })
}

function stringsAt(file: GgufFile, key: string): string[] {
  const value = file.metadata.get(key)
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) throw invalid(file, key, 'expected a list of strings')
  return value
}

/** The configuration that a file states. Throws `model.invalid` naming the key. */
export function readGgufConfig(file: GgufFile): ModelConfig {
  const architecture = file.metadata.get('general.architecture')
  if (architecture !== 'olmoe') throw invalid(file, 'general.architecture', `is ${JSON.stringify(architecture ?? null)}, expected "olmoe"`)
  const fields: Record<string, unknown> = { vocab_size: stringsAt(file, 'tokenizer.ggml.tokens').length }
  for (const [field, key] of keys) fields[field] = file.metadata.get(`olmoe.${key}`)
  fields.eos_token_id = file.metadata.get('tokenizer.ggml.eos_token_id') ?? null
  fields.pad_token_id = file.metadata.get('tokenizer.ggml.padding_token_id') ?? null
  // float32 in the file: the decimal that was meant is the shortest one that rounds to it.
  for (const field of ['rms_norm_eps', 'rope_theta']) if (typeof fields[field] === 'number') fields[field] = Number(fields[field].toPrecision(7))
  const parsed = modelConfigSchema.safeParse(fields)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  const key = keys.find(([field]) => field === issue.path[0])?.[1]
  throw invalid(file, key === undefined ? issue.path.join('.') : `olmoe.${key}`, issue.message)
}

/** The tokenizer that a file holds. Throws `model.invalid` when it is not a byte-level BPE with the GPT-2 word pattern. */
export function readGgufTokenizer(file: GgufFile): TokenizerJson {
  const [model, pre] = [file.metadata.get('tokenizer.ggml.model'), file.metadata.get('tokenizer.ggml.pre')]
  if (model !== 'gpt2') throw invalid(file, 'tokenizer.ggml.model', `is ${JSON.stringify(model ?? null)}, expected "gpt2"`)
  if (typeof pre !== 'string' || !['olmo', 'gpt-2', 'gpt2', 'default'].includes(pre)) throw invalid(file, 'tokenizer.ggml.pre', `is ${JSON.stringify(pre ?? null)}, expected "olmo" or "gpt-2"`)
  const tokens = stringsAt(file, 'tokenizer.ggml.tokens')
  const types = (file.metadata.get('tokenizer.ggml.token_type') ?? []) as readonly number[]
  const merges = stringsAt(file, 'tokenizer.ggml.merges').map(mergeParts)
  const json = newTokenizerJson([], merges, [])
  const typeOf = (id: number): number => types[id] ?? tokenTypes.normal
  json.model.vocab = Object.fromEntries(tokens.flatMap((token, id) => (typeOf(id) === tokenTypes.normal ? [[token, id]] : [])))
  json.added_tokens = tokens.flatMap((content, id) => {
    const special = typeOf(id) === tokenTypes.control
    return special || typeOf(id) === tokenTypes.userDefined ? [{ id, content, single_word: false as const, lstrip: false as const, rstrip: false as const, normalized: false, special }] : []
  })
  return json
}

/** The chat template of a file, or null. */
export function readGgufChatTemplate(file: GgufFile): string | null {
  const template = file.metadata.get('tokenizer.chat_template')
  return typeof template === 'string' ? template : null
}
