/**
 * The built page as responses: the file a path stands for, its type and headers. A path that leaves the folder or names a
 * hidden file is none of ours; a path without an extension is a place inside the page, so it gets the page.
 */
import { readFile, stat } from 'node:fs/promises'
import { extname, join, normalize, sep } from 'node:path'

const contentTypes: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff': 'font/woff',
  '.woff2': 'font/woff2',
}

export type PageFile = { body: Buffer; contentType: string; cacheControl: string }

/** The file that the page's server gives for a URL path; null when there is none. */
export async function readPageFile(folder: string, urlPath: string): Promise<PageFile | null> {
  const path = decode(urlPath)
  if (path === null || path.includes('\0') || path.split('/').some((part) => part.startsWith('.'))) return null
  const wanted = normalize(join(folder, path))
  if (wanted !== normalize(folder) && !wanted.startsWith(normalize(folder).replace(/[\\/]$/, '') + sep)) return null
  const isPlace = extname(path) === ''
  const file = isPlace ? join(folder, 'index.html') : wanted
  const found = await stat(file).catch(() => null)
  if (found === null || !found.isFile()) return null
  return {
    body: await readFile(file),
    contentType: contentTypes[extname(file)] ?? 'application/octet-stream',
    // The bundler puts a hash of the content into the names under assets/.
    cacheControl: path.startsWith('/assets/') ? 'private, max-age=31536000, immutable' : 'no-cache',
  }
}

function decode(path: string): string | null {
  try {
    return decodeURIComponent(path)
  } catch {
    return null
  }
}

/** Headers of everything this server says. `host` is the request's, which was checked. */
export function securityHeaders(host: string): Record<string, string> {
  return {
    'Content-Security-Policy': [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self' data:",
      "font-src 'self'",
      `connect-src 'self' ws://${host}`,
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    ...commonHeaders,
  }
}

export const commonHeaders: Record<string, string> = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
}
