/**
 * The bytes of one JSON value and what they mean, bounded and with our own words for what is wrong (those of `JSON.parse` quote the input).
 */
import { formatPath, maxDepth } from "../webhooks/internal/encodeTree.js"
import * as JsonLosses from "../webhooks/internal/jsonLosses.js"

/** A value, or why there is none, and the line (from 1) on which it begins. */
export type Item =
  | { readonly _tag: "Value"; readonly line: number; readonly value: unknown }
  | { readonly _tag: "Invalid"; readonly line: number; readonly error: string }

/** Takes bytes in turn and gives the values in them as soon as they are there; `end` once after the last. */
export interface Reader {
  readonly push: (chunk: Uint8Array) => ReadonlyArray<Item>
  readonly end: () => ReadonlyArray<Item>
}

/** Most bytes of one value. */
export const maxBytes = 1_048_576

export const notUtf8 = "not valid UTF-8"
export const notJson = "not valid JSON"
export const tooLong = "longer than 1 MiB"
export const tooDeep = `nested deeper than ${maxDepth} levels`

/** What can't be read. */
export const invalid = (line: number, error: string): Item => ({ _tag: "Invalid", line, error })

/** Decodes the bytes of one value. */
export const parse = (bytes: Uint8Array, line: number): Item => {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    return invalid(line, notUtf8)
  }
  // An event's data may be as deep as an event may be. A short text isn't.
  if (text.length > maxDepth && JsonLosses.isDeeperThan(text, maxDepth + 1)) return invalid(line, tooDeep)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return invalid(line, notJson)
  }
  const lost = describe(JsonLosses.find(text))
  return lost === undefined ? { _tag: "Value", line, value } : invalid(line, lost)
}

/** The bytes of a value that comes in pieces; beyond `maxBytes` they are no longer kept. */
export interface Buffered {
  readonly add: (piece: Uint8Array) => void
  readonly overflowed: () => boolean
  readonly take: () => Uint8Array
  readonly clear: () => void
}

/** An empty buffer. */
export const makeBuffer = (): Buffered => {
  const none = new Uint8Array(0)
  let kept: Uint8Array = none
  let size = 0
  return {
    add: (piece) => {
      const end = size + piece.length
      if (end > maxBytes) kept = none
      // Mostly it is the only one.
      else if (size === 0) kept = piece
      else {
        // One buffer that grows: a list would let one-byte pieces cost a hundred times their bytes.
        if (end > kept.length) {
          const larger = new Uint8Array(Math.min(maxBytes, Math.max(end, size * 2)))
          larger.set(kept)
          kept = larger
        }
        kept.set(piece, size)
      }
      size = end
    },
    overflowed: () => size > maxBytes,
    take: () => kept.subarray(0, size),
    clear: () => {
      kept = none
      size = 0
    }
  }
}

// --- internal

const describe = (loss: JsonLosses.Loss | undefined): string | undefined => {
  if (loss === undefined) return undefined
  const path = formatPath("", loss.path).replace(/^\./, "")
  return `${path === "" ? "the value" : path}: ${loss.problem}`
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
