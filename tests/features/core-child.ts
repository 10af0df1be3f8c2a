/** A core in a process of its own, to be killed: starts one run on the library given and tells its id. */
import { startCore } from '#core/main.ts'
import { hostOn } from './host.ts'
import { recipe } from './recipe.ts'

const [path, steps, seed] = process.argv.slice(2)
const core = await startCore(hostOn(path!))
const run = await core.client.runs.create({ config: recipe({ steps: Number(steps), seed: Number(seed) }) })
process.send!(run.id)
