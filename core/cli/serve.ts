/** `moe serve`: the workbench over HTTP on loopback, until Ctrl-C. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { existsSync } from 'node:fs'
import { nodeHost, productFolder } from '#core/node-host.ts'
import { serve } from '#core/serve.ts'
import { AppError } from '#core/shared/errors.ts'
import { numberOption, type Command } from './command.ts'

/** Opens `url` in the user's browser, if there is one to open; says nothing when there is not. */
function openBrowser(url: string): void {
  const [command, ...args] = process.platform === 'darwin' ? ['open', url] : process.platform === 'win32' ? ['cmd', '/c', 'start', '', url] : ['xdg-open', url]
  if (process.platform === 'linux' && !process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) return
  spawn(command!, args, { stdio: 'ignore', detached: true }).on('error', () => undefined).unref()
}

export const serveCommand: Command = {
  name: 'serve',
  summary: 'serve the workbench, and with --api models to OpenAI’s clients, on loopback; prints the address and a one-time token',
  usage: '[--port 0] [--host 127.0.0.1] [--api] [--no-open]',
  options: { port: { type: 'string' }, host: { type: 'string' }, api: { type: 'boolean' }, 'no-open': { type: 'boolean' } },
  help: { port: '0 = any free port (default 4317, or any when that is taken)', host: 'address to listen on (default 127.0.0.1)', api: 'answer the OpenAI-compatible API under /v1, for the key that is printed', 'no-open': 'do not open a browser' },
  async run({ values }, context): Promise<undefined> {
    const rendererPath = join(productFolder, 'out/renderer')
    if (!existsSync(join(rendererPath, 'index.html'))) throw new AppError('renderer.missing', 'the workbench’s pages are not built', { params: { folder: rendererPath }, hint: 'Run npm run build (npm start does it by itself).' })
    const served = await serve({
      port: values.port === undefined ? null : numberOption(values, 'port', 0, { min: 0, integer: true }),
      host: typeof values.host === 'string' ? values.host : '127.0.0.1',
      coreHost: nodeHost({ kind: 'serve', libraryPath: context.library }),
      rendererPath,
      api: values.api === true,
    })
    const { url, token, apiKey } = served
    process.stdout.write(context.json ? `${JSON.stringify({ url, token, apiKey })}\n` : `MoE Workbench is at ${url}\n(the link works once; Ctrl-C stops the workbench and saves what is running)\n`)
    if (!context.json && values.api === true) process.stdout.write(`The API is at ${new URL(url).origin}/v1, its key for this time is ${apiKey}\n`)
    if (!context.json && values['no-open'] !== true) openBrowser(url)
    await new Promise<void>((resolve) => {
      process.once('SIGINT', () => resolve())
      process.once('SIGTERM', () => resolve())
    })
    context.note('stopping …')
    await served.close()
    return undefined
  },
  words: () => '',
}
