/** What a checkpoint is called in a chat, and which of its layers have experts. */
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { moeLayers } from '#core/shared/models.ts'

type Translate = (key: string, values: Record<string, string | number>) => string

export function nameOfCheckpoint(checkpoints: readonly Checkpoint[], id: string | null | undefined, t: Translate): string {
  const found = checkpoints.find((checkpoint) => checkpoint.id === id)
  return found ? t('chat.checkpointName', { run: found.runName, step: found.step }) : t('chat.checkpointGone', {})
}

/** The model's layers that have experts, which the layers of its tokens are; none of a checkpoint that is gone. */
export function layersOfCheckpoint(checkpoints: readonly Checkpoint[], id: string | null): number[] {
  const model = checkpoints.find((one) => one.id === id)?.model
  return model ? moeLayers(model) : []
}
