/**
 * What the window may load, as pure functions: the one address of the page, the files behind it, the headers they carry.
 * Everything else is refused. No Electron here, so that tests run it without a binary.
 */
import { extname, join, normalize, sep } from 'node:path'

/** The scheme and host the page is served under; nothing listens on the network for it. */
export const pageScheme = 'app'
export const pageOrigin = `${pageScheme}://workbench`
export const pageUrl = `${pageOrigin}/index.html`

/** Scripts, styles and connections only from and to the app itself. */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

const contentTypes: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
  '.ico': 'image/x-icon',
}

/** Whether the window may navigate to `url`: only within the page it shows. */
export function mayNavigate(url: string): boolean {
  const parsed = URL.parse(url)
  return parsed !== null && parsed.protocol === `${pageScheme}:` && parsed.host === 'workbench'
}

/** Whether `url` may be handed to the system's browser when the user clicks it: plain web pages without credentials. */
export function mayOpenOutside(url: string): boolean {
  const parsed = URL.parse(url)
  return parsed !== null && parsed.protocol === 'https:' && parsed.username === '' && parsed.password === ''
}

/** The file under `folder` that `url` stands for; undefined when it is not the page's or would leave the folder. */
export function fileOf(url: string, folder: string): string | undefined {
  if (!mayNavigate(url)) return undefined
  const path = decode(new URL(url).pathname)
  if (path === undefined || path.includes('\0')) return undefined
  const file = normalize(join(folder, path === '/' ? 'index.html' : path))
  return file.startsWith(folder + sep) ? file : undefined
}

function decode(path: string): string | undefined {
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}

/** The headers of a file of the page. */
export function headersOf(file: string): Record<string, string> {
  return {
    'Content-Type': contentTypes[extname(file)] ?? 'application/octet-stream',
    'Content-Security-Policy': contentSecurityPolicy,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
  }
}
