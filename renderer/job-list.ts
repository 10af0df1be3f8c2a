/** A list of jobs of one kind, asked for anew when the connection opens, after every call, and while one of them runs. */
import { onBeforeUnmount, ref, watch, type Ref } from 'vue'
import { connection, errorData } from './client.ts'
import { notifyError } from './shell/notify.ts'

const pollMs = 700

export type JobList<Job> = {
  /** Null until the first answer. */
  jobs: Ref<Job[] | null>
  /** Does `work`, then asks for the list; an error is told. */
  told(work: () => Promise<unknown>): Promise<void>
}

/** `prepare` is what a page needs besides, whenever the connection opens. For the setup of a component. */
export function useJobList<Job extends { status: string }>(list: () => Promise<Job[]>, prepare: () => Promise<unknown>): JobList<Job> {
  const jobs = ref(null) as Ref<Job[] | null>
  const told = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work()
      jobs.value = await list()
    } catch (error) {
      notifyError(errorData(error))
    }
  }
  watch(() => connection.state, (state) => state === 'open' && void told(prepare), { immediate: true })
  const timer = setInterval(() => {
    if (connection.state === 'open' && jobs.value?.some(({ status }) => status === 'running')) void told(() => Promise.resolve())
  }, pollMs)
  onBeforeUnmount(() => clearInterval(timer))
  return { jobs, told }
}
