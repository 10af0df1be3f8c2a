/**
 * The loops of the referee: the specification of every op in backend.ts, one function each, float64, no blocking, no tricks.
 * Arguments come by name; the second parameter holds the letters of the shapes. Only clarity counts here.
 */
import type { OpName } from './backend.ts'
import { logSumExp, sigmoid, type Args, type Letters, type Numbers } from './reference-args.ts'
import { referenceMoeOps } from './reference-moe-ops.ts'

/** Rotation of RoPE by `sign`·angle. */
function rotate(y: Numbers, x: Numbers, positions: Numbers, theta: number, sign: number, { T, H, C }: Letters): void {
  for (let t = 0; t < T; t++)
    for (let h = 0; h < H; h++)
      for (let i = 0; i < C / 2; i++) {
        const angle = sign * positions[t]! * Math.pow(theta, (-2 * i) / C)
        const a = t * H * C + h * C + i
        const b = a + C / 2
        const [xa, xb] = [x[a]!, x[b]!]
        y[a] = xa * Math.cos(angle) - xb * Math.sin(angle)
        y[b] = xb * Math.cos(angle) + xa * Math.sin(angle)
      }
}

/** logits of token t against the head. */
function headLogits(x: Numbers, weight: Numbers, t: number, V: number, D: number): Float64Array {
  const logits = new Float64Array(V)
  for (let v = 0; v < V; v++) for (let d = 0; d < D; d++) logits[v]! += x[t * D + d]! * weight[v * D + d]!
  return logits
}

export const referenceOps: { [N in OpName]: (args: Args<N>, letters: Letters) => void } = {
  embedForward({ x, ids, weight }, { T, D }) {
    for (let t = 0; t < T; t++) for (let d = 0; d < D; d++) x[t * D + d] = weight[ids[t]! * D + d]!
  },
  embedBackward({ dWeight, ids, dX }, { T, D }) {
    for (let t = 0; t < T; t++) for (let d = 0; d < D; d++) dWeight[ids[t]! * D + d]! += dX[t * D + d]!
  },

  rmsNormForward({ y, rstd, x, weight, eps }, { T, D }) {
    for (let t = 0; t < T; t++) {
      let square = 0
      for (let d = 0; d < D; d++) square += x[t * D + d]! ** 2
      rstd[t] = 1 / Math.sqrt(square / D + eps)
      for (let d = 0; d < D; d++) y[t * D + d] = weight[d]! * x[t * D + d]! * rstd[t]!
    }
  },
  rmsNormBackward({ dX, dWeight, dY, x, weight, rstd, add }, { T, D }) {
    for (let t = 0; t < T; t++) {
      let mean = 0
      for (let d = 0; d < D; d++) mean += (dY[t * D + d]! * weight[d]! * x[t * D + d]!) / D
      for (let d = 0; d < D; d++) {
        const i = t * D + d
        dX[i] = (add ? add[i]! : 0) + rstd[t]! * (dY[i]! * weight[d]! - x[i]! * rstd[t]! ** 2 * mean)
        dWeight[d]! += dY[i]! * x[i]! * rstd[t]!
      }
    }
  },

  layerNormForward({ y, rstd, x, eps }, { T, D }) {
    for (let t = 0; t < T; t++) {
      let [mean, square] = [0, 0]
      for (let d = 0; d < D; d++) mean += x[t * D + d]! / D
      for (let d = 0; d < D; d++) square += (x[t * D + d]! - mean) ** 2
      rstd[t] = 1 / Math.sqrt(square / D + eps)
      for (let d = 0; d < D; d++) y[t * D + d] = (x[t * D + d]! - mean) * rstd[t]!
    }
  },
  layerNormBackward({ dX, dY, x, rstd, add }, { T, D }) {
    for (let t = 0; t < T; t++) {
      let [mean, meanDY, along] = [0, 0, 0]
      for (let d = 0; d < D; d++) mean += x[t * D + d]! / D
      for (let d = 0; d < D; d++) {
        meanDY += dY[t * D + d]! / D
        along += (dY[t * D + d]! * (x[t * D + d]! - mean) * rstd[t]!) / D
      }
      for (let d = 0; d < D; d++) {
        const i = t * D + d
        dX[i] = (add ? add[i]! : 0) + rstd[t]! * (dY[i]! - meanDY - (x[i]! - mean) * rstd[t]! * along)
      }
    }
  },

  linearForward({ y, x, weight, add }, { T, N, J }) {
    for (let t = 0; t < T; t++)
      for (let n = 0; n < N; n++) {
        let sum = add ? add[t * N + n]! : 0
        for (let j = 0; j < J; j++) sum += x[t * J + j]! * weight[n * J + j]!
        y[t * N + n] = sum
      }
  },
  linearBackwardInput({ dX, dY, weight, add }, { T, N, J }) {
    for (let t = 0; t < T; t++)
      for (let j = 0; j < J; j++) {
        let sum = add ? add[t * J + j]! : 0
        for (let n = 0; n < N; n++) sum += dY[t * N + n]! * weight[n * J + j]!
        dX[t * J + j] = sum
      }
  },
  linearBackwardWeight({ dWeight, dY, x }, { T, N, J }) {
    for (let t = 0; t < T; t++)
      for (let n = 0; n < N; n++) for (let j = 0; j < J; j++) dWeight[n * J + j]! += dY[t * N + n]! * x[t * J + j]!
  },

  ropeForward({ y, x, positions, theta }, letters) {
    rotate(y, x, positions, theta, 1, letters)
  },
  ropeBackward({ dX, dY, positions, theta }, letters) {
    rotate(dX, dY, positions, theta, -1, letters)
  },

  attentionForward({ o, lse, q, k, v, sequence }, { T, H, G, C }) {
    for (let t = 0; t < T; t++)
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * G) / H)
        const start = t - (t % sequence)
        const scores = new Float64Array(t - start + 1)
        for (let s = start; s <= t; s++)
          for (let c = 0; c < C; c++) scores[s - start]! += (q[(t * H + h) * C + c]! * k[(s * G + g) * C + c]!) / Math.sqrt(C)
        lse[t * H + h] = logSumExp(scores, 0, scores.length)
        for (let c = 0; c < C; c++) {
          let sum = 0
          for (let s = start; s <= t; s++) sum += Math.exp(scores[s - start]! - lse[t * H + h]!) * v[(s * G + g) * C + c]!
          o[(t * H + h) * C + c] = sum
        }
      }
  },
  attentionBackward({ dQ, dK, dV, dO, q, k, v, o, lse, sequence }, { T, H, G, C }) {
    dQ.fill(0)
    dK.fill(0)
    dV.fill(0)
    for (let t = 0; t < T; t++)
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * G) / H)
        const row = (t * H + h) * C
        let delta = 0
        for (let c = 0; c < C; c++) delta += dO[row + c]! * o[row + c]!
        for (let s = t - (t % sequence); s <= t; s++) {
          const other = (s * G + g) * C
          let score = 0
          let dP = 0
          for (let c = 0; c < C; c++) {
            score += (q[row + c]! * k[other + c]!) / Math.sqrt(C)
            dP += dO[row + c]! * v[other + c]!
          }
          const p = Math.exp(score - lse[t * H + h]!)
          const dScore = (p * (dP - delta)) / Math.sqrt(C)
          for (let c = 0; c < C; c++) {
            dQ[row + c]! += dScore * k[other + c]!
            dK[other + c]! += dScore * q[row + c]!
            dV[other + c]! += p * dO[row + c]!
          }
        }
      }
  },

  kvAppendForward({ cacheK, cacheV, k, v, positions }, { T, W }) {
    for (let t = 0; t < T; t++) {
      if (positions[t]! < 0) continue
      for (let w = 0; w < W; w++) {
        cacheK[positions[t]! * W + w] = k[t * W + w]!
        cacheV[positions[t]! * W + w] = v[t * W + w]!
      }
    }
  },
  attentionCachedForward({ o, q, cacheK, cacheV, positions }, { T, H, G, C }) {
    for (let t = 0; t < T; t++)
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * G) / H)
        const scores = new Float64Array(positions[t]! + 1)
        for (let s = 0; s < scores.length; s++)
          for (let c = 0; c < C; c++) scores[s]! += (q[(t * H + h) * C + c]! * cacheK[(s * G + g) * C + c]!) / Math.sqrt(C)
        const lse = logSumExp(scores, 0, scores.length)
        for (let c = 0; c < C; c++) {
          let sum = 0
          for (let s = 0; s < scores.length; s++) sum += Math.exp(scores[s]! - lse) * cacheV[(s * G + g) * C + c]!
          o[(t * H + h) * C + c] = sum
        }
      }
  },

  attentionSequencesForward({ o, q, cacheK, cacheV, rows, capacity }, letters) {
    const { T, H, G, C } = letters
    for (let t = 0; t < T; t++) {
      const first = Math.floor(rows[t]! / capacity) * capacity
      const own = (cache: Numbers): Numbers => cache.subarray(first * G * C)
      const at = (of: Numbers): Numbers => of.subarray(t * H * C, (t + 1) * H * C)
      referenceOps.attentionCachedForward({ o: at(o), q: at(q), cacheK: own(cacheK), cacheV: own(cacheV), positions: Int32Array.of(rows[t]! - first), H, G }, { ...letters, T: 1 })
    }
  },

  ...referenceMoeOps,

  headCrossEntropyForward({ loss, lse, x, weight, targets }, { T, V, D }) {
    for (let t = 0; t < T; t++) {
      const logits = headLogits(x, weight, t, V, D)
      lse[t] = logSumExp(logits, 0, V)
      loss[t] = targets[t]! < 0 ? 0 : lse[t]! - logits[targets[t]!]!
    }
  },
  headCrossEntropyBackward({ dX, dWeight, x, weight, targets, lse, dLoss }, { T, V, D }) {
    dX.fill(0)
    for (let t = 0; t < T; t++) {
      if (targets[t]! < 0) continue
      const logits = headLogits(x, weight, t, V, D)
      for (let v = 0; v < V; v++) {
        const dLogit = dLoss[t]! * (Math.exp(logits[v]! - lse[t]!) - (v === targets[t] ? 1 : 0))
        for (let d = 0; d < D; d++) {
          dX[t * D + d]! += dLogit * weight[v * D + d]!
          dWeight[v * D + d]! += dLogit * x[t * D + d]!
        }
      }
    }
  },
  embedPackedForward: (args, letters) => referenceOps.embedForward(args, letters),
  linearPackedForward: (args, letters) => referenceOps.linearForward(args, letters),
  routerForward({ experts, gate, x, weight, normalise }, letters) {
    const { T, E } = letters
    const [logits, probs] = [new Float64Array(T * E), new Float64Array(T * E)]
    referenceOps.linearForward({ y: logits, x, weight }, { ...letters, N: E, J: letters.D })
    referenceOps.routerSoftmaxForward({ probs, lse: new Float64Array(T), logits }, letters)
    referenceOps.routerTopKForward({ experts, probs }, letters)
    referenceOps.routerGateForward({ gate, probs, experts, normalise }, letters)
  },
  moePackedForward({ y, x, experts, gate, gateWeight, upWeight, downWeight, add }, { T, D, F, K }) {
    for (let t = 0; t < T; t++) {
      for (let d = 0; d < D; d++) y[t * D + d] = add ? add[t * D + d]! : 0
      for (let j = 0; j < K; j++) {
        const e = experts[t * K + j]!
        const a = new Float64Array(F)
        for (let f = 0; f < F; f++) {
          let [g, u] = [0, 0]
          for (let d = 0; d < D; d++) {
            g += gateWeight[(e * F + f) * D + d]! * x[t * D + d]!
            u += upWeight[(e * F + f) * D + d]! * x[t * D + d]!
          }
          a[f] = gate[t * K + j]! * g * sigmoid(g) * u
        }
        for (let d = 0; d < D; d++) for (let f = 0; f < F; f++) y[t * D + d]! += downWeight[(e * D + d) * F + f]! * a[f]!
      }
    }
  },
  weightedSumForward({ sum, values, weights }, { T }) {
    sum[0] = 0
    for (let t = 0; t < T; t++) sum[0]! += values[t]! * weights[t]!
  },
  gatherRowsForward({ y, x, rows }, { R, D }) {
    for (let r = 0; r < R; r++) for (let d = 0; d < D; d++) y[r * D + d] = x[rows[r]! * D + d]!
  },

  sumOfSquares({ partials, x, index }) {
    partials[index] = 0
    for (const value of x) partials[index]! += value * value
  },
  clipScale({ scale, partials, maxNorm }) {
    let total = 0
    for (const partial of partials) total += partial
    scale[0] = Math.sqrt(total)
    scale[1] = !Number.isFinite(scale[0]) ? -1 : maxNorm > 0 ? Math.min(1, maxNorm / (scale[0] + 1e-6)) : 1
  },
  adamwStep({ param, m, v, grad, scale, hyper, beta1, beta2, eps, weightDecay }) {
    const [learningRate, correction1, correction2] = [hyper[0]!, hyper[1]!, hyper[2]!]
    if (scale[1]! < 0) return
    for (let i = 0; i < param.length; i++) {
      const g = grad[i]! * scale[1]!
      m[i] = beta1 * m[i]! + (1 - beta1) * g
      v[i] = beta2 * v[i]! + (1 - beta2) * g * g
      param[i]! -= learningRate * weightDecay * param[i]!
      param[i]! -= (learningRate * (m[i]! / correction1)) / (Math.sqrt(v[i]! / correction2) + eps)
      grad[i] = 0
    }
  },
}
