/** Lineage: what came from what, from the sources of a mix to the checkpoints of runs and the runs that start from those. A query, stored nowhere. */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { idSchema } from './common.ts'

export const lineageNodeSchema = z.object({
  /** `kind:id`, unique in the graph. */
  key: z.string(),
  kind: z.enum(['source', 'mix', 'run', 'checkpoint']),
  id: z.string(),
  name: z.string(),
  /** What tells it from its like: a licence, tokens, a status, a step. */
  detail: z.record(z.string(), z.union([z.string(), z.number()])),
})
export type LineageNode = z.infer<typeof lineageNodeSchema>

export const lineageSchema = z.object({
  nodes: z.array(lineageNodeSchema),
  edges: z.array(z.object({ from: z.string(), to: z.string() })),
})
export type Lineage = z.infer<typeof lineageSchema>

/** The part of a graph that `key` comes from or leads to. */
export function relativesOf({ nodes, edges }: Lineage, key: string): Lineage {
  const reach = (end: 'from' | 'to', start: 'from' | 'to'): Set<string> => {
    const found = new Set([key])
    const queue = [key]
    for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
      for (const edge of edges) {
        if (edge[start] !== at || found.has(edge[end])) continue
        queue.push(edge[end])
        found.add(edge[end])
      }
    }
    return found
  }
  const kept = new Set([...reach('from', 'to'), ...reach('to', 'from')])
  return { nodes: nodes.filter((node) => kept.has(node.key)), edges: edges.filter(({ from, to }) => kept.has(from) && kept.has(to)) }
}

export const lineageContract = {
  /** Of one run, or of the whole library. */
  graph: oc.input(z.object({ runId: idSchema.nullable() })).output(lineageSchema),
}
