/**
 * Messages between the core and a runner process. A runner does one job, holds one backend, and never opens the database;
 * the core writes what the runner says. Both ends are ours, so these are types without run-time checks.
 *
 * A runner whose channel to the core closes saves a checkpoint (training) and exits: the core finds it on its next start.
 */
import type { Sampling, Token } from './chats.ts'
import type { CheckpointManifest } from './checkpoints.ts'
import type { ErrorData } from './errors.ts'
import type { Mix } from './mixes.ts'
import type { LogLine, Phase, RunConfig, StepRecord } from './runs.ts'
import type { About } from './system.ts'

/** Where a runner finds things; absolute paths. */
export type JobPaths = { library: string; resources: string }

export type Job =
  /** Sample data, tokenizer, token files, as far as they are missing. */
  | { kind: 'sampleMix'; paths: JobPaths; vocabularySize: number }
  /** `resumeFrom`: the checkpoint to go on from, null to start at step 0. */
  | { kind: 'train'; paths: JobPaths; runId: string; mixId: string; config: RunConfig; resumeFrom: string | null; codeVersion: string; peakFlopsPerSecond: number | null }
  /** Loads one checkpoint and answers `generate` until stopped. */
  | { kind: 'infer'; paths: JobPaths; checkpointId: string }
  /** Measures the machine. */
  | { kind: 'probe'; paths: JobPaths }

export type ToRunner =
  | { type: 'start'; job: Job }
  /** Training: finish the step, write a checkpoint when `save`, then exit. Others: exit. */
  | { type: 'stop'; save: boolean }
  /** `prompt` is tokenized by the checkpoint's tokenizer; with none of its own text the model starts from EOS. */
  | { type: 'generate'; requestId: string; prompt: string; sampling: Sampling & { seed: number } }
  | { type: 'cancel'; requestId: string }

export type FromRunner =
  | { type: 'phase'; phase: Phase }
  | { type: 'log'; line: LogLine }
  | { type: 'steps'; steps: StepRecord[] }
  /** A checkpoint folder is in place and verified. */
  | { type: 'checkpoint'; manifest: CheckpointManifest }
  | { type: 'mix'; mix: Mix }
  | { type: 'probe'; cpu: About['cpu']; peakFlopsPerSecond: number }
  /** The model of an `infer` job is loaded. */
  | { type: 'ready' }
  | { type: 'tokens'; requestId: string; tokens: Token[] }
  | { type: 'generated'; requestId: string; end: 'length' | 'eos' | 'stopped'; tokensPerSecond: number; firstTokenMs: number }
  | { type: 'requestFailed'; requestId: string; error: ErrorData }
  /** The job's end; the process exits after it. `stopped`: ended early on request. */
  | { type: 'end'; outcome: 'done' | 'stopped' }
  | { type: 'failed'; error: ErrorData }
