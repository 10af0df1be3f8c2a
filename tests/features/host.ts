/** A host on a given folder whose runners follow a script. Free of vitest: a child process uses it too. */
import { join } from 'node:path'
import { nodeHost } from '#core/node-host.ts'
import type { Host } from '#core/shared/host.ts'

export function hostOn(path: string, log: string[] = []): Host {
  return nodeHost({
    kind: 'test',
    libraryPath: path,
    resourcesPath: join(path, 'resources'),
    runnerPath: join(import.meta.dirname, 'fake-runner.ts'),
    log: (level, text) => log.push(`${level} ${text}`),
  })
}
