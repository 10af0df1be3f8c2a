/** What checkpoints are called on the pages of the experts. For the setup of a component. */
import { useI18n } from 'vue-i18n'
import { useCheckpoints } from '#renderer/features/checkpoints/store.ts'
import { useFormat } from '#renderer/format.ts'

/** Run and step of a checkpoint; of one that is gone, that it is. */
export function useCheckpointNames(): (id: string) => string {
  const { t } = useI18n()
  const f = useFormat()
  const checkpoints = useCheckpoints()
  return (id) => {
    const found = checkpoints.all.find((one) => one.id === id)
    return found ? t('chat.checkpointName', { run: found.runName, step: f.count(found.step) }) : t('analyses.gone')
  }
}
