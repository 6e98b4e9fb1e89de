/**
 * A file that settings come from: small, and a file.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs"
import * as Stdio from "./Stdio.js"

/**
 * The bytes of a regular file of at most `maxBytes`. Throws an error with the system's code; for a pipe or a device, which would be waited for or never end,
 * `ENOTREG`, and `ERR_FS_FILE_TOO_LARGE`.
 */
export const read = (path: string, maxBytes: number): Uint8Array => {
  const file = open(path)
  try {
    const stats = fstatSync(file)
    if (!stats.isFile()) throw withCode(stats.isDirectory() ? "EISDIR" : "ENOTREG")
    const bytes = Buffer.alloc(maxBytes + 1)
    let size = 0
    for (let more = -1; more !== 0 && size < bytes.length; size += more) {
      more = readSync(file, bytes, size, bytes.length - size, null)
    }
    if (size > maxBytes) throw withCode("ERR_FS_FILE_TOO_LARGE")
    return bytes.subarray(0, size)
  } finally {
    closeSync(file)
  }
}

// --- internal

const open = (path: string): number => {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    // What a socket says.
    throw Stdio.codeOf(error) === "ENXIO" ? withCode("ENOTREG") : error
  }
}

const withCode = (code: string): Error => Object.assign(new Error(), { code })
