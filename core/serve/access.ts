/**
 * Who may use the served workbench. A link carries a token that works once and buys a session cookie; scripts use the API key.
 * All are 256 random bits, made at each launch, held in memory only, and compared in constant time. Also: which names this
 * server answers to, so that no other page can reach it through a name of its own (DNS rebinding) or the user's cookie.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { hostname, networkInterfaces } from 'node:os'

const newSecret = (): string => randomBytes(32).toString('base64url')
const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
const isSame = (given: string, secret: Buffer): boolean => timingSafeEqual(digest(given), secret)

/** What became of a token: it bought a session, it had been used before, it is wrong, or too many wrong ones came. */
export type Exchange = { outcome: 'session'; session: string } | { outcome: 'used' | 'wrong' | 'throttled' }

export type Access = {
  /** The token that works now. */
  readonly token: string
  readonly apiKey: string
  exchange(token: string): Exchange
  /** A new token beside the sessions there are; the unused one before it is void. */
  renewToken(): string
  hasSession(session: string | undefined): boolean
  isApiKey(secret: string): boolean
  hasApiKey(request: IncomingMessage): boolean
}

const mostWrongPerMinute = 20

export function createAccess(now: () => number = () => performance.now()): Access {
  const apiKey = newSecret()
  const sessions: Buffer[] = []
  const used: Buffer[] = []
  let token = newSecret()
  let wrongAt: number[] = []

  return {
    get token() {
      return token
    },
    apiKey,
    exchange(given) {
      wrongAt = wrongAt.filter((at) => now() - at < 60_000)
      if (wrongAt.length >= mostWrongPerMinute) return { outcome: 'throttled' }
      if (isSame(given, digest(token))) {
        used.push(digest(token))
        token = newSecret()
        const session = newSecret()
        sessions.push(digest(session))
        return { outcome: 'session', session }
      }
      if (used.some((secret) => isSame(given, secret))) return { outcome: 'used' }
      wrongAt.push(now())
      return { outcome: 'wrong' }
    },
    renewToken: () => (token = newSecret()),
    hasSession: (session) => session !== undefined && sessions.some((secret) => isSame(session, secret)),
    isApiKey: (secret) => isSame(secret, digest(apiKey)),
    hasApiKey(request) {
      const given = /^Bearer ([A-Za-z0-9_-]+)$/.exec(request.headers.authorization ?? '')?.[1]
      return given !== undefined && isSame(given, digest(apiKey))
    },
  }
}

/** The token in whatever was pasted: the token itself, or a link (or a line) that has one. */
export function findToken(text: string): string | undefined {
  return /token=([A-Za-z0-9_-]+)/.exec(text)?.[1] ?? /^\s*([A-Za-z0-9_-]{20,})\s*$/.exec(text)?.[1]
}

/** The value of a cookie of a request. */
export function readCookie(request: IncomingMessage, name: string): string | undefined {
  for (const part of (request.headers.cookie ?? '').split(';')) {
    const [key, value] = part.trim().split('=', 2)
    if (key === name) return value
  }
  return undefined
}

export const isLoopback = (address: string): boolean => address === 'localhost' || address === '::1' || /^127\.\d+\.\d+\.\d+$/.test(address)

/** The Host headers that mean this server, listening on `address`. */
export function ownHosts(address: string, port: number): Set<string> {
  const names = new Set(['127.0.0.1', 'localhost', '::1', address.toLowerCase()])
  if (address === '0.0.0.0' || address === '::') {
    names.add(hostname().toLowerCase())
    for (const found of Object.values(networkInterfaces()).flat()) if (found !== undefined) names.add(found.address)
  }
  const hosts = [...names].map((name) => (name.includes(':') ? `[${name}]` : name))
  return new Set(hosts.flatMap((name) => (port === 80 ? [name, `${name}:80`] : [`${name}:${port}`])))
}
