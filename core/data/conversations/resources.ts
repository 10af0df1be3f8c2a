/** What came with the workbench for adaptation: built-in sets and chat templates, by name. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { builtInSets } from '#core/shared/adaptation.ts'
import { chatTemplateSchema, type ChatTemplate } from '#core/shared/chat-templates.ts'
import { AppError } from '#core/shared/errors.ts'

const isBuiltIn = (name: string): boolean => (builtInSets as readonly string[]).includes(name)

/** Names of built-in sets as the paths of their files; paths as they are. */
export function adaptationPaths(data: readonly string[], resources: string): string[] {
  return data.map((name) => (isBuiltIn(name) ? join(resources, 'adaptation', `${name}.jsonl`) : name))
}

/** All templates that came with the workbench, by name. */
export function readTemplates(resources: string): ChatTemplate[] {
  const folder = join(resources, 'chat-templates')
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).filter((name) => name.endsWith('.json')).sort()
  return names.map((name) => chatTemplateSchema.parse(JSON.parse(readFileSync(join(folder, name), 'utf8'))))
}

export const defaultTemplate = 'olmoe'

/** The template of a recipe: written out, named, or null for `saved`, that of the model. Throws adaptation.noTemplate. */
export function requireTemplate(wanted: ChatTemplate | string | null, saved: ChatTemplate | null, resources: string): ChatTemplate {
  if (wanted !== null && typeof wanted !== 'string') return wanted
  if (wanted === null && saved !== null) return saved
  const templates = readTemplates(resources)
  const found = templates.find(({ name }) => name === (wanted ?? defaultTemplate))
  if (found) return found
  throw new AppError('adaptation.noTemplate', `adaptation.template: there is no template ${wanted ?? defaultTemplate}`, {
    params: { found: wanted ?? defaultTemplate, expected: templates.map(({ name }) => name).join(', ') },
    hint: 'Name one of those that there are, or write the template out.',
  })
}
