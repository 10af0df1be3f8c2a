/**
 * A runner: one process, one job, one backend, no database. It is forked by the core, told its job over the IPC channel, and
 * says what happens (core/shared/jobs.ts). When the channel closes, its core is gone: training saves a checkpoint and exits.
 */
import type { FromRunner, Job, ToRunner } from '#core/shared/jobs.ts'
import { toErrorData } from '#core/shared/errors.ts'
import type { JobContext } from './runner/context.ts'

/** A port to the core: Node's IPC channel, or Electron's parent port. */
type Channel = {
  send(message: FromRunner, sent: () => void): void
  onMessage(listener: (message: ToRunner) => void): void
  onClose(listener: () => void): void
}

type ParentPort = { postMessage(message: unknown): void; on(event: 'message', listener: (event: { data: unknown }) => void): void }

function openChannel(): Channel {
  const parentPort = (process as { parentPort?: ParentPort }).parentPort
  if (parentPort) {
    return {
      send: (message, sent) => {
        parentPort.postMessage(message)
        sent()
      },
      onMessage: (listener) => parentPort.on('message', (event) => listener(event.data as ToRunner)),
      // Electron ends utility processes with their parent; there is no close event to hear.
      onClose: () => undefined,
    }
  }
  if (!process.send) throw new Error('core/runner.ts is started by the core, not by hand')
  return {
    send: (message, sent) => {
      if (process.connected) process.send!(message, undefined, undefined, () => sent())
      else sent()
    },
    onMessage: (listener) => process.on('message', (message) => listener(message as ToRunner)),
    onClose: (listener) => process.once('disconnect', listener),
  }
}

/** A process does one job, so it loads the code of that one. */
async function runJob(job: Job, context: JobContext): Promise<'done' | 'stopped'> {
  switch (job.kind) {
    case 'sampleMix':
      return (await import('./runner/sample-mix-job.ts')).runSampleMixJob(job, context)
    case 'lookAtSource':
      return (await import('./runner/source-jobs.ts')).runLookJob(job, context)
    case 'fetchSource':
      return (await import('./runner/source-jobs.ts')).runFetchJob(job, context)
    case 'fetchSample':
      return (await import('./runner/source-jobs.ts')).runFetchSampleJob(job, context)
    case 'previewFilters':
      return (await import('./runner/mix-jobs.ts')).runPreviewFiltersJob(job, context)
    case 'buildMix':
      return (await import('./runner/mix-jobs.ts')).runBuildMixJob(job, context)
    case 'train':
      return (await import('./runner/train-job.ts')).runTrainJob(job, context)
    case 'cluster':
      return (await import('./runner/cluster-job.ts')).runClusterJob(job, context)
    case 'importModel':
      return (await import('./runner/exchange-jobs.ts')).runImportJob(job, context)
    case 'exportModel':
      return (await import('./runner/exchange-jobs.ts')).runExportJob(job, context)
    case 'infer':
      return (await import('./runner/infer-job.ts')).runInferJob(job, context)
    case 'analyze':
      return (await import('./runner/analyze-job.ts')).runAnalyzeJob(job, context)
    case 'route':
      return (await import('./runner/analyze-job.ts')).runRouteJob(job, context)
    case 'evaluate':
      return (await import('./runner/evaluate-job.ts')).runEvaluateJob(job, context)
    case 'devices':
      return (await import('./runner/devices-job.ts')).runDevicesJob(job, context)
    case 'measure':
      return (await import('./runner/devices-job.ts')).runMeasureJob(job, context)
    case 'probe':
      return (await import('./runner/probe-job.ts')).runProbeJob(job, context)
  }
}

function main(): void {
  const channel = openChannel()
  let stop: 'none' | 'save' | 'discard' = 'none'
  const listeners: ((message: ToRunner) => void)[] = []
  // What comes while the job's code is being loaded, or right behind the start, waits for it.
  const early: ToRunner[] = []
  const tell = (message: ToRunner): void => {
    if (message.type === 'stop') stop = message.save && stop !== 'discard' ? 'save' : 'discard'
    if (listeners.length === 0) early.push(message)
    else listeners.forEach((listener) => listener(message))
  }
  const context: JobContext = {
    send: (message) => channel.send(message, () => undefined),
    log: (level, text) => channel.send({ type: 'log', line: { at: Date.now(), level, text } }, () => undefined),
    stopRequest: () => stop,
    onMessage: (listener) => {
      listeners.push(listener)
      early.splice(0).forEach(listener)
    },
  }
  const finish = (message: FromRunner, code: number): void => channel.send(message, () => process.exit(code))

  // The core decides when a runner ends: a Ctrl-C in its terminal reaches both.
  process.on('SIGINT', () => undefined)
  process.on('SIGTERM', () => tell({ type: 'stop', save: true, detach: true }))
  channel.onClose(() => tell({ type: 'stop', save: true, detach: true }))
  channel.onMessage((message) => {
    if (message.type === 'start') {
      runJob(message.job, context).then(
        (outcome) => finish({ type: 'end', outcome }, 0),
        (error: unknown) => {
          const data = toErrorData(error)
          if (data.code === 'internal' && error instanceof Error) process.stderr.write(`${error.stack ?? error.message}\n`)
          finish({ type: 'failed', error: data }, 1)
        },
      )
      return
    }
    tell(message)
  })
}

main()
