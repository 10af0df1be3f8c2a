/**
 * The model family once more, in float64 and from the formulas (reference §1.3–1.7, §4), token by token and expert by expert, on weights by
 * their Hugging Face names. It shares no code with core/model and none with the backends: what both compute alike is right.
 */
import type { ModelConfig } from '#core/shared/models.ts'

export type NamedWeights = ReadonlyMap<string, ArrayLike<number>>
export type PlainLosses = { crossEntropy: number; loadBalance: number; routerZ: number }
type Vector = number[]

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
const plus = (a: Vector, b: Vector): Vector => a.map((x, i) => x + b[i]!)
const silu = (x: number): number => x / (1 + Math.exp(-x))

/** weight·x of a matrix with rows of x's length. */
function times(weight: ArrayLike<number>, x: Vector): Vector {
  return range(weight.length / x.length).map((n) => sum(x.map((value, j) => value * weight[n * x.length + j]!)))
}

function softmax(logits: Vector): Vector {
  const exponentials = logits.map(Math.exp)
  return exponentials.map((value) => value / sum(exponentials))
}

function norm(c: ModelConfig, x: Vector, weight: ArrayLike<number> | undefined): Vector {
  const mean = c.norm_kind === 'layer' ? sum(x) / x.length : 0
  const scale = 1 / Math.sqrt(sum(x.map((value) => (value - mean) ** 2)) / x.length + c.rms_norm_eps)
  return x.map((value, i) => (value - mean) * scale * (c.norm_kind === 'rms' ? weight![i]! : 1))
}

/** Rotates (i, i + half) of each head. */
function rope(x: Vector, heads: number, position: number, theta: number): Vector {
  const C = x.length / heads
  return x.map((value, at) => {
    const i = at % C
    const angle = position * theta ** ((-2 * (i % (C / 2))) / C)
    return i < C / 2 ? value * Math.cos(angle) - x[at + C / 2]! * Math.sin(angle) : value * Math.cos(angle) + x[at - C / 2]! * Math.sin(angle)
  })
}

function attention(c: ModelConfig, w: NamedWeights, at: string, xs: Vector[]): Vector[] {
  const C = c.hidden_size / c.num_attention_heads
  const weight = (name: string) => w.get(`${at}.self_attn.${name}.weight`)
  const project = (name: string, x: Vector): Vector => times(weight(name)!, x)
  const rotated = (name: string, normName: string, heads: number) => xs.map((x, t) => {
    const raw = project(name, x)
    return rope(c.use_qk_norm ? norm(c, raw, weight(normName)) : raw, heads, t, c.rope_theta)
  })
  const [q, k, v] = [rotated('q_proj', 'q_norm', c.num_attention_heads), rotated('k_proj', 'k_norm', c.num_key_value_heads), xs.map((x) => project('v_proj', x))]
  return xs.map((_, t) => {
    const heads = range(c.num_attention_heads).flatMap((h) => {
      const g = Math.floor((h * c.num_key_value_heads) / c.num_attention_heads)
      const p = softmax(range(t + 1).map((s) => sum(range(C).map((i) => q[t]![h * C + i]! * k[s]![g * C + i]!)) / Math.sqrt(C)))
      return range(C).map((i) => sum(p.map((share, s) => share * v[s]![g * C + i]!)))
    })
    return project('o_proj', heads)
  })
}

/** Wdown(silu(Wgate u)·Wup u). */
function swiglu(w: NamedWeights, at: string, u: Vector): Vector {
  const [gate, up] = [times(w.get(`${at}.gate_proj.weight`)!, u), times(w.get(`${at}.up_proj.weight`)!, u)]
  return times(w.get(`${at}.down_proj.weight`)!, gate.map((g, i) => silu(g) * up[i]!))
}

/** Gate of every expert for every token of one sequence; 0 where it is not taken. */
function gates(c: ModelConfig, probs: Vector[]): number[][] {
  const [E, K, T] = [c.num_experts, c.num_experts_per_tok, probs.length]
  if (c.routing === 'expert_choice') {
    const capacity = Math.max(1, Math.floor((K * T) / E))
    const takes = range(E).map((e) => new Set(range(T).sort((a, b) => probs[b]![e]! - probs[a]![e]!).slice(0, capacity)))
    return probs.map((p, t) => p.map((value, e) => (takes[e]!.has(t) ? value : 0)))
  }
  return probs.map((p) => {
    const best = new Set(range(E).sort((a, b) => p[b]! - p[a]!).slice(0, K))
    const divisor = c.norm_topk_prob ? sum(p.filter((_, e) => best.has(e))) : 1
    return p.map((value, e) => (best.has(e) ? value / divisor : 0))
  })
}

type Router = { probs: Vector[]; lse: number[]; counts: number[] }

/** What the feed-forward block adds to each token of one sequence, and what its router did. */
function feedForward(c: ModelConfig, w: NamedWeights, at: string, moeAt: string, us: Vector[]): { ys: Vector[]; router: Router | null } {
  const router = w.get(`${moeAt}.gate.weight`)
  const isRouted = router !== undefined && !w.has(`${at}.gate_proj.weight`)
  if (!isRouted) return { ys: us.map((u) => swiglu(w, at, u)), router: null }
  const logits = us.map((u) => times(router, u))
  const probs = logits.map(softmax)
  const gate = gates(c, probs)
  const ys = us.map((u, t) => {
    let y: Vector = u.map(() => 0)
    gate[t]!.forEach((p, e) => (y = p === 0 ? y : plus(y, swiglu(w, `${moeAt}.experts.${e}`, u).map((value) => p * value))))
    return w.has(`${at}.shared_experts.gate_proj.weight`) ? plus(y, swiglu(w, `${at}.shared_experts`, u)) : y
  })
  const counts = range(c.num_experts).map((e) => gate.filter((row) => row[e] !== 0).length)
  return { ys, router: { probs, lse: logits.map((row) => Math.log(sum(row.map(Math.exp)))), counts } }
}

/** E·Σ f_i·P_i over the tokens of `routers`, f summing to 1. */
function balanceOf(E: number, routers: Router[]): number {
  const counts = range(E).map((e) => sum(routers.map((router) => router.counts[e]!)))
  const probs = routers.flatMap((router) => router.probs)
  return E * sum(counts.map((count, e) => (count / sum(counts)) * (sum(probs.map((p) => p[e]!)) / probs.length)))
}

/** Final hidden states of one sequence, and the routers of its layers (null where a layer is dense). */
export function plainForward(c: ModelConfig, w: NamedWeights, ids: readonly number[]): { final: Vector[]; routers: (Router | null)[] } {
  const D = c.hidden_size
  let xs = ids.map((id) => range(D).map((d) => w.get('model.embed_tokens.weight')![id * D + d]!))
  let firstMoe: string | null = null
  const routers = range(c.num_hidden_layers).map((i) => {
    const at = `model.layers.${i}`
    const attended = attention(c, w, at, xs.map((x) => norm(c, x, w.get(`${at}.input_layernorm.weight`))))
    const hs = xs.map((x, t) => plus(x, attended[t]!))
    if (w.has(`${at}.mlp.gate.weight`)) firstMoe ??= `${at}.mlp`
    const { ys, router } = feedForward(c, w, `${at}.mlp`, c.share_moe_across_layers ? (firstMoe ?? `${at}.mlp`) : `${at}.mlp`, hs.map((h) => norm(c, h, w.get(`${at}.post_attention_layernorm.weight`))))
    xs = hs.map((h, t) => plus(h, ys[t]!))
    return router
  })
  return { final: xs.map((x) => norm(c, x, w.get('model.norm.weight'))), routers }
}

/** Losses of sequences of equal length; a target < 0 carries none. */
export function plainLosses(c: ModelConfig, w: NamedWeights, ids: readonly number[], targets: readonly number[], sequence: number): PlainLosses {
  const sequences = range(ids.length / sequence).map((s) => plainForward(c, w, ids.slice(s * sequence, (s + 1) * sequence)))
  const losses = sequences.flatMap(({ final }, s) => final.map((x, t) => {
    const target = targets[s * sequence + t]!
    return target < 0 ? null : -Math.log(softmax(times(w.get('lm_head.weight')!, x))[target]!)
  })).filter((loss) => loss !== null)
  const layers = range(c.num_hidden_layers).map((i) => sequences.map(({ routers }) => routers[i]!)).filter(([router]) => router)
  const balances = c.share_moe_across_layers ? [balanceOf(c.num_experts, layers.flat())] : layers.map((routers) => balanceOf(c.num_experts, routers))
  const z = layers.map((routers) => sum(routers.flatMap(({ lse }) => lse.map((value) => value ** 2))) / ids.length)
  const mean = (values: number[]): number => (values.length === 0 ? 0 : sum(values) / values.length)
  return { crossEntropy: mean(losses), loadBalance: mean(balances), routerZ: mean(z) }
}
