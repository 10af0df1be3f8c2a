/** A chat's messages as a tree: the branch that ends somewhere, what stands beside a message, and the newest end behind one. Nothing here changes a message. */
import type { Message } from './chats.ts'

type Node = Pick<Message, 'id' | 'parentId'>

/** The messages from the beginning to `leafId`. */
export function branchTo<M extends Node>(messages: readonly M[], leafId: string | null): M[] {
  const byId = new Map(messages.map((message) => [message.id, message]))
  const branch: M[] = []
  for (let at = leafId === null ? undefined : byId.get(leafId); at !== undefined; at = at.parentId === null ? undefined : byId.get(at.parentId)) branch.push(at)
  return branch.reverse()
}

/** The messages that follow the same one, this one among them, in the order they were said. */
export const besides = <M extends Node>(messages: readonly M[], { parentId }: Node): M[] => messages.filter((message) => message.parentId === parentId)

/**
 * The last of the messages that follow this one, theirs, and so on to the end of a branch. Of replies those by `checkpointId` go first, so that a
 * column stays with its own where two checkpoints have answered.
 */
export function newestEnd(messages: readonly (Node & Pick<Message, 'role' | 'checkpointId'>)[], id: string, checkpointId: string): string {
  const children = new Map<string, { id: string; isOwn: boolean }>()
  for (const { id: child, parentId, role, checkpointId: writer } of messages) {
    const isOwn = role === 'user' || writer === checkpointId
    if (parentId !== null && (isOwn || children.get(parentId)?.isOwn !== true)) children.set(parentId, { id: child, isOwn })
  }
  let end = id
  for (let next = children.get(end); next !== undefined; next = children.get(end)) end = next.id
  return end
}

/** Every end of a branch, oldest first. */
export function leaves<M extends Node>(messages: readonly M[]): M[] {
  const parents = new Set(messages.map(({ parentId }) => parentId))
  return messages.filter(({ id }) => !parents.has(id))
}
