/** The window loads its own page and nothing else. */
import { describe, expect, test } from 'vitest'
import { contentSecurityPolicy, mayNavigate, mayOpenOutside, pageUrl } from '#electron/policy.ts'

describe('navigation', () => {
  test.each([pageUrl, 'app://workbench/index.html#/runs/1', 'app://workbench/'])('to %s is allowed', (url) => {
    expect(mayNavigate(url)).toBe(true)
  })

  test.each(['https://example.org/', 'file:///etc/passwd', 'app://elsewhere/index.html', 'app://workbench.example.org/', 'javascript:alert(1)', 'data:text/html,hi', '', 'not a url'])(
    'to %j is refused',
    (url) => expect(mayNavigate(url)).toBe(false),
  )
})

describe('links to the outside', () => {
  test('are web pages', () => expect(mayOpenOutside('https://example.org/paper')).toBe(true))

  test.each(['http://example.org/', 'file:///etc/passwd', 'smb://host/share', 'https://user:secret@example.org/', 'app://workbench/', 'vscode://open'])('never %s', (url) => {
    expect(mayOpenOutside(url)).toBe(false)
  })
})

test('scripts come from the app alone, and nothing is allowed that is not named', () => {
  expect(contentSecurityPolicy).toContain("default-src 'none'; script-src 'self';")
  expect(contentSecurityPolicy).not.toMatch(/unsafe-eval|\*|https?:|wss?:/)
})
