/** Calls on conversations: the templates that there are, and what a run would see of its data. */
import { join } from 'node:path'
import { previewConversations } from '#core/data/conversations/preview.ts'
import { adaptationPaths, readTemplates, requireTemplate } from '#core/data/conversations/resources.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { readChatTemplate } from '#core/formats/chat-template.ts'
import { api } from '../api.ts'
import { requireCheckpoint } from '../checkpoints/checkpoints.ts'
import { checkpointsFolder } from '../services.ts'

export const conversationsRouter = api.conversations.router({
  templates: api.conversations.templates.handler(({ context }) => readTemplates(context.host.resourcesPath)),

  preview: api.conversations.preview.handler(({ input: { checkpointId, stage, sequenceLength, adaptation }, context }) => {
    const { model } = requireCheckpoint(context, checkpointId)
    const folder = join(checkpointsFolder(context.host), checkpointId)
    const { resourcesPath } = context.host
    return previewConversations({
      stage,
      paths: adaptationPaths(adaptation.data, resourcesPath),
      settings: adaptation,
      tokenizer: loadTokenizer(join(folder, 'tokenizer.json')),
      template: requireTemplate(adaptation.template, readChatTemplate(folder), resourcesPath),
      eosId: model.eos_token_id ?? 0,
      sequenceLength,
    })
  }),
})
