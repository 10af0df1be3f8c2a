/** What a checkpoint is called in a chat. */
import type { Checkpoint } from '#core/shared/checkpoints.ts'

type Translate = (key: string, values: Record<string, string | number>) => string

export function nameOfCheckpoint(checkpoints: readonly Checkpoint[], id: string | null | undefined, t: Translate): string {
  const found = checkpoints.find((checkpoint) => checkpoint.id === id)
  return found ? t('chat.checkpointName', { run: found.runName, step: found.step }) : t('chat.checkpointGone', {})
}
