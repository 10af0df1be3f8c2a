/** A Hugging Face folder of a small random model with a tokenizer of its own: what exports and imports are tried on. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { elementCount } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { loadTokenizer, serializeTokenizer } from '#core/data/tokenizer.ts'
import { writeSafetensors } from '#core/formats/safetensors.ts'
import { declareWeights, huggingFaceParts, initialValues } from '#core/model/parameters.ts'
import { modelConfigSchema, type ModelConfig } from '#core/shared/models.ts'
import { optimizerSchema } from '#core/shared/runs.ts'
import { microBatchesOf, nextTokenRows } from '#core/train/batch.ts'
import { huggingFaceConfig } from '#core/train/model-source.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { drawWeights, writeWeights } from '#core/train/weights.ts'

export const smallConfig: ModelConfig = modelConfigSchema.parse({
  vocab_size: 512, hidden_size: 64, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 4, num_experts: 8, num_experts_per_tok: 2,
  max_position_embeddings: 256, initializer_range: 0.3, eos_token_id: 0, pad_token_id: 1,
})

const text = 'The experts of a layer are chosen by a router; each token reaches a few of them. Déjà vu, 数据, and code: if (x > 0) { return [1, 2] }\n'

async function writeFolder(folder: string, config: ModelConfig): Promise<void> {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'config.json'), JSON.stringify(huggingFaceConfig(config, 'float32')))
  writeFileSync(join(folder, 'tokenizer.json'), serializeTokenizer(await trainTokenizer([text, text.toUpperCase(), `${text} ${text}`], { vocabularySize: 400 })))
}

/** Random weights: every expert is reached, nothing is sure. */
export async function writeSmallModel(folder: string, config = smallConfig): Promise<void> {
  await writeFolder(folder, config)
  const tensors = huggingFaceParts(config, declareWeights(config)).flatMap(({ tensor, parts }) => {
    const values = new Float32Array(elementCount(tensor))
    initialValues(config, tensor, 7)(values)
    return parts.map(({ name, shape, elementOffset }) => ({ name, shape, data: () => values.subarray(elementOffset, elementOffset + elementCount(shape)) }))
  })
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, { format: 'pt' })
}

/** Trained until it knows the text by heart: its greedy continuation has margins that rounding does not cross. */
export async function writeTrainedModel(folder: string): Promise<void> {
  const config = { ...smallConfig, initializer_range: 0.05 }
  await writeFolder(folder, config)
  const [rows, sequence] = [4, 64]
  const ids = loadTokenizer(join(folder, 'tokenizer.json')).encode(text.repeat(8))
  const backend = createCpuBackend({})
  const trainer = await createTrainer(backend, {
    model: config, sequenceLength: sequence, sequencesPerMicroBatch: rows, microBatchesPerStep: 1, loadBalanceWeight: 0.01, routerZWeight: 0.001,
    optimizer: optimizerSchema.parse({}),
  })
  await drawWeights(backend, config, trainer.weights, 7)
  for (let step = 1; step <= 60; step++) {
    const batch = Int32Array.from({ length: rows * sequence }, (_, t) => ids[(step * 13 + Math.floor(t / sequence) * 29 + (t % sequence)) % ids.length]!)
    await trainer.accumulate(microBatchesOf(nextTokenRows(batch, sequence), batch.length))
    await trainer.update(5e-3, step)
  }
  await writeWeights(backend, config, trainer.weights, join(folder, 'model.safetensors'))
  await backend.close()
}
