/**
 * A core in a process of its own, for tests that kill it. Arguments: library, resources, the run's config as JSON. Starts the run and
 * prints one line per step batch ("step N"), so that the test can choose when to kill.
 */
import { startCore } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import type { RunEvent } from '#core/shared/runs.ts'
import { runConfigSchema } from '#core/shared/runs.ts'

const [libraryPath, resourcesPath, config] = process.argv.slice(2) as [string, string, string]
const core = await startCore(nodeHost({ kind: 'test', libraryPath, resourcesPath }))
const run = await core.client.runs.create({ config: runConfigSchema.parse(JSON.parse(config)) })
console.log(`run ${run.id}`)
const events: AsyncIterable<RunEvent> = await core.client.runs.watch({ id: run.id })
for await (const event of events) if (event.type === 'steps') console.log(`step ${event.steps.at(-1)!.step}`)
