/**
 * Writes ONNX models: the few messages of the format's protobuf schema that a graph of plain and contributed operators needs, with every
 * weight in one data file beside it (so that a model may be larger than protobuf's 2 GB and is mapped when it is opened). It knows no
 * architecture and checks no graph: onnxruntime does when it opens the file.
 */
import { basename, dirname, join } from 'node:path'
import { writeFileAtomic, type WrittenFile } from './atomic.ts'

export type OnnxType = 'float32' | 'int64' | 'bool'
const dataTypes: Record<OnnxType, number> = { float32: 1, int64: 7, bool: 9 }

/** Numbers with a point are floats: 1 is an int, {float: 1} a float. */
export type OnnxAttribute = number | string | readonly number[] | { float: number }
export type OnnxNode = { op: string; inputs: readonly string[]; outputs: readonly string[]; attributes?: Readonly<Record<string, OnnxAttribute>>; domain?: string }
/** An input or output of the graph; a dimension is a size or the name of one that is open. */
export type OnnxValue = { name: string; type: OnnxType; shape: readonly (number | string)[] }
/** A constant: numbers in the model itself, for shapes and scalars. */
export type OnnxConstant = { name: string; type: OnnxType; shape: readonly number[]; values: readonly number[] }
/** A float32 weight, which goes to the data file. */
export type OnnxWeight = { name: string; shape: readonly number[]; data: () => Float32Array }
export type OnnxGraph = {
  name: string
  inputs: readonly OnnxValue[]
  outputs: readonly OnnxValue[]
  nodes: readonly OnnxNode[]
  constants: readonly OnnxConstant[]
  weights: readonly OnnxWeight[]
  /** Versions of the operator sets by domain; '' is ONNX's own. */
  opsets: Readonly<Record<string, number>>
  metadata?: Readonly<Record<string, string>>
}

const irVersion = 10
const alignmentBytes = 4096

function varint(value: number | bigint): Buffer {
  let rest = BigInt.asUintN(64, BigInt(value))
  const bytes: number[] = []
  do {
    const low = Number(rest & 127n)
    rest >>= 7n
    bytes.push(rest > 0n ? low | 128 : low)
  } while (rest > 0n)
  return Buffer.from(bytes)
}
const int = (field: number, value: number | bigint): Buffer => Buffer.concat([varint(field << 3), varint(value)])
const float = (field: number, value: number): Buffer => Buffer.concat([varint((field << 3) | 5), Buffer.from(Float32Array.of(value).buffer)])
const bytes = (field: number, value: Uint8Array): Buffer => Buffer.concat([varint((field << 3) | 2), varint(value.length), value])
const text = (field: number, value: string): Buffer => bytes(field, Buffer.from(value))
const message = (field: number, ...parts: Buffer[]): Buffer => bytes(field, Buffer.concat(parts))
const entry = (field: number, key: string, value: string): Buffer => message(field, text(1, key), text(2, value))

function attribute(name: string, value: OnnxAttribute): Buffer {
  const of = (type: number, ...parts: Buffer[]): Buffer => message(5, text(1, name), ...parts, int(20, type))
  if (typeof value === 'number') return of(2, int(3, value))
  if (typeof value === 'string') return of(3, text(4, value))
  if ('float' in value) return of(1, float(2, value.float))
  return of(7, ...value.map((item) => int(8, item)))
}

function node({ op, inputs, outputs, attributes = {}, domain = '' }: OnnxNode): Buffer {
  return message(1, ...inputs.map((name) => text(1, name)), ...outputs.map((name) => text(2, name)), text(4, op), ...Object.entries(attributes).map(([name, value]) => attribute(name, value)), text(7, domain))
}

function value(field: number, { name, type, shape }: OnnxValue): Buffer {
  const dimensions = shape.map((size) => message(1, typeof size === 'number' ? int(1, size) : text(2, size)))
  return message(field, text(1, name), message(2, message(1, int(1, dataTypes[type]), message(2, ...dimensions))))
}

function constant({ name, type, shape, values }: OnnxConstant): Buffer {
  const raw = type === 'float32' ? Float32Array.from(values).buffer : type === 'int64' ? BigInt64Array.from(values, BigInt).buffer : Uint8Array.from(values).buffer
  return message(5, ...shape.map((size) => int(1, size)), int(2, dataTypes[type]), text(8, name), bytes(9, new Uint8Array(raw)))
}

const sizeOf = (shape: readonly number[]): number => 4 * shape.reduce((a, b) => a * b, 1)
const padding = (size: number): number => (alignmentBytes - (size % alignmentBytes)) % alignmentBytes

/** Writes `path` and `<path>.data`, atomically each, the data first. Gives both by file name. */
export async function writeOnnx(path: string, graph: OnnxGraph): Promise<Record<string, WrittenFile>> {
  const dataName = `${basename(path)}.data`
  let offset = 0
  const initializers = graph.weights.map(({ name, shape }) => {
    const size = sizeOf(shape)
    const at = offset
    offset += size + padding(size)
    return message(5, ...shape.map((length) => int(1, length)), int(2, dataTypes.float32), text(8, name), entry(13, 'location', dataName), entry(13, 'offset', String(at)), entry(13, 'length', String(size)), int(14, 1))
  })
  const weights = function* (): Generator<Uint8Array> {
    for (const { name, shape, data } of graph.weights) {
      const numbers = data()
      if (numbers.byteLength !== sizeOf(shape)) throw new Error(`writeOnnx: ${name} has ${numbers.length} numbers, its shape needs ${sizeOf(shape) / 4}`)
      yield new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)
      yield new Uint8Array(padding(numbers.byteLength))
    }
  }
  const model = Buffer.concat([
    int(1, irVersion),
    text(2, 'moe-workbench'),
    message(7, ...graph.nodes.map(node), text(2, graph.name), ...initializers, ...graph.constants.map(constant), ...graph.inputs.map((input) => value(11, input)), ...graph.outputs.map((output) => value(12, output))),
    ...Object.entries(graph.opsets).map(([domain, version]) => message(8, text(1, domain), int(2, version))),
    ...Object.entries(graph.metadata ?? {}).map(([key, content]) => entry(14, key, content)),
  ])
  const data = await writeFileAtomic(join(dirname(path), dataName), weights())
  return { [dataName]: data, [basename(path)]: await writeFileAtomic(path, [model]) }
}
