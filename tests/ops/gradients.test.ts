/**
 * Every backward op of the referee against central differences of its forward, in float64.
 * The names tie them: the argument dX of a backward is the gradient of the argument x of the forward.
 */
import { describe, expect, test } from 'vitest'
import { type OpName, type TensorData } from '#core/backend/backend.ts'
import { opArguments } from '#core/backend/record.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { argumentData, argumentShape, caseArguments, opCases, type OpCase } from './cases.ts'
import { relativeError, runCase, type Values } from './run-case.ts'
import { createRandom } from '#core/shared/random.ts'

const backend = createReferenceBackend()
const step = 1e-5

const pairs: [OpName, OpName[]][] = [
  ['embedForward', ['embedBackward']],
  ['rmsNormForward', ['rmsNormBackward']],
  ['layerNormForward', ['layerNormBackward']],
  ['linearForward', ['linearBackwardInput', 'linearBackwardWeight']],
  ['ropeForward', ['ropeBackward']],
  ['attentionForward', ['attentionBackward']],
  ['groupedLinearForward', ['groupedLinearBackwardInput', 'groupedLinearBackwardWeight']],
  ['swigluForward', ['swigluBackward']],
  ['denseSwigluForward', ['denseSwigluBackward']],
  ['headCrossEntropyForward', ['headCrossEntropyBackward']],
]

const gradientOf = (name: string): string => `d${name[0]!.toUpperCase()}${name.slice(1)}`
const normals = (count: number, stream: string): Float64Array => {
  const random = createRandom(29, stream)
  return Float64Array.from({ length: count }, () => random.nextNormal())
}

/** Σ over the outputs that have an upstream gradient of output·gradient. */
function weighted(outputs: Values, upstream: Values): number {
  let sum = 0
  for (const [name, gradient] of Object.entries(upstream)) for (let i = 0; i < gradient.length; i++) sum += outputs[name]![i]! * gradient[i]!
  return sum
}

/** Central differences of Σ out·upstream in `input`, at up to 40 elements spread over it (NaN elsewhere). */
async function differences(forward: OpCase, inputs: Values, input: string, upstream: Values): Promise<Float64Array> {
  const base = inputs[input]!
  const found = new Float64Array(base.length).fill(NaN)
  const stride = Math.max(1, Math.floor(base.length / 40))
  for (let i = 0; i < base.length; i += stride) {
    const at = async (delta: number): Promise<number> => {
      const moved = Float64Array.from(base)
      moved[i]! += delta
      return weighted(await runCase(backend, forward, { ...inputs, [input]: moved }), upstream)
    }
    found[i] = ((await at(step)) - (await at(-step))) / (2 * step)
  }
  return found
}

function backwardCase(forward: OpCase, op: OpName): OpCase {
  return { ...forward, op, optional: [], sizes: { ...forward.sizes, Y: forward.sizes.S ?? 0, X: forward.sizes.S ?? 0 } }
}

const rounds = pairs.flatMap(([forward, backwards]) =>
  opCases
    .filter((c) => c.op === forward && !c.optional.includes('rows') && !c.label.includes('past every'))
    .flatMap((c) => backwards.map((backward) => ({ title: `${backward}: ${c.label}`, forward: { ...c, optional: [] } as OpCase, backward }))),
)

describe('gradients of the referee', () => {
  test.each(rounds)('$title', async ({ forward, backward }) => {
    const inputs: Values = {}
    for (const { name, reads, dtype, shape } of caseArguments(forward)) {
      if (reads) inputs[name] = argumentData(forward, name, dtype, shape.reduce((a, b) => a * b, 1))
    }
    const outputs = await runCase(backend, forward, inputs)
    const target = backwardCase(forward, backward)
    const known: Values = { ...inputs, ...outputs }
    const upstream: Values = {}
    for (const name of Object.keys(outputs)) {
      const argument = opArguments(backward).find((a) => a.name === gradientOf(name) && !a.writes)
      if (argument) upstream[name] = known[argument.name] = normals(outputs[name]!.length, name)
    }
    const accumulated = opArguments(backward).filter((a) => a.writes && a.reads)
    for (const { name, dims } of accumulated) known[name] = new Float64Array(argumentShape(dims, target.sizes).shape.reduce((a, b) => a * b, 1))
    const gradients = await runCase(backend, target, known)

    const checked: string[] = []
    for (const input of Object.keys(inputs)) {
      const analytic: TensorData | undefined = gradients[gradientOf(input)]
      if (!analytic) continue
      const numeric = await differences(forward, inputs, input, upstream)
      const at = [...numeric.keys()].filter((i) => !Number.isNaN(numeric[i]!))
      const error = relativeError(Float64Array.from(at, (i) => analytic[i]!), Float64Array.from(at, (i) => numeric[i]!))
      expect(error, `${backward}: ${gradientOf(input)}`).toBeLessThan(1e-7)
      checked.push(input)
    }
    expect(checked.length).toBe(Object.keys(gradients).length)
  })

  test('every backward op is checked here or in router.test.ts', () => {
    const backwards = opCases.map((c) => c.op).filter((op) => op.includes('Backward'))
    const covered = new Set([...pairs.flatMap(([, list]) => list), 'routerBackward', 'expertChoiceBackward'])
    expect(backwards.filter((op) => !covered.has(op))).toEqual([])
  })
})
