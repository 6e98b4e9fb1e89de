/**
 * Signing a message and verifying a signed one: Standard Webhooks 1.0 (`id.timestamp.body` under HMAC-SHA256 or ed25519) and the plain
 * `X-Webhook-Signature` over the body alone. Pure functions over bytes; the clock, servers and replays are `WebhookVerifier`'s.
 * Light on purpose: neither Schema nor the platform is loaded.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import {
  createHmac,
  type KeyObject,
  sign as signAsymmetric,
  timingSafeEqual,
  verify as verifyAsymmetric
} from "node:crypto"
import { hmac } from "./internal/hmac.js"
import { decodeBase64, type HmacKey, type SigningKey, type VerifyingKey } from "./WebhookSecret.js"

export {
  type Ed25519Key,
  type Ed25519PublicKey,
  type GeneratedSecret,
  generateSecret,
  type HmacKey,
  InvalidSecret,
  type InvalidSecretReason,
  parseSecret,
  parseVerifyingSecret,
  type SigningKey,
  type VerifyingKey
} from "./WebhookSecret.js"

/** Header names in any case; a duplicated header is an array. A `Headers` or `Map` object serves as well. */
export type HeadersInput =
  | Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  | Iterable<readonly [name: string, value: string]>

/** Whether an id may be signed: 1 to 64 characters of `[A-Za-z0-9_-]`. */
export const isMessageId = (id: string): boolean => messageId.test(id)

/**
 * The headers of one attempt, names in lower case:
 *
 * - `webhook-id` and `webhook-timestamp`;
 * - `webhook-signature`: one signature a key, in the order of the keys (put the newest first), separated by a space: `v1,` and base64
 *   of the HMAC-SHA256, or `v1a,` and base64 of the ed25519 signature, of the bytes `id.timestamp.body`; absent without keys;
 * - `x-webhook-signature`: lower-case hex HMAC-SHA256 of the body alone under the first symmetric secret as written; absent without one.
 *
 * `timestamp` is in seconds since the epoch, a whole number. A `body` given as text is signed as its UTF-8 bytes.
 */
export const sign = (options: {
  readonly id: string
  readonly timestamp: number
  readonly body: Uint8Array | string
  readonly keys: ReadonlyArray<SigningKey>
}): Either.Either<Record<string, string>, InvalidMessageId | InvalidTimestamp> => {
  const { body, id, keys, timestamp } = options
  if (!isMessageId(id)) return Either.left(new InvalidMessageId())
  if (!Number.isSafeInteger(timestamp) || timestamp < 0) return Either.left(new InvalidTimestamp())
  const headers: Record<string, string> = { "webhook-id": id, "webhook-timestamp": String(timestamp) }
  if (keys.length === 0) return Either.right(headers)
  const head = `${id}.${timestamp}.`
  const bytes = typeof body === "string" ? Buffer.from(body) : body
  headers["webhook-signature"] = keys.map((key) =>
    key._tag === "Hmac"
      ? `v1,${hmac(key.key, head, bytes, "base64")}`
      : `v1a,${signAsymmetric(null, concat(head, bytes), key.privateKey).toString("base64")}`
  ).join(" ")
  const symmetric = keys.find((key): key is HmacKey => key._tag === "Hmac")
  if (symmetric !== undefined) headers["x-webhook-signature"] = hmac(symmetric.textKey, "", bytes, "hex")
  return Either.right(headers)
}

/**
 * Verifies a Standard Webhooks request over its raw body: any one signature with any one key suffices.
 *
 * - `now`: the receiver's clock, milliseconds since the epoch. `tolerance`: how far the timestamp may lie from it either way,
 *   inclusive; 5 minutes unless given.
 * - When `svix-id`, `svix-timestamp` and `svix-signature` are all there they are taken, otherwise the `webhook-*` headers.
 * - Signatures are separated by single spaces. Unknown versions and what isn't strict base64 of the right length are passed over; the
 *   first 64 entries of at most 8 192 characters are looked at, a longer header matches nothing.
 * - Every candidate is compared in constant time and none ends the search early.
 *
 * A repeated `webhook-signature` header counts as one list; a repeated id or timestamp is refused. The reasons of `VerificationFailed`
 * say which check refused; an id outside `[A-Za-z0-9_-]{1,64}` is `no-match`, since nothing signed under it can be trusted (a dot would
 * let `id.timestamp.body` be cut elsewhere).
 */
export const verify = (options: {
  readonly headers: HeadersInput
  readonly body: Uint8Array | string
  readonly keys: ReadonlyArray<VerifyingKey>
  readonly now: number
  readonly tolerance?: Duration.DurationInput | undefined
}): Either.Either<{ readonly id: string; readonly timestamp: number }, VerificationFailed> => {
  const found = collect(options.headers, standardNames)
  const prefix = ["id", "timestamp", "signature"].every((name) => found.has(`svix-${name}`)) ? "svix" : "webhook"
  const ids = found.get(`${prefix}-id`)
  const timestamps = found.get(`${prefix}-timestamp`)
  const signatures = found.get(`${prefix}-signature`)
  if (ids === undefined || timestamps === undefined || signatures === undefined) return failed("missing-header")
  const [id, ...otherIds] = ids
  if (id === undefined || otherIds.length > 0 || !isMessageId(id)) return failed("no-match")
  const [text, ...otherTimestamps] = timestamps
  if (text === undefined || otherTimestamps.length > 0 || !plainInteger.test(text)) return failed("bad-timestamp")
  const timestamp = Number(text)
  if (!Number.isSafeInteger(timestamp)) return failed("bad-timestamp")
  const age = options.now - timestamp * 1000
  const tolerance = options.tolerance === undefined ? defaultTolerance : Duration.toMillis(options.tolerance)
  if (age > tolerance) return failed("too-old")
  if (-age > tolerance) return failed("too-new")
  return matches(signatures.join(" "), `${id}.${text}.`, options.body, options.keys)
    ? Either.right({ id, timestamp })
    : failed("no-match")
}

/**
 * Verifies `X-Webhook-Signature`: 64 lower-case hex digits, the HMAC-SHA256 of the raw body under the UTF-8 bytes of any one symmetric
 * secret as written, in constant time. **It says nothing about when and how often the request was sent**: whoever has recorded one can
 * send it again. Prefer `verify`. Reasons: `missing-header` and `no-match` (a repeated header too).
 */
export const verifyBody = (options: {
  readonly headers: HeadersInput
  readonly body: Uint8Array | string
  readonly keys: ReadonlyArray<VerifyingKey>
}): Either.Either<void, VerificationFailed> => {
  const values = collect(options.headers, bodyNames).get("x-webhook-signature")
  if (values === undefined) return failed("missing-header")
  const [value, ...others] = values
  if (value === undefined || others.length > 0 || !hexDigest.test(value)) return failed("no-match")
  const given = Buffer.from(value, "hex")
  let match = false
  for (const key of options.keys) {
    if (key._tag === "Hmac" && timingSafeEqual(macOf(key.textKey, "", options.body), given)) match = true
  }
  return match ? Either.void : failed("no-match")
}

/** Whether a request carries a header of the Standard Webhooks form (`webhook-signature` or `svix-signature`), valid or not. */
export const hasStandardSignature = (headers: HeadersInput): boolean => {
  const found = collect(headers, standardNames)
  return found.has("webhook-signature") || found.has("svix-signature")
}

/**
 * Why a request is not believed:
 *
 * - `missing-header`: one of id, timestamp and signature is absent or empty;
 * - `bad-timestamp`: not a plain integer (no sign, fraction, exponent or leading zero), or given twice;
 * - `too-old`, `too-new`: further from the receiver's clock than the tolerance;
 * - `no-match`: no signature fits any key, or the id is not one that may be signed.
 */
export type VerificationFailure = "missing-header" | "bad-timestamp" | "too-old" | "too-new" | "no-match"

/** A request whose signature does not hold. It carries nothing of the request. */
export class VerificationFailed extends Data.TaggedError("VerificationFailed")<{
  readonly reason: VerificationFailure
}> {
  override get message(): string {
    return explanations[this.reason]
  }
}

/** A message id that must not be signed. */
export class InvalidMessageId extends Data.TaggedError("InvalidMessageId") {
  override get message(): string {
    return "a message id is 1 to 64 characters of A-Z a-z 0-9 _ -"
  }
}

/** A timestamp that must not be signed. */
export class InvalidTimestamp extends Data.TaggedError("InvalidTimestamp") {
  override get message(): string {
    return "a timestamp is a whole number of seconds since 1970, zero or more"
  }
}

// --- internal

const messageId = /^[A-Za-z0-9_-]{1,64}$/
const plainInteger = /^(?:0|[1-9][0-9]{0,15})$/
const hexDigest = /^[0-9a-f]{64}$/
const defaultTolerance = 300_000
const maxSignatures = 64
const maxSignatureLength = 8192

const standardNames: ReadonlySet<string> = new Set([
  "webhook-id",
  "webhook-timestamp",
  "webhook-signature",
  "svix-id",
  "svix-timestamp",
  "svix-signature"
])
const bodyNames: ReadonlySet<string> = new Set(["x-webhook-signature"])

const explanations: Record<VerificationFailure, string> = {
  "missing-header": "a header of the signature is missing or empty",
  "bad-timestamp": "the timestamp is not a plain integer of seconds",
  "too-old": "the timestamp is older than the tolerance allows; compare the clocks",
  "too-new": "the timestamp lies further in the future than the tolerance allows; compare the clocks",
  "no-match": "no signature matches; check the secret, and that the body's bytes are unchanged"
}

const failed = (reason: VerificationFailure): Either.Either<never, VerificationFailed> =>
  Either.left(new VerificationFailed({ reason }))

const collect = (headers: HeadersInput, names: ReadonlySet<string>): Map<string, ReadonlyArray<string>> => {
  const found = new Map<string, Array<string>>()
  const entries: Iterable<readonly [string, string | ReadonlyArray<string> | undefined]> = isIterable(headers)
    ? headers
    : Object.entries(headers)
  for (const [name, value] of entries) {
    const lower = name.toLowerCase()
    if (!names.has(lower)) continue
    for (const one of typeof value === "string" ? [value] : value ?? []) {
      if (one === "") continue
      const values = found.get(lower)
      if (values === undefined) found.set(lower, [one])
      else values.push(one)
    }
  }
  return found
}

const isIterable = (headers: HeadersInput): headers is Iterable<readonly [string, string]> =>
  typeof Reflect.get(headers, Symbol.iterator) === "function"

const matches = (
  header: string,
  head: string,
  body: Uint8Array | string,
  keys: ReadonlyArray<VerifyingKey>
): boolean => {
  if (header.length > maxSignatureLength) return false
  const macs: Array<Buffer> = []
  const publicKeys: Array<KeyObject> = []
  for (const key of keys) {
    if (key._tag !== "Hmac") {
      publicKeys.push(key.publicKey)
      continue
    }
    macs.push(macOf(key.key, head, body))
    if (key.decodedKey !== undefined) macs.push(macOf(key.decodedKey, head, body))
  }
  const content = publicKeys.length === 0 ? undefined : concat(head, body)
  let match = false
  // Node.js joins the values of a repeated header with a comma and a space.
  for (const entry of header.split(/,? /, maxSignatures)) {
    if (entry.startsWith("v1,")) {
      const given = decodeBase64(entry.slice(3))
      if (given === undefined || given.length !== 32) continue
      for (const mac of macs) if (timingSafeEqual(mac, given)) match = true
    } else if (content !== undefined && entry.startsWith("v1a,")) {
      const given = decodeBase64(entry.slice(4))
      if (given === undefined || given.length !== 64) continue
      for (const key of publicKeys) if (verifyAsymmetric(null, content, key, given)) match = true
    }
  }
  return match
}

/** As bytes, to be compared in constant time. */
const macOf = (key: KeyObject, head: string, body: Uint8Array | string): Buffer =>
  createHmac("sha256", key).update(head).update(body).digest()

const concat = (head: string, body: Uint8Array | string): Buffer =>
  Buffer.concat([Buffer.from(head), typeof body === "string" ? Buffer.from(body) : body])
