/** Builds the lineage graph from the rows that name their parents: mixes their sources, runs their mix and start, checkpoints their run. */
import { relativesOf, type Lineage, type LineageNode } from '#core/shared/lineage.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { listMixes } from '#core/store/mixes.ts'
import type { ReadableStore } from '#core/store/open.ts'
import { findRun, listRuns } from '#core/store/runs.ts'
import { api } from '../api.ts'
import { runNotFound } from '../services.ts'

export const lineageRouter = api.lineage.router({
  graph: api.lineage.graph.handler(({ input: { runId }, context: { store } }) => {
    if (runId === null) return wholeLineage(store)
    if (findRun(store, runId) === null) throw runNotFound(runId)
    return relativesOf(wholeLineage(store), `run:${runId}`)
  }),
})

export function wholeLineage(store: ReadableStore): Lineage {
  const nodes = new Map<string, LineageNode>()
  const edges: Lineage['edges'] = []
  const add = (kind: LineageNode['kind'], id: string, name: string, detail: LineageNode['detail']): string => {
    const key = `${kind}:${id}`
    if (!nodes.has(key)) nodes.set(key, { key, kind, id, name, detail })
    return key
  }
  for (const mix of listMixes(store)) {
    const own = add('mix', mix.id, mix.name, { tokens: mix.trainTokens })
    for (const { name, licence } of mix.domains) edges.push({ from: add('source', name, name, { licence }), to: own })
  }
  const runs = listRuns(store)
  for (const run of runs) {
    const own = add('run', run.id, run.name, { status: run.status, step: run.step, stage: run.config.stage })
    if (run.mixId !== null) edges.push({ from: add('mix', run.mixId, run.mixId, {}), to: own })
  }
  for (const { id, runId, step, valid } of listCheckpoints(store, null)) {
    edges.push({ from: `run:${runId}`, to: add('checkpoint', id, String(step), { step, state: valid ? 'whole' : 'damaged' }) })
  }
  for (const { id, config } of runs) {
    // A checkpoint that was removed since is still what the run came from.
    if (config.startFrom !== null) edges.push({ from: add('checkpoint', config.startFrom.checkpointId, config.startFrom.checkpointId, { state: 'removed' }), to: `run:${id}` })
  }
  return { nodes: [...nodes.values()], edges }
}
