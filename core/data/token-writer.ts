/**
 * Writes token ids as a raw little-endian uint16 or uint32 file, hashing what passes. Bounded memory: one buffer of a megabyte.
 * It does not flush or rename: the folder it writes into becomes visible as a whole.
 */
import { createHash } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'

export type FileRecord = { sizeBytes: number; sha256: string }

export type TokenWriter = {
  /** Tokens so far. */
  readonly tokens: number
  write(ids: ArrayLike<number>): void
  /** Writes out the rest and closes; call it once, also after a failure. */
  close(): FileRecord
  /** Closes without writing out the rest, when what was written is thrown away. */
  discard(): void
}

/** Bytes per token that hold every id below `vocabularySize`. */
export function tokenBytesFor(vocabularySize: number): 2 | 4 {
  return vocabularySize <= 65_536 ? 2 : 4
}

export type HashedFile = ReturnType<typeof createHashedFile>

/** A bare file that is hashed while it is written. */
export function createHashedFile(path: string) {
  const file = openSync(path, 'wx')
  const hash = createHash('sha256')
  let [sizeBytes, isOpen] = [0, true]
  const close = (): void => {
    if (isOpen) closeSync(file)
    isOpen = false
  }
  return {
    write(bytes: Uint8Array): void {
      hash.update(bytes)
      try {
        for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
      } catch (error) {
        // An open file would keep its space on a disk that may be full.
        close()
        throw error
      }
      sizeBytes += bytes.length
    },
    close(): FileRecord {
      close()
      return { sizeBytes, sha256: hash.digest('hex') }
    },
    discard: close,
  }
}

/** Creates `path`, which must not exist. */
export function createTokenWriter(path: string, tokenBytes: 2 | 4): TokenWriter {
  const file = createHashedFile(path)
  const buffer = Buffer.alloc(1 << 20)
  let [filled, tokens] = [0, 0]
  const flush = (): void => {
    file.write(buffer.subarray(0, filled))
    filled = 0
  }
  return {
    get tokens() {
      return tokens
    },
    write(ids) {
      for (let i = 0; i < ids.length; i++) {
        filled = tokenBytes === 2 ? buffer.writeUInt16LE(ids[i]!, filled) : buffer.writeUInt32LE(ids[i]!, filled)
        if (filled === buffer.length) flush()
      }
      tokens += ids.length
    },
    close() {
      flush()
      return file.close()
    },
    discard: file.discard,
  }
}
