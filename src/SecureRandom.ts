/**
 * Unpredictable bytes and identifiers. Secrets, message ids, correlation ids and fence tokens all come from
 * this one service, so that a test can pin them and nothing in the library reaches for chance on its own.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { randomFillSync } from "node:crypto"

/**
 * The source of unpredictable bytes; `node:crypto` unless a program provides another.
 */
export class SecureRandom extends Context.Reference<SecureRandom>()("effect-webhooks/SecureRandom", {
  defaultValue: (): SecureRandomShape => ours
}) {}

/** What a `SecureRandom` can do. */
export interface SecureRandomShape {
  /** `length` unpredictable bytes. */
  readonly bytes: (length: number) => Effect.Effect<Uint8Array>
}

/**
 * `prefix` and `length` characters of `[A-Za-z0-9]`, each uniform: 5.95 bits a character, so 24 of them carry 142 bits.
 */
export const alphanumeric = (length: number, prefix = ""): Effect.Effect<string> =>
  Effect.withFiberRuntime((fiber) => {
    const random = Context.get(fiber.currentContext, SecureRandom)
    const loop = (text: string): Effect.Effect<string> =>
      Effect.flatMap(random.bytes(needed(length - text.length)), (bytes) => {
        const next = extended(text, bytes, length)
        return next.length < length ? loop(next) : Effect.succeed(prefix + next)
      })
    if (random !== ours) return loop("")
    // Ours gives its bytes at once: an id takes one step of the fiber in place of eight, and a delivery may have two.
    let text = ""
    while (text.length < length) text = extended(text, drawn(needed(length - text.length)), length)
    return Effect.succeed(prefix + text)
  })

/**
 * A source that repeats itself for a seed: for tests, never for real secrets.
 */
export const layerTest = (seed: string): Layer.Layer<never> => {
  const random = Random.make(seed)
  return Layer.succeed(SecureRandom, {
    bytes: (length) =>
      Effect.map(
        Effect.all(Array.from({ length }, () => random.nextIntBetween(0, 256))),
        (bytes) => Uint8Array.from(bytes)
      )
  })
}

// --- internal

/** Bytes drawn ahead, each given out once: a call of the generator takes 4.3 µs for an id's 48 bytes, and 6.2 µs for 4096. */
const pool = new Uint8Array(4096)
let used = pool.length

const drawn = (length: number): Uint8Array => {
  if (length > pool.length) return randomFillSync(new Uint8Array(length))
  if (used + length > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  // A copy, and what it was copied from is erased: it is nobody else's.
  const bytes = pool.slice(used, used + length)
  pool.fill(0, used, used + length)
  used += length
  return bytes
}

const ours: SecureRandomShape = { bytes: (length) => Effect.sync(() => drawn(length)) }

/** Bytes for as many characters: two of 64 values are passed over, and an eighth more than needed nearly always suffice. */
const needed = (characters: number): number => Math.ceil(characters * 1.125) + 1

const extended = (text: string, bytes: Uint8Array, length: number): string => {
  // As one text of codes: put together of single characters it is 20 texts, and a third of a kB of links between them.
  const codes: Array<number> = []
  for (const byte of bytes) {
    const value = byte & 63
    if (value < 62 && text.length + codes.length < length) codes.push(alphabet.charCodeAt(value))
  }
  return text + String.fromCharCode(...codes)
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
