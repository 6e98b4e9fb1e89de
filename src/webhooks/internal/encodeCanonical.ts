/**
 * JSON exactly as Python's `json.dumps(value, sort_keys=True)` writes it, so that a receiver of the source system may verify over its own re-serialisation. Numbers
 * that JavaScript prints as integers stay integers there.
 *
 * Written as bytes, character by character: with short members this takes half of the time of concatenated text, which has to be encoded then (8 and 16 µs for 600
 * bytes).
 */
import { markAsUntransferable } from "node:worker_threads"
import type { Json } from "./encodeTree.js"

/**
 * Encodes a tree; it is as deep as `encodeTree` allows, hence plain recursion. What it gives may lie in one memory with others, as with Node's own buffers: memory of
 * its own for each took a fifth of the time, and more of the garbage collector's.
 */
export const encodeCanonical = (tree: Json): Uint8Array => {
  scratch = slab
  start = at = free
  write(tree)
  // What was too long for a slab has grown in memory of its own.
  if (scratch.length > slabSize) return scratch.slice(start, at)
  slab = scratch
  free = at
  return slab.subarray(start, at)
}

// --- internal

/** Bytes; as much as Node.js gives its buffers. */
const slabSize = 8192

/** As Node.js does with the memory of its buffers: who hands one of several documents over to another thread must not take the others with it. */
const memory = (bytes: number): Uint8Array => {
  const made = new Uint8Array(bytes)
  if (bytes === slabSize) markAsUntransferable(made.buffer)
  return made
}

/** Where documents lie one after the other, and from where on it is free. */
let slab = memory(slabSize)
let free = 0

/** Where the document lies that is being written, and how far it has come. */
let scratch = slab
let start = 0
let at = 0

const reserve = (bytes: number): void => {
  if (at + bytes <= scratch.length) return
  const used = at - start
  const needed = used + bytes
  const larger = memory(needed <= slabSize ? slabSize : Math.max(used * 2, needed))
  larger.set(scratch.subarray(start, at))
  scratch = larger
  start = 0
  at = used
}

const write = (tree: Json): void => {
  if (typeof tree === "string") return writeString(tree)
  if (typeof tree === "number") return writeAscii(numberText(tree))
  if (tree === null) return writeAscii("null")
  if (typeof tree === "boolean") return writeAscii(tree ? "true" : "false")
  if (isArray(tree)) {
    writeByte(openBracket)
    for (let index = 0; index < tree.length; index++) {
      if (index > 0) writeSeparator(comma)
      write(tree[index]!)
    }
    return writeByte(closeBracket)
  }
  const keys = Object.keys(tree)
  sort(keys)
  writeByte(openBrace)
  for (let index = 0; index < keys.length; index++) {
    if (index > 0) writeSeparator(comma)
    writeString(keys[index]!)
    writeSeparator(colon)
    write(tree[keys[index]!]!)
  }
  writeByte(closeBrace)
}

const isArray = (tree: Json): tree is ReadonlyArray<Json> => Array.isArray(tree)

const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d
const comma = 0x2c
const colon = 0x3a
const space = 0x20
const quote = 0x22
const backslash = 0x5c

const writeByte = (byte: number): void => {
  reserve(1)
  scratch[at++] = byte
}

const writeSeparator = (byte: number): void => {
  reserve(2)
  scratch[at++] = byte
  scratch[at++] = space
}

const writeAscii = (text: string): void => {
  reserve(text.length)
  const bytes = scratch
  let next = at
  for (let index = 0; index < text.length; index++) bytes[next++] = text.charCodeAt(index)
  at = next
}

const writeString = (text: string): void =>
  text.length > long ? writeLong(plain.test(text) ? text : text.replace(escaped, escapeOf)) : writeShort(text)

/** Characters from which on the engine's own loops are the faster ones. */
const long = 100

/** With room for the longest that it can become, and by local variables: a sixth of the time. */
const writeShort = (text: string): void => {
  reserve(6 * text.length + 2)
  const bytes = scratch
  let next = at
  bytes[next++] = quote
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code < space || code > 0x7e || code === quote || code === backslash) {
      const escape = escapeOf(text[index]!)
      for (let index = 0; index < escape.length; index++) bytes[next++] = escape.charCodeAt(index)
    } else bytes[next++] = code
  }
  bytes[next++] = quote
  at = next
}

const writeLong = (text: string): void => {
  writeByte(quote)
  reserve(text.length)
  at += encoder.encodeInto(text, scratch.subarray(at)).written
  writeByte(quote)
}

const encoder = new TextEncoder()
const plain = /^[ !#-[\]-~]*$/
const escaped = /["\\]|[^ -~]/g

const escapeOf = (char: string): string => short[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`

const short: Readonly<Record<string, string>> = {
  "\"": "\\\"",
  "\\": "\\\\",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t"
}

// Python turns to exponents below 1e-4 (JavaScript below 1e-6) and writes at least two digits of them.
const numberText = (value: number): string =>
  value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential().replace(/e-(\d)$/, "e-0$1") : String(value)

/** Calling upon `sort` for an object's few members takes longer than sorting them. */
const sort = (keys: Array<string>): void => {
  if (keys.length > few) {
    keys.sort(byCodePoint)
    return
  }
  for (let next = 1; next < keys.length; next++) {
    const key = keys[next]!
    let place = next
    for (; place > 0 && byCodePoint(keys[place - 1]!, key) > 0; place--) keys[place] = keys[place - 1]!
    keys[place] = key
  }
}

const few = 12

// By code point as Python sorts; JavaScript's own order by UTF-16 unit puts U+1F389 before U+FFFF.
const byCodePoint = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    if (a.charCodeAt(index) === b.charCodeAt(index)) continue
    // After a common high surrogate the difference is in the pair, whose start is one unit back.
    const at = index > 0 && isHigh(a, index - 1) && (isLow(a, index) || isLow(b, index)) ? index - 1 : index
    return a.codePointAt(at)! - b.codePointAt(at)!
  }
  return a.length - b.length
}

const isHigh = (text: string, index: number): boolean => (text.charCodeAt(index) & 0xfc00) === 0xd800
const isLow = (text: string, index: number): boolean => (text.charCodeAt(index) & 0xfc00) === 0xdc00
