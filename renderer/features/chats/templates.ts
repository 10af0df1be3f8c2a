/** What each checkpoint's chats are rendered by, asked once: null is a base model, which continues text and has no system turn. */
import { reactive } from 'vue'
import { api } from '#renderer/client.ts'

export type TemplateFacts = { name: string; hasSystem: boolean } | null

const known = reactive(new Map<string, TemplateFacts>())
const asked = new Set<string>()

/** The facts of a checkpoint; undefined until they are known (or where the checkpoint is gone). */
export function templateOf(checkpointId: string | null | undefined): TemplateFacts | undefined {
  if (checkpointId == null) return undefined
  if (!known.has(checkpointId) && !asked.has(checkpointId)) {
    asked.add(checkpointId)
    api.chats.template({ checkpointId }).then(
      (template) => known.set(checkpointId, template),
      () => asked.delete(checkpointId),
    )
  }
  return known.get(checkpointId)
}
