/**
 * Where the window may go and what its page may do, as pure functions: the one address of the page, its policy, the links
 * that leave it. Everything else is refused. No Electron here, so that tests run it without a binary.
 */
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
