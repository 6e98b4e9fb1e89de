/**
 * The beginning of a receiver's answer, fit to be stored and shown: no character that acts on a terminal or hides, and nothing of the secrets
 * of the request, which receivers like to repeat in their errors.
 */

import { gap, readings } from "./readings.js"

/** Most characters of an excerpt. */
export const maxLength = 1000

/** What stands in place of a secret. */
export const mark = "[redacted]"

/**
 * The excerpt of a body, read as UTF-8 (what is none becomes U+FFFD); `undefined` if nothing is left of it. Of each secret no 8 characters in a row remain,
 * letter case set aside; one that is shorter is masked as a whole. Where 8 of them can be read in what is left in another way (escaped, as numbers, in base64), nothing
 * of it is shown. `secrets` gives those that can show in a text of so many characters.
 */
export const make = (body: Uint8Array, secrets: (length: number) => ReadonlyArray<string>): string | undefined => {
  if (body.length === 0) return undefined
  const text = clean(decoder.decode(body.subarray(0, maxBytes)))
  const known = secrets(text.length)
  const shown = cut(
    text,
    covered(text, known.map(clean)),
    body.length > maxBytes ? text.length - window + 1 : text.length
  )
  if (shown.trim() === "") return undefined
  return isReadIn(shown, known) ? mark : shown
}

// --- internal

const window = 8

/** Enough for an excerpt with room for masked secrets: what lies further behind would only cost time. */
const maxBytes = 8192

const decoder = new TextDecoder()

const clean = (text: string): string =>
  /^[ -~]*$/.test(text)
    ? text
    : text.replace(sequences, "").replace(/\r\n|[\t\n\r\v\f\x85\u2028\u2029]/g, " ").replace(unseen, "")

// What a terminal obeys, whole: without its first character the rest would stay as litter.
const sequences = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]/g

// Controls, formats (bidi, zero-width) and whatever else has no glyph and could part the characters of a secret.
const unseen = /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]/gu

/** Marks each character that belongs to a secret. */
const covered = (text: string, secrets: ReadonlyArray<string>): Uint8Array => {
  const cover = new Uint8Array(text.length)
  const folded = fold(text)
  for (const [size, joined] of joinBySize(secrets)) {
    const windows = hashes(folded, size)
    const ofSecrets = hashes(joined, size)
    const shared = sharedHashes(windows, ofSecrets)
    if (shared.size === 0) continue
    // A set: an answer that repeats all of the secrets would have each of its windows looked for in all of them.
    const known = new Set<string>()
    for (const [at, hash] of ofSecrets.entries()) if (shared.has(hash)) known.add(joined.slice(at, at + size))
    for (const [start, hash] of windows.entries()) {
      if (shared.has(hash) && known.has(folded.slice(start, start + size))) cover.fill(1, start, start + size)
    }
  }
  return cover
}

/** Whether a text gives away a secret to whoever reads it in another way. */
const isReadIn = (text: string, secrets: ReadonlyArray<string>): boolean => {
  const found = readings(text)
  if (found.length === 0) return false
  const long = secrets.filter(({ length }) => length >= window)
  // Of keys that are no text there are the bytes.
  const keys = long.filter((secret) => /^(?:[0-9a-f]{2}){8,}$/.test(secret)).map((digits) =>
    Buffer.from(digits, "hex").toString("latin1")
  )
  return covered(found.join(gap), [...long, ...keys]).includes(1)
}

/** The secrets by the size of their windows, as one text each: no cleaned text holds the line break between them. */
const joinBySize = (secrets: ReadonlyArray<string>): Map<number, string> => {
  const joined = new Map<number, string>()
  for (const secret of secrets) {
    const size = Math.min(window, secret.length)
    if (size > 0) joined.set(size, `${joined.get(size) ?? ""}${fold(secret)}\n`)
  }
  return joined
}

/**
 * The hashes that two lists share. By hashes and a bitmap before a set, since this runs for each answer, the secrets have
 * hundreds of windows and next to none is shared.
 */
const sharedHashes = (left: Int32Array, right: Int32Array): Set<number> => {
  const seen = new Uint8Array(bitmapBytes)
  for (const hash of left) seen[(hash >>> 3) & (bitmapBytes - 1)]! |= 1 << (hash & 7)
  const shared = new Set<number>()
  for (const hash of right) {
    if ((seen[(hash >>> 3) & (bitmapBytes - 1)]! & (1 << (hash & 7))) !== 0) shared.add(hash)
  }
  return shared
}

/** A power of two; eight times the windows of the longest text. */
const bitmapBytes = 8192

/** The hash of each window: a rolling polynomial, modulo 2^32. */
const hashes = (folded: string, size: number): Int32Array => {
  const found = new Int32Array(Math.max(0, folded.length - size + 1))
  let power = 1
  for (let exponent = 0; exponent < size; exponent++) power = Math.imul(power, base)
  let hash = 0
  for (let at = 0; at < folded.length; at++) {
    hash = (Math.imul(hash, base) + folded.charCodeAt(at)) | 0
    if (at >= size) hash = (hash - Math.imul(folded.charCodeAt(at - size), power)) | 0
    if (at >= size - 1) found[at - size + 1] = hash
  }
  return found
}

const base = 0x01000193

/** Capital letters of ASCII as small ones; of others the length might change. */
const fold = (text: string): string =>
  /^[\n -~]*$/.test(text) ? text.toLowerCase() : text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())

/** The text up to `end` with a mark for each run of covered characters, as much of it as an excerpt may have. */
const cut = (text: string, cover: Uint8Array, end: number): string => {
  let shown = ""
  for (let at = 0; at < end && shown.length < maxLength;) {
    const from = at
    while (at < end && cover[at] === cover[from]) at++
    if (cover[from] === 0) shown += text.slice(from, Math.min(at, from + maxLength - shown.length))
    else if (shown.length + mark.length <= maxLength) shown += mark
    else break
  }
  // A cut or a mark may have halved a surrogate pair.
  return shown.replace(/\p{Cs}/gu, "\uFFFD")
}
