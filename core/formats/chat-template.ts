/**
 * The chat template that a model was adapted with, in its folder: chat_template.json for us, tokenizer_config.json with the same in Jinja for
 * other tools. A model without one is a base model.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chatTemplateSchema, toJinja, type ChatTemplate } from '#core/shared/chat-templates.ts'

export const chatTemplateFile = 'chat_template.json'
export const tokenizerConfigFile = 'tokenizer_config.json'

/** The template of a model folder; null when it has none (or one that is not ours). */
export function readChatTemplate(folder: string): ChatTemplate | null {
  const path = join(folder, chatTemplateFile)
  if (!existsSync(path)) return null
  const parsed = chatTemplateSchema.safeParse(JSON.parse(readFileSync(path, 'utf8')))
  return parsed.success ? parsed.data : null
}

/** The files that carry a template, by name. */
export function chatTemplateFiles(template: ChatTemplate, eosToken: string): Record<string, string> {
  const config = { tokenizer_class: 'PreTrainedTokenizerFast', eos_token: eosToken, add_bos_token: false, clean_up_tokenization_spaces: false, chat_template: toJinja(template) }
  return { [chatTemplateFile]: `${JSON.stringify(template, null, 2)}\n`, [tokenizerConfigFile]: `${JSON.stringify(config, null, 2)}\n` }
}
