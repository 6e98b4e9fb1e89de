/**
 * Unpredictable bytes and identifiers. Secrets, message ids, correlation ids and fence tokens all come from
 * this one service, so that a test can pin them and nothing in the library reaches for chance on its own.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { randomBytes } from "node:crypto"

/**
 * The source of unpredictable bytes; `node:crypto` unless a program provides another.
 */
export class SecureRandom extends Context.Reference<SecureRandom>()("effect-webhooks/SecureRandom", {
  defaultValue: (): SecureRandomShape => ({ bytes: (length) => Effect.sync(() => fromPool(length)) })
}) {}

/** What a `SecureRandom` can do. */
export interface SecureRandomShape {
  /** `length` unpredictable bytes. */
  readonly bytes: (length: number) => Effect.Effect<Uint8Array>
}

/**
 * `length` characters of `[A-Za-z0-9]`, each uniform: 5.95 bits a character, so 24 of them carry 142 bits.
 */
export const alphanumeric = (length: number): Effect.Effect<string> =>
  Effect.flatMap(SecureRandom, (random) => {
    const loop = (text: string): Effect.Effect<string> =>
      // Two of 64 values are passed over: an eighth more bytes than needed nearly always suffice.
      Effect.flatMap(random.bytes(Math.ceil((length - text.length) * 1.125) + 1), (bytes) => {
        let next = text
        for (const byte of bytes) {
          const value = byte & 63
          if (value < 62 && next.length < length) next += alphabet[value]
        }
        return next.length < length ? loop(next) : Effect.succeed(next)
      })
    return loop("")
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

/** A call of the operating system's generator takes 3 µs, whatever it gives: so it gives for many. What has been handed out isn't kept. */
const poolBytes = 4096
let pool: Buffer = Buffer.alloc(0)
let used = 0

const fromPool = (length: number): Uint8Array => {
  if (length > poolBytes) return randomBytes(length)
  if (used + length > pool.length) {
    pool = randomBytes(poolBytes)
    used = 0
  }
  const bytes = Uint8Array.prototype.slice.call(pool, used, used + length)
  pool.fill(0, used, used + length)
  used += length
  return bytes
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
