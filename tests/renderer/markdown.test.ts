/** Markdown of replies: no markup of the writer's gets through, links are of the web only, and text that streams does not change its look behind the reader. */
import { expect, test } from 'vitest'
import { renderMarkdown, settled } from '#renderer/ui/markdown.ts'

test.each([
  '<script>alert(1)</script>', '<img src=x onerror=alert(1)>', '<a href="javascript:alert(1)">x</a>', '<iframe srcdoc="<script>alert(1)</script>"></iframe>', '<svg/onload=alert(1)>', '<style>*{display:none}</style>',
  '[x](javascript:alert(1))', '[x](JaVaScRiPt:alert(1))', '[x](&#106;avascript:alert(1))', '[x](vbscript:x)', '[x](data:text/html,<script>alert(1)</script>)', '[x](file:///etc/passwd)', '[x](//evil.example/a)',
  '![x](javascript:alert(1))', '![x](https://evil.example/pixel.png)', '<javascript:alert(1)>', '[x]: javascript:alert(1)\n\n[x]', '`<script>`', '```html\n<script>alert(1)</script>\n```', '<details open ontoggle=alert(1)>',
])('hostile: %s', (text) => {
  const html = renderMarkdown(text)
  const tags = [...html.matchAll(/<\/?([a-z0-9]+)/gi)].map(([, tag]) => tag!)
  expect(tags.filter((tag) => !['p', 'a', 'code', 'pre'].includes(tag))).toEqual([])
  for (const [, href] of html.matchAll(/href="([^"]*)"/g)) expect(href).toMatch(/^https?:/)
  expect(html).not.toMatch(/<[^>]*\son\w+=/i)
})

test('links open elsewhere and tell nothing; pictures are links; columns keep their side', () => {
  expect(renderMarkdown('[a](https://a.example) https://b.example')).toBe('<p><a href="https://a.example" target="_blank" rel="noopener noreferrer">a</a> <a href="https://b.example" target="_blank" rel="noopener noreferrer">https://b.example</a></p>\n')
  expect(renderMarkdown('![a "b"](https://a.example/x.png)')).toBe('<p><a href="https://a.example/x.png" target="_blank" rel="noopener noreferrer">a &quot;b&quot;</a></p>\n')
  expect(renderMarkdown('|a|b|\n|-|-:|\n|1|2|')).toContain('<td align="right">2</td>')
  expect(renderMarkdown('|a|\n|:-:|\n|1|')).not.toContain('style')
})

const reply = `# A title

Some **bold words**, *leaning ones*, \`code\` and ~~struck~~ with [a link](https://a.example/page) in 2 * 3 = 6.
A second line, snake_case_name.

- one **item**
- two
  - deeper

1. first
2. second

> quoted

---

| name | value |
| --- | ---: |
| a | 1 |
| b | 2 |

\`\`\`python
x = "**not bold**"
\`\`\`

The end.`

const textOf = (html: string): string => html.replace(/<[^>]*>/g, '').replace(/&\w+;/g, '?')
const blocksOf = (html: string): string[] => [...html.matchAll(/<(p|h\d|ul|ol|li|blockquote|hr|table|tr|pre)\b/g)].map(([, tag]) => tag!)

test('while it streams, no mark shows before its end is there, and no block becomes another', () => {
  let before: string[] = []
  for (let n = 1; n <= reply.length; n++) {
    const html = renderMarkdown(settled(reply.slice(0, n)))
    const outsideCode = html.replace(/<(pre|code)\b[\s\S]*?<\/\1>/g, '')
    expect(textOf(outsideCode), reply.slice(0, n).slice(-30)).not.toMatch(/\*\*|\]\(|`|~~|^#|\n[|>]|\[a link|\[a$/m)
    const blocks = blocksOf(html)
    expect(blocks.slice(0, before.length), reply.slice(0, n).slice(-30)).toEqual(before)
    before = blocks
  }
  expect(renderMarkdown(settled(reply))).toBe(renderMarkdown(reply))
})

test.each(['a * b', '2 < 3 **', 'snake_case and __init__', 'f(x_1, x_2)', '`unfinished', '[1] note', '\\*literal', '```', '', '\n\n', '|', '5.'])('a text that ends oddly is no error: %j', (text) => {
  expect(() => renderMarkdown(settled(text))).not.toThrow()
})
