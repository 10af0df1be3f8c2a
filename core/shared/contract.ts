/** The whole contract: what any client may call, whatever the transport. One property per noun, each from its own file. */
import { analysesContract } from './analyses.ts'
import { apiServerContract } from './api-server.ts'
import { buildsContract } from './builds.ts'
import { chatsContract } from './chats.ts'
import { checkpointsContract } from './checkpoints.ts'
import { clustersContract } from './clusters.ts'
import { conversationsContract } from './conversations.ts'
import { devicesContract } from './devices.ts'
import { exchangeContract } from './exchange.ts'
import { estimatesContract } from './estimates.ts'
import { evaluationsContract } from './evaluations.ts'
import { experimentsContract } from './experiments.ts'
import { lineageContract } from './lineage.ts'
import { mixesContract } from './mixes.ts'
import { quickstartContract } from './quickstart.ts'
import { runsContract } from './runs.ts'
import { sourcesContract } from './sources.ts'
import { systemContract } from './system.ts'
import { tokenizersContract } from './tokenizers.ts'

export const contract = {
  analyses: analysesContract,
  apiServer: apiServerContract,
  builds: buildsContract,
  chats: chatsContract,
  checkpoints: checkpointsContract,
  clusters: clustersContract,
  conversations: conversationsContract,
  devices: devicesContract,
  estimates: estimatesContract,
  exchange: exchangeContract,
  evaluations: evaluationsContract,
  experiments: experimentsContract,
  lineage: lineageContract,
  mixes: mixesContract,
  quickstart: quickstartContract,
  runs: runsContract,
  sources: sourcesContract,
  system: systemContract,
  tokenizers: tokenizersContract,
}
