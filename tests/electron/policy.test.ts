/** The window loads its own page and nothing else. */
import { join, sep } from 'node:path'
import { describe, expect, test } from 'vitest'
import { contentSecurityPolicy, fileOf, headersOf, mayNavigate, mayOpenOutside, pageUrl } from '#electron/policy.ts'

const folder = join(sep, 'opt', 'workbench', 'out', 'renderer')

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

describe('files of the page', () => {
  test.each([
    [pageUrl, 'index.html'],
    ['app://workbench/', 'index.html'],
    ['app://workbench/assets/main-1a2b.js?v=1#top', join('assets', 'main-1a2b.js')],
    ['app://workbench/assets/a%20b.svg', join('assets', 'a b.svg')],
  ])('%s', (url, file) => expect(fileOf(url, folder)).toBe(join(folder, file)))

  test.each([
    'app://workbench/..%2f..%2fmain%2fcore.js',
    'app://workbench/assets/%2e%2e%2f%2e%2e%2f%2e%2e%2fpackage.json',
    'app://workbench/..%2frenderer-other%2fx.js',
    'app://workbench/%00',
    'app://workbench/%E0%A4%A',
    'app://elsewhere/index.html',
    'https://workbench/index.html',
  ])('%s stands for none', (url) => expect(fileOf(url, folder)).toBeUndefined())
})

test('every file carries the content security policy, and scripts come from the app alone', () => {
  expect(headersOf('x/index.html')).toMatchObject({ 'Content-Type': 'text/html; charset=utf-8', 'Content-Security-Policy': contentSecurityPolicy })
  expect(headersOf('x/unknown.bin')['Content-Type']).toBe('application/octet-stream')
  expect(contentSecurityPolicy).toContain("default-src 'none'; script-src 'self';")
  expect(contentSecurityPolicy).not.toContain('unsafe-eval')
})
