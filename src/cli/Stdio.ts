/**
 * Standard input and output: results to stdout with back-pressure, everything else to stderr, both without ever throwing at the user.
 */
import * as Effect from "effect/Effect"
import { closeSync, constants, createReadStream, fstatSync, openSync } from "node:fs"
import { Socket } from "node:net"
import { isatty, ReadStream } from "node:tty"
import { withoutCredential } from "../webhooks/internal/credentials.js"
import * as CliError from "./CliError.js"
import { jsonText, visible } from "./Visible.js"

/**
 * Writes to stdout and waits until the system has taken it. A reader that went away (`| head -1`) is not an error: the text is
 * dropped, and `untilClosed` ends. A full disk and the like fail with exit code 1.
 */
export const write = (text: string): Effect.Effect<void, CliError.CliError> =>
  Effect.async((resume) => {
    if (closed) return resume(Effect.void)
    watch()
    if (process.stdout.isTTY) overlay?.()
    process.stdout.write(text, (error) => {
      const code = codeOf(error)
      if (code === undefined || closed || isGone(code)) return resume(Effect.void)
      resume(Effect.fail(CliError.failed(`cannot write to standard output: ${reasonOf(code)}`)))
    })
  })

/** Writes lines to stdout. */
export const lines = (...texts: ReadonlyArray<string>): Effect.Effect<void, CliError.CliError> =>
  write(texts.map((text) => `${text}\n`).join(""))

/** Writes a value to stdout as JSON on one line. */
export const json = (value: unknown): Effect.Effect<void, CliError.CliError> => write(`${jsonText(value)}\n`)

/** Writes lines to stderr. That they can't be written, or that nobody reads them, is no error. */
export const notes = (...texts: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.async((resume) => {
    note(texts.map((text) => `${text}\n`).join(""), () => resume(Effect.void))
  })

/** Writes text to stderr without waiting, as `notes` does. */
export const note = (text: string, written: () => void = ignore): void => {
  if (!heard) {
    heard = true
    // For good: Node.js tells of an error only after it has called back.
    process.stderr.on("error", ignore)
  }
  overlay?.()
  process.stderr.write(text, written)
}

/** Sets what takes a line of progress off the terminal before anything else is written there; `undefined`: there is none. */
export const setOverlay = (clear: (() => void) | undefined): void => {
  overlay = clear
}

/** Lets go of a terminal that has been closed: Node.js sets terminals back when it exits, and aborts where one has gone. */
export const leaveTerminal = (): void => {
  if (left) return
  left = true
  process.on("exit", () => {
    for (const fd of [0, 1, 2]) {
      try {
        if (fstatSync(fd).isCharacterDevice()) closeSync(fd)
      } catch {
        // It is closed already.
      }
    }
  })
}

/** Waits until whoever reads stdout has gone; noticed at the next write. */
export const untilClosed: Effect.Effect<void> = Effect.async((resume) => {
  if (closed) return resume(Effect.void)
  const listener = () => resume(Effect.void)
  listeners.add(listener)
  return Effect.sync(() => listeners.delete(listener))
})

/** The bytes of a file, or of stdin for `-` and for no name; at most 256 MiB. */
export const readAll = (file: string | undefined): Effect.Effect<Uint8Array, CliError.CliError> =>
  readStream(file, () => openInput(file).stream)

/** The bytes of a file, or of stdin, as they come. */
export interface Input {
  readonly stream: NodeJS.ReadableStream
  /** Length in bytes, where it is known. */
  readonly size: number | undefined
}

/**
 * Opens a file, or stdin for `-` and for no name. It doesn't wait for what a pipe or a terminal has yet to bring, so that the process can end. Throws an error
 * with the system's code, for a directory too.
 */
export const openInput = (file: string | undefined): Input => {
  if (file === undefined || file === "-") return { stream: openStdin(), size: undefined }
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    if (stats.isDirectory()) throw Object.assign(new Error(), { code: "EISDIR" })
    return { stream: streamOf(fd, file, stats.isFIFO()), size: stats.isFile() ? stats.size : undefined }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** The failure of a file, or of stdin, that can't be read. */
export const unreadable = (file: string | undefined, code: string | undefined): CliError.CliError =>
  CliError.usage(
    `cannot read ${file === undefined || file === "-" ? "standard input" : visible(withoutCredential(file), 200)}: ${
      reasonOf(code)
    }`
  )

/** The system's code of an error (`ENOENT`), if it has one. */
export const codeOf = (error: unknown): string | undefined => {
  if (typeof error !== "object" || error === null) return undefined
  const code: unknown = Reflect.get(error, "code")
  return typeof code === "string" ? code : "unknown error"
}

/** What a system's error code means, in words. */
export const reasonOf = (code: string | undefined): string =>
  (code === undefined ? undefined : reasons[code]) ?? code ?? "unknown error"

// --- internal

const maxBytes = 256 * 1024 * 1024
const gone = new Set(["EPIPE", "ECONNRESET", "ERR_STREAM_DESTROYED"])
const listeners = new Set<() => void>()
let closed = false
let watched = false
let heard = false
let left = false
let overlay: (() => void) | undefined

const ignore = () => undefined

const isGone = (code: string): boolean => {
  // What a terminal says once it is closed.
  if (code !== "EIO" || !process.stdout.isTTY) return gone.has(code)
  leaveTerminal()
  return true
}

const watch = () => {
  if (watched) return
  watched = true
  process.stdout.on("error", (error) => {
    if (!isGone(codeOf(error) ?? "")) return
    closed = true
    for (const listener of listeners) listener()
  })
}

const tooLong = CliError.usage("the input is longer than 256 MiB")

// Node.js takes a directory for an empty input.
const openStdin = (): NodeJS.ReadableStream => {
  if (fstatSync(0).isDirectory()) throw Object.assign(new Error(), { code: "EISDIR" })
  return process.stdin
}

// A read that waits in a thread of Node.js's pool can't be given up: the process would wait for it at its end.
const streamOf = (fd: number, file: string, isPipe: boolean): NodeJS.ReadableStream =>
  isPipe
    ? new Socket({ fd, readable: true, writable: false })
    : isatty(fd)
    ? new ReadStream(fd)
    : createReadStream(file, { fd, highWaterMark: 65_536 })

const readStream = (
  file: string | undefined,
  open: () => NodeJS.ReadableStream
): Effect.Effect<Uint8Array, CliError.CliError> =>
  Effect.async((resume) => {
    const chunks: Array<Uint8Array> = []
    let length = 0
    let stream: NodeJS.ReadableStream
    try {
      stream = open()
    } catch (error) {
      return resume(Effect.fail(unreadable(file, codeOf(error))))
    }
    stream.on("data", (chunk: Buffer) => {
      length += chunk.length
      if (length <= maxBytes) return chunks.push(chunk)
      stream.pause()
      chunks.length = 0
      resume(Effect.fail(tooLong))
    })
    stream.on("end", () => resume(Effect.succeed(Buffer.concat(chunks))))
    stream.on("error", (error) => resume(Effect.fail(unreadable(file, codeOf(error)))))
  })

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  ENOTDIR: "no such file",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a directory",
  ENXIO: "it is a socket",
  ENOSPC: "no space left",
  EMFILE: "too many open files",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "too many symbolic links",
  EIO: "input/output error",
  ENOTREG: "it is not a regular file",
  ERR_FS_FILE_TOO_LARGE: "it is too large",
  ERR_INVALID_ARG_VALUE: "the name is not valid",
  EADDRINUSE: "the port is in use"
}
