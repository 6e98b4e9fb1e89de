/**
 * HMAC-SHA256 (RFC 2104) of what is in memory, out of two hashes made in one call each: `createHmac` makes an object with a native handle, which the garbage collector
 * has to see to. Two signatures a delivery: 20 of 290 µs.
 */
import { createHmac, hash, type KeyObject } from "node:crypto"

/** The HMAC of `head` (Latin-1) and the body behind it. */
export const hmac = (key: KeyObject, head: string, body: Uint8Array, encoding: "base64" | "hex"): string => {
  const length = block + head.length + body.length
  // What takes longest then is the hash: of 256 KiB both ways take 205 µs.
  if (length > scratch.length) return createHmac("sha256", key).update(head, "latin1").update(body).digest(encoding)
  const { inner, outer } = padsOf(key)
  scratch.set(inner, 0)
  scratch.write(head, block, "latin1")
  scratch.set(body, block + head.length)
  const digest = hash("sha256", scratch.subarray(0, length), "binary")
  scratch.set(outer, 0)
  scratch.write(digest, block, "latin1")
  return hash("sha256", scratch.subarray(0, block + digest.length), encoding)
}

// --- internal

/** Bytes of a block of SHA-256. */
const block = 64

const scratch = Buffer.alloc(16_384)

interface Pads {
  readonly inner: Uint8Array
  readonly outer: Uint8Array
}

const known = new WeakMap<KeyObject, Pads>()

const padsOf = (key: KeyObject): Pads => {
  const found = known.get(key)
  if (found !== undefined) return found
  const bytes = key.export()
  const padded = bytes.length > block ? hash("sha256", bytes, "buffer") : bytes
  const pad = (value: number): Uint8Array => new Uint8Array(block).map((_, index) => (padded[index] ?? 0) ^ value)
  const pads = { inner: pad(0x36), outer: pad(0x5c) }
  known.set(key, pads)
  return pads
}
