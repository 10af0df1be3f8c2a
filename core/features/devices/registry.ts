/**
 * The devices of the machine as this core knows them: listed once per start, measured when something asks and remembered by
 * device and driver. Measuring and probing take turns, since two at once would both be wrong, and make room for a training.
 * A list that cannot be had costs the share-of-peak curve and the choice of a card, nothing else.
 */
import type { DeviceInfo, DeviceList, Measured } from '#core/shared/devices.ts'
import { AppError, toErrorData } from '#core/shared/errors.ts'
import type { FromRunner, Job } from '#core/shared/jobs.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { readKernelChoices, readMeasured, rememberMeasured } from '#core/store/devices.ts'
import { jobPaths, type Services } from '../services.ts'
import { startShortJob, type ShortJob } from './short-job.ts'

export type Devices = {
  /** What has been listed so far, with what is known of its speed; null until then. */
  known(): DeviceInfo[] | null
  list(options: { refresh: boolean }): Promise<DeviceList>
  /** Measures a device now. Throws devices.notFound, and what the job throws. */
  measure(id: string): Promise<DeviceInfo>
  /** Multiply-add peak of a recipe's device in FLOP/s, measured if it never was; null when it cannot be had. */
  peak(choice: Pick<RunConfig, 'device' | 'adapter'>): Promise<number | null>
  /** Lists the devices and measures the CPU, once per start and in the background. */
  warmUp(): void
  /** Runs a probe when nothing is measured or probed; `start` is called when its turn has come. */
  probe(start: () => ShortJob): Promise<void>
  /** Ends the probe under way: a training begins. */
  makeRoom(): void
  close(): void
}

const listLimitMs = 20_000
const measureLimitMs = 60_000

/** A new driver, or more cores for the CPU, may be faster. */
const memoryKey = ({ id, name, driver, architecture, threads }: DeviceInfo): string => JSON.stringify([id, name, driver, architecture, threads])

export function createDevices(services: Pick<Services, 'host' | 'store'>): Devices {
  const { host, store } = services
  const paths = jobPaths(host)
  const measuring = new Map<string, Promise<DeviceInfo>>()
  let listed: DeviceInfo[] | null = null
  let listing: Promise<DeviceList> | null = null
  const underWay = new Set<ShortJob>()
  let probing: ShortJob | null = null
  let closed = false
  let warming: Promise<unknown> | null = null
  let turn: Promise<unknown> = Promise.resolve()

  function withMeasured(devices: DeviceInfo[]): DeviceInfo[] {
    const all = readMeasured(store)
    return devices.map((device) => ({ ...device, measured: all[memoryKey(device)] ?? null }))
  }

  async function look(): Promise<DeviceList> {
    let found: DeviceInfo[] = []
    let problem: DeviceList['problem'] = null
    const onMessage = (message: FromRunner): void => {
      if (message.type === 'devices') found = message.devices
    }
    try {
      await finish(startShortJob(services, { kind: 'devices', paths }, listLimitMs, onMessage))
    } catch (error) {
      // What was found before a driver crashed stands.
      if (found.length === 0) throw error
      problem = toErrorData(error)
    }
    listed = found
    return { devices: found, problem }
  }

  async function list({ refresh }: { refresh: boolean }): Promise<DeviceList> {
    if (refresh || listing === null) {
      const mine = look()
      listing = mine
      mine.catch(() => (listing = listing === mine ? null : listing))
    }
    const { devices, problem } = await listing
    return { devices: withMeasured(devices), problem }
  }

  function finish(job: ShortJob): Promise<void> {
    underWay.add(job)
    return job.done.finally(() => underWay.delete(job))
  }

  function inTurn(start: () => ShortJob): Promise<void> {
    const own = turn.then(() => {
      if (closed) throw interrupted()
      return finish(start())
    })
    turn = own.catch(() => undefined)
    return own
  }

  async function measureNow(id: string): Promise<DeviceInfo> {
    const { devices } = await list({ refresh: false })
    const device = devices.find((one) => one.id === id)
    if (device === undefined) throw notFound(id)
    let measured: Measured | null = null
    const job: Job = { kind: 'measure', paths, deviceId: id, kernels: readKernelChoices(store) }
    await inTurn(() => startShortJob(services, job, measureLimitMs, (message) => message.type === 'measured' && (measured = message.measured)))
    if (measured === null) throw new Error(`the measuring of ${id} ended without a number`)
    rememberMeasured(store, memoryKey(device), measured)
    return { ...device, measured }
  }

  function measure(id: string): Promise<DeviceInfo> {
    const under = measuring.get(id)
    if (under !== undefined) return under
    const own = measureNow(id).finally(() => measuring.delete(id))
    measuring.set(id, own)
    return own
  }

  async function peak({ device, adapter }: Parameters<Devices['peak']>[0]): Promise<number | null> {
    try {
      const { devices } = await list({ refresh: false })
      const wanted = devices.find(({ id, kind }) => kind === device && (device === 'cpu' || adapter === null || id === adapter))
      if (wanted === undefined) return null
      return (wanted.measured ?? (await measure(wanted.id)).measured)?.flopsPerSecond ?? null
    } catch (error) {
      if (!closed) host.log('warning', `the device ${adapter ?? device} was not measured: ${toErrorData(error).message}`)
      return null
    }
  }

  return {
    known: () => listed && withMeasured(listed),
    list,
    measure,
    probe: (start) => inTurn(() => (probing = start())),
    peak,
    warmUp: () => void (warming ??= peak({ device: 'cpu', adapter: null })),
    makeRoom: () => probing?.interrupt(interrupted()),
    close() {
      closed = true
      for (const job of underWay) job.interrupt(interrupted())
    },
  }
}

const notFound = (id: string): AppError =>
  new AppError('devices.notFound', `There is no device ${id}`, { params: { id }, hint: 'Look for devices again: it may have been removed, or its driver changed.' })

const interrupted = (): AppError => new AppError('devices.interrupted', 'A training began, or the workbench is closing', { hint: 'Ask again when nothing is training.' })
