/** Arrays as NumPy reads them (format version 1.0): a header of text padded to 64 bytes, then the little-endian numbers. */

const types = { i8: '<i8', f8: '<f8' } as const

/** The bytes of an array of `shape`, in pieces, for writeFileAtomic. */
export function* npyChunks(type: keyof typeof types, shape: readonly number[], rows: Iterable<Uint8Array>): Generator<Uint8Array> {
  const text = `{'descr': '${types[type]}', 'fortran_order': False, 'shape': (${shape.map((size) => `${size},`).join(' ')}), }`
  const padded = `${text.padEnd(Math.ceil((10 + text.length + 1) / 64) * 64 - 11)}\n`
  const head = Buffer.alloc(10)
  head.write('\x93NUMPY\x01\x00', 'latin1')
  head.writeUInt16LE(padded.length, 8)
  yield head
  yield Buffer.from(padded, 'latin1')
  yield* rows
}
