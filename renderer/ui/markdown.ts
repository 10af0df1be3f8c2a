/**
 * Markdown as HTML text: no raw HTML, links to http, https and mail only, pictures as links (the page loads nothing from outside). What comes
 * out is cleaned again and put into the page node by node (MarkdownText.vue). `settled` is for text that is still being written.
 */
import MarkdownIt, { type Token } from 'markdown-it'

const markdown = new MarkdownIt({ html: false, linkify: true })
const allowed = /^(?:https?:|mailto:)/i
markdown.validateLink = (url) => allowed.test(url.trim())
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false })
const { escapeHtml } = markdown.utils

/** Links leave the page, which tells them nothing of itself. */
markdown.renderer.rules.link_open = (tokens, i, options, _env, self) => {
  tokens[i]!.attrSet('target', '_blank')
  tokens[i]!.attrSet('rel', 'noopener noreferrer')
  return self.renderToken(tokens, i, options)
}
markdown.renderer.rules.image = (tokens, i) => {
  const url = String(tokens[i]!.attrGet('src') ?? '')
  return `<a href="${escapeHtml(url)}" target="_blank" rel="noopener noreferrer">${escapeHtml(tokens[i]!.content || url)}</a>`
}
/** The page's policy takes no style attribute. */
for (const cell of ['th_open', 'td_open']) {
  markdown.renderer.rules[cell] = (tokens, i, options, _env, self) => {
    alignByAttribute(tokens[i]!)
    return self.renderToken(tokens, i, options)
  }
}
function alignByAttribute(token: Token): void {
  const align = /text-align:(\w+)/.exec(String(token.attrGet('style') ?? ''))?.[1]
  token.attrs = align === undefined ? null : [['align', align]]
}

/** The text as HTML. */
export const renderMarkdown = (text: string): string => markdown.render(text)

/** Whether the text ends inside a fenced block, and where its last paragraph outside of one begins. */
function lastParagraph(text: string): { isFenced: boolean; from: number } {
  let [fence, from, at] = ['', 0, 0]
  const lines = text.split('\n')
  for (const [i, line] of lines.entries()) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1] ?? ''
    if (fence === '') {
      fence = mark
      if ((line.trim() === '' && i < lines.length - 1) || mark !== '') from = Math.min(text.length, at + line.length + 1)
    } else if (mark.startsWith(fence) && line.trim() === mark) {
      fence = ''
      from = Math.min(text.length, at + line.length + 1)
    }
    at += line.length + 1
  }
  return { isFenced: fence !== '', from }
}

/** Emphasis and code that have begun, in order; `end` is where the text ends without marks that nothing follows yet. */
function openMarks(text: string): { open: string[]; end: number } {
  const open: { mark: string; after: number }[] = []
  const marks = /\\.|`+|\*\*|\*|__|_|~~/gs
  for (let found = marks.exec(text); found !== null; found = marks.exec(text)) {
    const mark = found[0]
    const after = found.index + mark.length
    const last = open.at(-1)?.mark
    if (mark.startsWith('\\') || (last?.startsWith('`') === true && mark !== last)) continue
    if (last === mark && !/\s/.test(text[found.index - 1] ?? ' ')) open.pop()
    else if ((after === text.length || !/\s/.test(text[after]!)) && !(mark.startsWith('_') && /\w/.test(text[found.index - 1] ?? ''))) open.push({ mark, after })
  }
  let end = text.length
  while (open.length > 0 && open.at(-1)!.after === end) end -= open.pop()!.mark.length
  return { open: open.map(({ mark }) => mark), end }
}

const onlyMarks = /^\s*(?:#{1,6}|[-*+_=~`>]+|`{3,}\S*|~{3,}\S*|\d{1,9}[.)]?|[-*+] ?\[?[ xX]?)\s*$/
const separatorRow = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/
const unfinishedLink = /!?\[([^[\]\n]*)(?:\](?:\([^)\n]*)?)?$/

/** The last paragraph as it will look: no mark of a block or link that may yet be one, and what has begun is ended. */
function settledParagraph(text: string): string {
  const lines = text.split('\n')
  const isTable = lines[0]!.trimStart().startsWith('|')
  if (isTable && (lines.length < 3 || !separatorRow.test(lines[1]!))) return ''
  if (onlyMarks.test(lines.at(-1)!)) lines.pop()
  const shown = lines.join('\n').replace(unfinishedLink, '$1')
  const { open, end } = openMarks(shown)
  const body = shown.slice(0, end)
  const trimmed = open.length > 0 && !open.at(-1)!.startsWith('`') ? body.trimEnd() : body
  return trimmed + open.reverse().join('')
}

/** A text that is still being written, without what would change its look with the next characters. */
export function settled(text: string): string {
  const { isFenced, from } = lastParagraph(text)
  if (isFenced) return text.replace(/\n[ ]{0,3}(?:`{1,2}|~{1,2})$/, '\n')
  return text.slice(0, from) + settledParagraph(text.slice(from))
}
