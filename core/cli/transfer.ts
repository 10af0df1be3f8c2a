/** Follows an import or export of a core to its end, with progress on stderr; an interrupt stops it and leaves nothing half. */
import type { Core } from '#core/main.ts'
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import type { Transfer } from '#core/shared/exchange.ts'
import type { Context } from './command.ts'
import { onInterrupt } from './core.ts'

export async function followTransfer(core: Core, start: () => Promise<Transfer>, context: Context): Promise<Transfer> {
  const events = await core.client.exchange.watch()
  const { id } = await start()
  const release = onInterrupt(() => void core.client.exchange.stop({ id }))
  try {
    for await (const transfer of events) {
      if (transfer.id !== id) continue
      const { phase, state, error } = transfer
      if (phase !== null) context.progress(`${phase.phase}: ${phase.done}${phase.total === null ? '' : ` of ${phase.total}`} ${phase.unit}${phase.etaSeconds === null ? '' : `, ${Math.ceil(phase.etaSeconds)} s left`}`)
      if (state === 'failed') throw fromErrorData(error!)
      if (state === 'stopped') throw new AppError('exchange.stopped', 'stopped; nothing was kept but what was downloaded', { hint: 'The same command begins again.' })
      if (state === 'done') return transfer
    }
    throw new Error(`the events of transfer ${id} ended before it did`)
  } finally {
    release()
  }
}
