/**
 * Messages between the core and a runner process. A runner does one job, holds one backend, and never opens the database;
 * the core writes what the runner says. Both ends are ours, so these are types without run-time checks.
 *
 * A runner whose channel to the core closes saves a checkpoint (training) and exits: the core finds it on its next start.
 */
import type { AnalysisSpec, Intervention, RoutedText } from './analyses.ts'
import type { TaskResult } from './evaluations.ts'
import type { FilterPreview } from './builds.ts'
import type { CheckpointManifest } from './checkpoints.ts'
import type { CompletionEnd, CompletionRequest, ReadPrompt, ScoredToken } from './completions.ts'
import type { DeviceInfo, Measured, MemoryPlan, ProbeResult } from './devices.ts'
import type { ExportRequest, ExportResult, ImportRequest } from './exchange.ts'
import type { ErrorData } from './errors.ts'
import type { Mix, MixSpec } from './mixes.ts'
import type { RunChange, Sample } from './run-control.ts'
import type { LogLine, Phase, RunConfig, RunDevice, StepRecord } from './runs.ts'
import type { DownloadRequest, SourceReport, SourceSpec } from './sources.ts'

/** Where a runner finds things; absolute paths. */
export type JobPaths = { library: string; resources: string }

/** Which kernels were measured to be fastest, by device and driver, as JSON of the backend's: with the same choice a run computes the same bits again. */
export type KernelChoices = Record<string, string>

/** A checkpoint (or any model folder) of an analysis. */
export type AnalysedCheckpoint = { id: string; folder: string; label: string; step: number | null }

export type Job =
  /** Sample data, tokenizer, token files, as far as they are missing. */
  | { kind: 'sampleMix'; paths: JobPaths; vocabularySize: number }
  /** Reads a source through: first rows at once, then everything. */
  | { kind: 'lookAtSource'; paths: JobPaths; spec: SourceSpec }
  /** Downloads what is missing into `folder`. */
  | { kind: 'fetchSource'; paths: JobPaths; request: DownloadRequest; folder: string; hub: string; token: string | null }
  /** Fetches the sample texts where they are missing. */
  | { kind: 'fetchSample'; paths: JobPaths }
  /** What the filters of `spec` do to the first documents of each source. */
  | { kind: 'previewFilters'; paths: JobPaths; spec: MixSpec; textBytes: number | null }
  /** Builds a mix of files, going on where an earlier build of the same was stopped. */
  /** `textBytes`: of all sources, where all were read through; it tells how far reading is. */
  | { kind: 'buildMix'; paths: JobPaths; spec: MixSpec; textBytes: number | null }
  /** `mixId` is null for an adaptation, which reads conversations. `resumeFrom`: the checkpoint to go on from, null to start at step 0. */
  | { kind: 'train'; paths: JobPaths; runId: string; mixId: string | null; config: RunConfig; resumeFrom: string | null; codeVersion: string; peakFlopsPerSecond: number | null; kernels: KernelChoices }
  /** Has a cluster train the run, and follows it. `begin`: from where it `stands`, at checkpoint `from` if that is given; else a job under way is picked up. */
  | { kind: 'cluster'; paths: JobPaths; runId: string; mixId: string; config: RunConfig; begin: boolean; from: string | null; stands: { step: number; tokens: number; seconds: number }; codeVersion: string }
  /** Makes checkpoint `checkpointId` of run `runId`; a repository is downloaded into `folder` first. A bundle brings its own ids. */
  | { kind: 'importModel'; paths: JobPaths; request: ImportRequest; folder: string; hub: string; token: string | null; runId: string; checkpointId: string; codeVersion: string }
  /** `bundle`: what goes into one; `records` is the folder in which the core has put what it knows. */
  | { kind: 'exportModel'; paths: JobPaths; request: ExportRequest; bundle: { records: string; runId: string; checkpointIds: string[]; codeVersion: string } | null }
  /** Loads one checkpoint and answers `generate` until stopped. */
  | { kind: 'infer'; paths: JobPaths; checkpointId: string }
  /** Analyses routing, or switches experts off one by one, into `analyses/<analysisId>/`. */
  | { kind: 'analyze'; paths: JobPaths; analysisId: string; request: Pick<AnalysisSpec, 'kind' | 'data' | 'sequenceLength'> & { model: AnalysedCheckpoint; against: AnalysedCheckpoint[] } }
  /** Routes one text, as it is and under an intervention. */
  | { kind: 'route'; paths: JobPaths; model: AnalysedCheckpoint; text: string; intervention: Intervention | null; continueTokens: number }
  /** Measures one checkpoint by the tasks in these files. */
  | { kind: 'evaluate'; paths: JobPaths; checkpointId: string; taskFiles: string[]; limit: number | null }
  /** Lists the devices of the machine. */
  | { kind: 'devices'; paths: JobPaths }
  /** Measures one device. */
  | { kind: 'measure'; paths: JobPaths; deviceId: string; kernels: KernelChoices }
  /** Trains on random tokens for a moment: does the recipe fit there, and how fast is it? */
  | { kind: 'probe'; paths: JobPaths; config: RunConfig; peakFlopsPerSecond: number | null; kernels: KernelChoices }

export type ToRunner =
  | { type: 'start'; job: Job }
  /** Training: finish the step, write a checkpoint when `save`, then exit. Others: exit. `detach`: what works on a cluster goes on there. */
  | { type: 'stop'; save: boolean; detach?: boolean }
  | { type: 'generate'; requestId: string; request: CompletionRequest }
  | { type: 'cancel'; requestId: string }
  /** Training: holds from the next step on; answered by `changed`. */
  | { type: 'change'; change: RunChange }

/** What an `infer` job says of a request. `prompt`: that of one that asked for it back. */
export type FromReply = { requestId: string } & (
  | { type: 'prompt'; prompt: ReadPrompt }
  | { type: 'tokens'; tokens: ScoredToken[]; text: string }
  | ({ type: 'generated' } & CompletionEnd)
  | { type: 'requestFailed'; error: ErrorData }
)

export type FromRunner =
  | { type: 'phase'; phase: Phase }
  | { type: 'log'; line: LogLine }
  | { type: 'steps'; steps: StepRecord[] }
  /** The recipe from `step` on. */
  | { type: 'changed'; change: RunChange; step: number; config: RunConfig }
  /** The recipe completed by what the data says, before the first step. */
  | { type: 'recipe'; config: RunConfig }
  /** `index`: which prompt of the recipe. */
  | { type: 'sample'; index: number; sample: Sample }
  /** A checkpoint folder is in place and verified. */
  | { type: 'checkpoint'; manifest: CheckpointManifest }
  | { type: 'exported'; result: ExportResult }
  | { type: 'mix'; mix: Mix }
  | { type: 'report'; report: SourceReport }
  | { type: 'filterPreview'; preview: FilterPreview }
  /** An analysis is written; tokens that it counted. */
  | { type: 'analysed'; tokens: number }
  | { type: 'routed'; plain: RoutedText; changed: RoutedText | null }
  /** The device is open. */
  | { type: 'device'; device: RunDevice }
  /** Kernels were chosen by measuring; to be given to later jobs. */
  | { type: 'kernels'; key: string; choice: string }
  /** Devices found so far; a later message replaces an earlier one, so that those before a crash are known. */
  | { type: 'devices'; devices: DeviceInfo[] }
  | { type: 'measured'; measured: Measured }
  /** A probe: what the recipe needs, then how it went. */
  | { type: 'memory'; memory: MemoryPlan }
  | { type: 'probed'; result: ProbeResult }
  /** A task of an `evaluate` job is done. */
  | { type: 'evaluated'; result: TaskResult }
  /** The model of an `infer` job is loaded. */
  | { type: 'ready' }
  /** News of requests that came up at the same time, in their order: a message for each would wake the core for each. */
  | { type: 'replies'; replies: FromReply[] }
  /** The job's end; the process exits after it. `stopped`: ended early on request. */
  | { type: 'end'; outcome: 'done' | 'stopped' }
  | { type: 'failed'; error: ErrorData }
