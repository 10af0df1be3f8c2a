/** Every migration in order; the database's user_version is how many of them it has had. Never edit one that was released: add the next. */
import { first } from './0001-first.ts'
import { runningOn } from './0002-running-on.ts'
import { sourcesAndBuilds } from './0003-sources-and-builds.ts'
import { runsAtScale } from './0004-runs-at-scale.ts'
import { analyses } from './0005-analyses.ts'
import { evaluations } from './0006-evaluations.ts'
import { chatBranches } from './0007-chat-branches.ts'

export const migrations: readonly string[] = [first, runningOn, sourcesAndBuilds, runsAtScale, analyses, evaluations, chatBranches]
