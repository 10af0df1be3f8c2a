/** The loops of the referee for the router, the mixture of experts and dense SwiGLU: as reference-ops.ts, which they are part of. */
import type { OpName } from './backend.ts'
import { logSumExp, sigmoid, type Args, type Letters, type Numbers } from './reference-args.ts'

/** routerForward is not among them: it is made of a product and three of these. */
type MoeOp = Extract<Exclude<OpName, 'routerForward'>, `router${string}` | `moe${'Dispatch' | 'Combine'}${string}` | `expertChoice${string}` | `grouped${string}` | `${'swiglu' | 'denseSwiglu'}${string}` | 'addCountsForward'>

/** Owner expert of every slot. */
function slotExpert(offsets: Numbers, S: number): Int32Array {
  const owner = new Int32Array(S)
  for (let e = 0; e + 1 < offsets.length; e++) owner.fill(e, offsets[e]!, offsets[e + 1]!)
  return owner
}

export const referenceMoeOps: { [N in MoeOp]: (args: Args<N>, letters: Letters) => void } = {
  routerSoftmaxForward({ probs, lse, logits }, { T, E }) {
    for (let t = 0; t < T; t++) {
      lse[t] = logSumExp(logits, t * E, E)
      for (let e = 0; e < E; e++) probs[t * E + e] = Math.exp(logits[t * E + e]! - lse[t]!)
    }
  },
  routerTopKForward({ experts, probs }, { T, K, E }) {
    for (let t = 0; t < T; t++) {
      const row = Array.from({ length: E }, (_, e) => e)
      row.sort((a, b) => probs[t * E + b]! - probs[t * E + a]! || a - b)
      for (let j = 0; j < K; j++) experts[t * K + j] = row[j]!
    }
  },
  routerGateForward({ gate, probs, experts, normalise }, { T, K, E }) {
    for (let t = 0; t < T; t++) {
      let sum = 0
      for (let j = 0; j < K; j++) sum += probs[t * E + experts[t * K + j]!]!
      for (let j = 0; j < K; j++) gate[t * K + j] = probs[t * E + experts[t * K + j]!]! / (normalise ? sum : 1)
    }
  },
  routerLossForward({ losses, probs, lse, counts, assignments, layer }, { T, E }) {
    let loadBalance = 0
    for (let e = 0; e < E; e++) {
      let mean = 0
      for (let t = 0; t < T; t++) mean += probs[t * E + e]! / T
      loadBalance += E * (counts[e]! / assignments) * mean
    }
    let z = 0
    for (let t = 0; t < T; t++) z += lse[t]! ** 2 / T
    losses[2 * layer] = loadBalance
    losses[2 * layer + 1] = z
  },
  routerBackward({ dLogits, dGate, probs, lse, experts, gate, counts, normalise, loadBalanceScale, routerZScale }, { T, K, E }) {
    for (let t = 0; t < T; t++) {
      const dProbs = new Float64Array(E)
      for (let e = 0; e < E; e++) dProbs[e] = (loadBalanceScale * E * counts[e]!) / (T * K) / T
      let sum = 0
      let dot = 0
      for (let j = 0; j < K; j++) {
        sum += probs[t * E + experts[t * K + j]!]!
        dot += dGate[t * K + j]! * gate[t * K + j]!
      }
      for (let j = 0; j < K; j++) dProbs[experts[t * K + j]!]! += normalise ? (dGate[t * K + j]! - dot) / sum : dGate[t * K + j]!
      let mean = 0
      for (let e = 0; e < E; e++) mean += dProbs[e]! * probs[t * E + e]!
      for (let e = 0; e < E; e++) dLogits[t * E + e] = probs[t * E + e]! * (dProbs[e]! - mean + (routerZScale * 2 * lse[t]!) / T)
    }
  },

  addCountsForward({ total, counts, add }, { E }) {
    for (let e = 0; e < E; e++) total[e] = counts[e]! + (add ? add[e]! : 0)
  },
  expertChoiceForward({ counts, offsets, slotToken, slotIndex, tokenSlot, probs, sequence, capacity }, { T, E }) {
    tokenSlot.fill(-1)
    let slot = 0
    for (let e = 0; e < E; e++) {
      offsets[e] = slot
      for (let first = 0; first < T; first += sequence) {
        const tokens = Array.from({ length: sequence }, (_, i) => first + i)
        tokens.sort((a, b) => probs[b * E + e]! - probs[a * E + e]! || a - b)
        for (const t of tokens.slice(0, capacity).sort((a, b) => a - b)) {
          slotToken[slot] = t
          slotIndex[slot] = t * E + e
          tokenSlot[t * E + e] = slot++
        }
      }
      counts[e] = slot - offsets[e]!
    }
    offsets[E] = slot
  },
  expertChoiceBackward({ dLogits, dGate, probs, lse, tokenSlot, routerZScale }, { T, E }) {
    for (let t = 0; t < T; t++) {
      const dProb = (e: number): number => (tokenSlot[t * E + e]! < 0 ? 0 : dGate[t * E + e]!)
      let mean = 0
      for (let e = 0; e < E; e++) mean += dProb(e) * probs[t * E + e]!
      for (let e = 0; e < E; e++) dLogits[t * E + e] = probs[t * E + e]! * (dProb(e) - mean + (routerZScale * 2 * lse[t]!) / T)
    }
  },

  moeDispatchForward({ counts, offsets, slotToken, slotIndex, tokenSlot, experts }, { T, K, E }) {
    let slot = 0
    for (let e = 0; e < E; e++) {
      offsets[e] = slot
      for (let i = 0; i < T * K; i++) {
        if (experts[i] !== e) continue
        slotToken[slot] = Math.floor(i / K)
        slotIndex[slot] = i
        tokenSlot[i] = slot++
      }
      counts[e] = slot - offsets[e]!
    }
    offsets[E] = slot
  },
  groupedLinearForward({ y, x, weight, offsets, rows }, { S, N, J }) {
    const owner = slotExpert(offsets, S)
    for (let s = 0; s < S; s++)
      for (let n = 0; n < N; n++) {
        let sum = 0
        for (let j = 0; j < J; j++) sum += x[(rows ? rows[s]! : s) * J + j]! * weight[(owner[s]! * N + n) * J + j]!
        y[s * N + n] = sum
      }
  },
  groupedLinearBackwardInput({ dX, dY, weight, offsets, rows }, { S, N, J }) {
    const owner = slotExpert(offsets, S)
    for (let s = 0; s < S; s++)
      for (let j = 0; j < J; j++) {
        let sum = 0
        for (let n = 0; n < N; n++) sum += dY[(rows ? rows[s]! : s) * N + n]! * weight[(owner[s]! * N + n) * J + j]!
        dX[s * J + j] = sum
      }
  },
  groupedLinearBackwardWeight({ dWeight, dY, x, offsets, rowsY, rowsX }, { E, N, J }) {
    for (let e = 0; e < E; e++)
      for (let s = offsets[e]!; s < offsets[e + 1]!; s++)
        for (let n = 0; n < N; n++)
          for (let j = 0; j < J; j++)
            dWeight[(e * N + n) * J + j]! += dY[(rowsY ? rowsY[s]! : s) * N + n]! * x[(rowsX ? rowsX[s]! : s) * J + j]!
  },
  swigluForward({ a, h, gate, slotIndex }, { S, F }) {
    for (let s = 0; s < S; s++)
      for (let f = 0; f < F; f++) {
        const g = h[s * 2 * F + f]!
        a[s * F + f] = gate[slotIndex[s]!]! * g * sigmoid(g) * h[s * 2 * F + F + f]!
      }
  },
  swigluBackward({ dH, dGate, dA, h, gate, slotIndex }, { S, F }) {
    for (let s = 0; s < S; s++) {
      const p = gate[slotIndex[s]!]!
      let dP = 0
      for (let f = 0; f < F; f++) {
        const g = h[s * 2 * F + f]!
        const u = h[s * 2 * F + F + f]!
        const silu = g * sigmoid(g)
        dP += dA[s * F + f]! * silu * u
        dH[s * 2 * F + f] = dA[s * F + f]! * p * u * sigmoid(g) * (1 + g * (1 - sigmoid(g)))
        dH[s * 2 * F + F + f] = dA[s * F + f]! * p * silu
      }
      dGate[slotIndex[s]!] = dP
    }
  },
  denseSwigluForward({ a, h }, { T, F }) {
    for (let t = 0; t < T; t++)
      for (let f = 0; f < F; f++) {
        const g = h[t * 2 * F + f]!
        a[t * F + f] = g * sigmoid(g) * h[t * 2 * F + F + f]!
      }
  },
  denseSwigluBackward({ dH, dA, h }, { T, F }) {
    for (let t = 0; t < T; t++)
      for (let f = 0; f < F; f++) {
        const g = h[t * 2 * F + f]!
        dH[t * 2 * F + f] = dA[t * F + f]! * h[t * 2 * F + F + f]! * sigmoid(g) * (1 + g * (1 - sigmoid(g)))
        dH[t * 2 * F + F + f] = dA[t * F + f]! * g * sigmoid(g)
      }
  },
  moeCombineForward({ y, slots, tokenSlot, add }, { T, D, K }) {
    for (let t = 0; t < T; t++)
      for (let d = 0; d < D; d++) {
        let sum = add ? add[t * D + d]! : 0
        for (let j = 0; j < K; j++) if (tokenSlot[t * K + j]! >= 0) sum += slots[tokenSlot[t * K + j]! * D + d]!
        y[t * D + d] = sum
      }
  },
}
