/** The text whose routing is looked at, and what is done to the router: kept while the workbench is open, and filled in by a chat. */
import { reactive } from 'vue'
import type { Intervention } from '#core/shared/analyses.ts'

export const draft = reactive({ checkpointId: '', text: '', continueTokens: 24, intervention: { off: [], force: [], topK: null } as Intervention })

type Place = Intervention['off'][number]
type Side = 'off' | 'force'

export const isIn = (list: readonly Place[], { layer, expert }: Place): boolean => list.some((one) => one.layer === layer && one.expert === expert)

/** Puts an expert into one of the two lists, out of the other, or out of this one where it is in it. */
export function toggle(side: Side, place: Place): void {
  const without = (list: readonly Place[]): Place[] => list.filter((one) => one.layer !== place.layer || one.expert !== place.expert)
  const { off, force } = draft.intervention
  const wasIn = isIn(draft.intervention[side], place)
  draft.intervention = { ...draft.intervention, off: without(off), force: without(force) }
  if (!wasIn) draft.intervention[side].push(place)
}

export const isChange = ({ off, force, topK }: Intervention): boolean => off.length + force.length > 0 || topK !== null
