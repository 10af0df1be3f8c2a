/** The first conversations as a run would see them: encoded with its tokenizer and template, decoded again piece by piece. */
import type { AdaptationConfig, AdaptationStage } from '#core/shared/adaptation.ts'
import type { ChatTemplate } from '#core/shared/chat-templates.ts'
import type { ConversationsPreview } from '#core/shared/conversations.ts'
import type { Tokenizer } from '../tokenizer.ts'
import { createEncoder, encodeInstances, type Sequence } from './encode.ts'
import { openConversations } from './files.ts'

const shownInstances = 8

function pieces({ ids, loss }: Sequence, tokenizer: Tokenizer): { text: string; loss: boolean }[] {
  const parts: { ids: number[]; loss: boolean }[] = []
  ids.forEach((id, t) => {
    if (parts.at(-1)?.loss === loss[t]) parts.at(-1)!.ids.push(id)
    else parts.push({ ids: [id], loss: loss[t]! })
  })
  return parts.map((part) => ({ text: tokenizer.decode(part.ids), loss: part.loss }))
}

export type PreviewOptions = { stage: AdaptationStage; paths: readonly string[]; settings: AdaptationConfig; tokenizer: Tokenizer; template: ChatTemplate; eosId: number; sequenceLength: number }

/** Reads as far as needed. Throws what openConversations throws, and source.badRow for a bad row among the first. */
export async function previewConversations({ stage, paths, settings, tokenizer, template, eosId, sequenceLength }: PreviewOptions): Promise<ConversationsPreview> {
  const { mapping, fields, examples } = await openConversations(paths, settings.mapping, settings.skipBadRows)
  const instances: ConversationsPreview['instances'] = []
  let tooLong = 0
  for await (const { sequences, desirable } of encodeInstances(stage, examples(), createEncoder(tokenizer, template, eosId))) {
    if (sequences.some(({ ids }) => ids.length > sequenceLength)) tooLong++
    instances.push({ sequences: sequences.map((sequence) => pieces(sequence, tokenizer)), tokens: sequences.map(({ ids }) => ids.length), desirable })
    if (instances.length >= shownInstances) break
  }
  return { mapping, fields, instances, tooLong }
}
