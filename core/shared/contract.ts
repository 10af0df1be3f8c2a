/** The whole contract: what any client may call, whatever the transport. One property per noun, each from its own file. */
import { chatsContract } from './chats.ts'
import { checkpointsContract } from './checkpoints.ts'
import { devicesContract } from './devices.ts'
import { mixesContract } from './mixes.ts'
import { quickstartContract } from './quickstart.ts'
import { runsContract } from './runs.ts'
import { systemContract } from './system.ts'

export const contract = {
  chats: chatsContract,
  checkpoints: checkpointsContract,
  devices: devicesContract,
  mixes: mixesContract,
  quickstart: quickstartContract,
  runs: runsContract,
  system: systemContract,
}
