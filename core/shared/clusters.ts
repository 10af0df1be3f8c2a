/**
 * Where one machine ends: a run that a Ray cluster trains, with transformers and PyTorch FSDP (resources/ray/train.py). The workbench writes a
 * job folder that both sides reach, submits the script to the cluster's job API, and takes numbers and checkpoints back from the folder.
 * Refused: what transformers' OLMoE does not compute, and stages that need more of a checkpoint than its weights.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { isOlmoe, type ModelConfig } from './models.ts'

export const clusterSchema = z.object({
  address: z.url({ protocol: /^https?$/ }).describe("of Ray's dashboard, which serves its job API"),
  workers: z.int().min(1).max(4096).default(1),
  gpusPerWorker: z.number().min(0).max(16).default(0).describe('0 = the CPU'),
  folder: z.string().trim().min(1).max(4000).describe('a folder of this machine that the cluster reaches too'),
  clusterFolder: z.string().trim().min(1).max(4000).nullable().default(null).describe('the same folder as the cluster names it; null = alike'),
  python: z.string().trim().min(1).max(1000).default('python').describe('starts Python with ray, torch and transformers on the cluster'),
})
export type Cluster = z.output<typeof clusterSchema>

type Recipe = { cluster: Cluster | null; stage: string; startFrom: { optimizer: boolean } | null; model: ModelConfig; sequencesPerStep: number; sequencesPerMicroBatch: number | null }

/** What keeps a recipe from being trained on its cluster, by field; null when nothing does. */
export function clusterProblem({ cluster, stage, startFrom, model, sequencesPerStep, sequencesPerMicroBatch }: Recipe): { path: string[]; message: string } | null {
  if (cluster === null) return null
  if (!['pretrain', 'continue', 'anneal'].includes(stage)) return { path: ['stage'], message: 'must be pretrain, continue or anneal on a cluster' }
  if (startFrom?.optimizer) return { path: ['startFrom', 'optimizer'], message: 'must be false: on a cluster a stage begins with moments of its own' }
  if (!isOlmoe(model) || model.num_experts === 0) return { path: ['model'], message: 'must be OLMoE as transformers knows it, without variants' }
  const micro = sequencesPerMicroBatch ?? sequencesPerStep
  if (micro % cluster.workers !== 0) return { path: ['cluster', 'workers'], message: `must divide the ${micro} sequences of a micro-batch` }
  return null
}

/** What a cluster answers. Sums are over the nodes that are alive; null where its dashboard does not tell. */
export const clusterAnswerSchema = z.object({ rayVersion: z.string(), nodes: z.int().nullable(), cpus: z.number().nullable(), gpus: z.number().nullable() })
export type ClusterAnswer = z.output<typeof clusterAnswerSchema>

export const clustersContract = {
  /** Asks the address whether a Ray with a job API is there. */
  check: oc.input(z.object({ address: z.string().trim().min(1).max(2000) })).output(clusterAnswerSchema),
}
