/**
 * PyTorch and transformers as peers, in the Python that MOE_PYTHON names (python3 without it); where it has no torch, the peer is absent
 * and said to be. "Tuned" tells glibc to use huge pages and to give nothing back: without it torch spends much of its time on page
 * faults. What a user gets who knows nothing of that is "stock".
 */
import { join } from 'node:path'
import { openPeerProcess } from './peer-process.ts'
import { sequence, shapes, type ShapeName } from './step.ts'

const tuned = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=4294967296:glibc.malloc.mmap_threshold=4294967296' }

/** A question of torch_peer.py: the name of one of its functions and its arguments. */
export type TorchQuestion = { op: string } & Record<string, unknown>

export type Torch = {
  /** Of torch and of transformers, which may be missing. */
  readonly versions: { torch: string; transformers: string }
  ask(question: TorchQuestion): Promise<number>
  close(): void
}

/** The running peer, or undefined where there is no Python with torch. */
export async function openTorch(threads: number, memory: 'tuned' | 'stock' = 'tuned'): Promise<Torch | undefined> {
  const peer = await openPeerProcess(process.env.MOE_PYTHON ?? 'python3', [join(import.meta.dirname, 'torch_peer.py'), String(threads)], {
    TOKENIZERS_PARALLELISM: 'false',
    TORCHINDUCTOR_CACHE_DIR: join(import.meta.dirname, '../.output/torch-compiled'),
    ...(memory === 'tuned' && process.platform === 'linux' ? tuned : {}),
  })
  return peer && {
    versions: JSON.parse(peer.hello) as Torch['versions'],
    ask: async (question) => Number(await peer.ask(JSON.stringify(question))),
    close: peer.close,
  }
}

/** Configurations of transformers' training step: the fastest known on a processor, and what one gets who installs it and trains. */
const configurations = {
  fastest: { label: 'pure bf16, compiled, tuned malloc', memory: 'tuned', dtype: 'bf16', compiled: true },
  stock: { label: 'float32, stock', memory: 'stock', dtype: 'f32', compiled: false },
} as const
export type TransformersKind = keyof typeof configurations

export type Transformers = {
  readonly name: string
  /** Seconds of one training step; undefined where transformers is absent. */
  readonly step: (() => Promise<number>) | undefined
  /** The most memory that its process had so far. */
  peakBytes(): Promise<number>
  close(): void
}

/** A model of `shape` in a process of its own, after two steps: the first ones compile. */
export async function openTransformers(shape: ShapeName, kind: TransformersKind, threads: number): Promise<Transformers> {
  const { label, memory, dtype, compiled } = configurations[kind]
  const found = await openTorch(threads, memory)
  const torch = found?.versions.transformers ? found : undefined
  if (!torch) found?.close()
  await torch?.ask({ op: 'open', shape: [...shapes[shape], sequence], dtype, compiled })
  return {
    name: torch ? `transformers ${torch.versions.transformers}, ${label}` : `transformers, ${label}: absent`,
    step: torch && (() => torch.ask({ op: 'step' })),
    peakBytes: () => torch!.ask({ op: 'peak_bytes' }),
    close: () => torch?.close(),
  }
}
