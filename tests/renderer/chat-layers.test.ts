/** Layers of a chat's tokens are the model's: with experts in every second layer, the first row of a token is layer 1. */
import { expect, test } from 'vitest'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { layersOfCheckpoint } from '#renderer/features/chats/names.ts'
import { tinyConfig } from '../runs/tiny-library.ts'

test('rows of a token are the layers that have experts', () => {
  const { model } = tinyConfig()
  const every = (step: number, num_experts = model.num_experts) => ({ id: `${step}-${num_experts}`, model: { ...model, num_hidden_layers: 4, decoder_sparse_step: step, num_experts } }) as Checkpoint
  const all = [every(1), every(2), every(1, 0)]
  expect(layersOfCheckpoint(all, all[0]!.id)).toEqual([0, 1, 2, 3])
  expect(layersOfCheckpoint(all, all[1]!.id)).toEqual([1, 3])
  expect(layersOfCheckpoint(all, all[2]!.id)).toEqual([])
  expect(layersOfCheckpoint(all, 'gone')).toEqual([])
})
