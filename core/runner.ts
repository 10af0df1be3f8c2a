/**
 * A runner: one process, one job, one backend, no database. It is forked by the core, told its job over the IPC channel, and
 * says what happens (core/shared/jobs.ts). When the channel closes, its core is gone: training saves a checkpoint and exits.
 */
import type { FromRunner, Job, ToRunner } from '#core/shared/jobs.ts'
import { toErrorData } from '#core/shared/errors.ts'
import { runAnalyzeJob, runRouteJob } from './runner/analyze-job.ts'
import type { JobContext } from './runner/context.ts'
import { runDevicesJob, runMeasureJob } from './runner/devices-job.ts'
import { runExportJob, runImportJob } from './runner/exchange-jobs.ts'
import { runEvaluateJob } from './runner/evaluate-job.ts'
import { runInferJob } from './runner/infer-job.ts'
import { runBuildMixJob, runPreviewFiltersJob } from './runner/mix-jobs.ts'
import { runProbeJob } from './runner/probe-job.ts'
import { runSampleMixJob } from './runner/sample-mix-job.ts'
import { runFetchJob, runFetchSampleJob, runLookJob } from './runner/source-jobs.ts'
import { runTrainJob } from './runner/train-job.ts'

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

async function runJob(job: Job, context: JobContext): Promise<'done' | 'stopped'> {
  switch (job.kind) {
    case 'sampleMix':
      return runSampleMixJob(job, context)
    case 'lookAtSource':
      return runLookJob(job, context)
    case 'fetchSource':
      return runFetchJob(job, context)
    case 'fetchSample':
      return runFetchSampleJob(job, context)
    case 'previewFilters':
      return runPreviewFiltersJob(job, context)
    case 'buildMix':
      return runBuildMixJob(job, context)
    case 'train':
      return runTrainJob(job, context)
    case 'importModel':
      return runImportJob(job, context)
    case 'exportModel':
      return runExportJob(job, context)
    case 'infer':
      return runInferJob(job, context)
    case 'analyze':
      return runAnalyzeJob(job, context)
    case 'route':
      return runRouteJob(job, context)
    case 'evaluate':
      return runEvaluateJob(job, context)
    case 'devices':
      return runDevicesJob(job, context)
    case 'measure':
      return runMeasureJob(job, context)
    case 'probe':
      return runProbeJob(job, context)
  }
}

function main(): void {
  const channel = openChannel()
  let stop: 'none' | 'save' | 'discard' = 'none'
  const listeners: ((message: ToRunner) => void)[] = []
  const context: JobContext = {
    send: (message) => channel.send(message, () => undefined),
    log: (level, text) => channel.send({ type: 'log', line: { at: Date.now(), level, text } }, () => undefined),
    stopRequest: () => stop,
    onMessage: (listener) => listeners.push(listener),
  }
  const finish = (message: FromRunner, code: number): void => channel.send(message, () => process.exit(code))

  // The core decides when a runner ends: a Ctrl-C in its terminal reaches both.
  process.on('SIGINT', () => undefined)
  process.on('SIGTERM', () => (stop = stop === 'none' ? 'save' : stop))
  channel.onClose(() => {
    if (stop === 'none') stop = 'save'
    listeners.forEach((listener) => listener({ type: 'stop', save: true }))
  })
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
    if (message.type === 'stop') stop = message.save && stop !== 'discard' ? 'save' : 'discard'
    listeners.forEach((listener) => listener(message))
  })
}

main()
