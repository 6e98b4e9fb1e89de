/**
 * Secrets and the keys made from them. A secret stays `Redacted` until it becomes a key object of `node:crypto`, once; signing and
 * verifying (see `WebhookSignature`) then work with the key alone. Light on purpose: neither Schema nor the platform is loaded.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { globalValue } from "effect/GlobalValue"
import * as Redacted from "effect/Redacted"
import { createPrivateKey, createPublicKey, createSecretKey, type KeyObject } from "node:crypto"
import * as SecureRandom from "../SecureRandom.js"

/**
 * A symmetric key: HMAC-SHA256, signature version `v1`. Neither `inspect` nor JSON shows what is inside the key objects.
 */
export interface HmacKey {
  readonly _tag: "Hmac"
  /** Under 16 bytes: short enough to be guessed. It still signs; say so to whoever configured it. */
  readonly weak: boolean
  /** Keys `v1`: the decoded bytes of `whsec_…`, the UTF-8 bytes of any other text. */
  readonly key: KeyObject
  /** Keys `X-Webhook-Signature`: the UTF-8 bytes of the secret as written, prefix included. */
  readonly textKey: KeyObject
  /**
   * For verifying only: the decoded bytes of a secret without `whsec_` that is strict base64 of 24 to 64 bytes. The common libraries
   * sign with these, and who can make such a signature knows the secret.
   */
  readonly decodedKey: KeyObject | undefined
}

/** A private ed25519 key: signature version `v1a`. It verifies too, by its public half. */
export interface Ed25519Key {
  readonly _tag: "Ed25519"
  readonly weak: false
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

/** A public ed25519 key: it can only verify. */
export interface Ed25519PublicKey {
  readonly _tag: "Ed25519Public"
  readonly weak: false
  readonly publicKey: KeyObject
}

/** What can sign. */
export type SigningKey = HmacKey | Ed25519Key

/** What can verify. */
export type VerifyingKey = SigningKey | Ed25519PublicKey

/**
 * The key of a secret (Standard Webhooks 1.0, "Signature scheme"):
 *
 * - `whsec_` and strict base64 of 24 to 64 bytes: HMAC with the decoded bytes;
 * - `whsk_` and strict base64 of 32 bytes (the seed) or 64 (seed and public key): ed25519;
 * - any other text: HMAC with its UTF-8 bytes, weak under 16 of them.
 *
 * Refused with `InvalidSecret`: the empty text, a prefix alone, white space and control characters, placeholders that nobody filled in
 * (`${NAME}`, `{{name}}`), text that isn't well-formed Unicode, and `whpk_`, which cannot sign. The result is kept as long as the
 * `Redacted` object lives, so asking again costs nothing.
 */
export const parseSecret = (secret: Redacted.Redacted<string>): Either.Either<SigningKey, InvalidSecret> =>
  Either.flatMap(parseVerifyingSecret(secret), (key) =>
    key._tag === "Ed25519Public"
      ? fail("kind", "whpk_ is a public key and can only verify; signing takes the whsk_ private key")
      : Either.right(key))

/**
 * As `parseSecret`, and `whpk_` with strict base64 of 32 bytes as well: the public half of a `whsk_`.
 */
export const parseVerifyingSecret = (secret: Redacted.Redacted<string>): Either.Either<VerifyingKey, InvalidSecret> => {
  const known = parsed.get(secret)
  if (known !== undefined) return known
  const result = parse(Redacted.value(secret))
  parsed.set(secret, result)
  return result
}

/** A fresh secret, as `generateSecret` makes it. */
export type GeneratedSecret =
  | { readonly kind: "hmac"; readonly secret: Redacted.Redacted<string> }
  /** `publicKey` is the `whpk_…` text to hand to receivers. */
  | { readonly kind: "ed25519"; readonly secret: Redacted.Redacted<string>; readonly publicKey: string }

/**
 * A fresh secret from `SecureRandom`: `whsec_` with 32 bytes for `"hmac"` (the default), `whsk_` with 64 bytes (seed and public key)
 * and its `whpk_` for `"ed25519"`.
 */
export const generateSecret = <const Kind extends GeneratedSecret["kind"] = "hmac">(
  options?: { readonly kind?: Kind | undefined }
): Effect.Effect<Extract<GeneratedSecret, { readonly kind: Kind }>> =>
  Effect.map(Effect.flatMap(SecureRandom.SecureRandom, (random) => random.bytes(32)), (bytes) => {
    const made: GeneratedSecret = options?.kind === "ed25519" ? generateEd25519(bytes) : {
      kind: "hmac",
      secret: Redacted.make(`whsec_${Buffer.from(bytes).toString("base64")}`)
    }
    return made as Extract<GeneratedSecret, { readonly kind: Kind }>
  })

/**
 * The bytes of a base64 text, or `undefined` unless it is the one canonical encoding (RFC 4648, sections 3.5 and 4: padded, no other
 * alphabet, no stray bits). `Buffer.from` alone takes rubbish and quietly yields a shorter key.
 */
export const decodeBase64 = (text: string): Buffer | undefined => {
  const bytes = Buffer.from(text, "base64")
  return bytes.toString("base64") === text ? bytes : undefined
}

/**
 * Why a secret is refused:
 *
 * - `empty`: no text, or a prefix with nothing behind it;
 * - `whitespace`: white space or control characters anywhere;
 * - `invalid`: not strict base64 behind `whsec_`, a placeholder that nobody filled in, or broken Unicode;
 * - `too-short`, `too-long`: `whsec_` with fewer than 24 or more than 64 bytes;
 * - `kind`: not a usable key of its kind: a malformed `whsk_` or `whpk_`, halves that don't belong together, a public key where a
 *   private one is needed, or a prefix in the wrong case.
 */
export type InvalidSecretReason = "empty" | "whitespace" | "invalid" | "too-short" | "too-long" | "kind"

/**
 * A secret that cannot become a key. It says what is wrong in our words and never holds the secret or a part of it.
 */
export class InvalidSecret extends Data.TaggedError("InvalidSecret")<{
  readonly reason: InvalidSecretReason
  /** What is wrong and what is allowed. */
  readonly detail: string
  /** Which secret, when there are several: `secrets[1]`. */
  readonly path?: string | undefined
}> {
  override get message(): string {
    return `${this.path ?? "secret"}: ${this.detail}`
  }
}

// --- internal

// By object: the text itself is never a key of anything that lives on.
const parsed = globalValue(
  "effect-webhooks/WebhookSecret/parsed",
  () => new WeakMap<Redacted.Redacted<string>, Either.Either<VerifyingKey, InvalidSecret>>()
)

const fail = (reason: InvalidSecretReason, detail: string): Either.Either<never, InvalidSecret> =>
  Either.left(new InvalidSecret({ reason, detail }))

// Zero-width space and word joiner are as invisible as white space, but Unicode doesn't count them as such.
const blank = /[\s\p{Cc}\p{Z}\u200B\u2060\uFEFF]/u
const malformed = /[\p{Cs}\uFFFD]/u
const placeholder = /\$\{[^}]*\}|\{\{.*\}\}|<%.*%>|^\$\(.*\)$|^\$[A-Z_][A-Z0-9_]*$|^%[A-Z_][A-Z0-9_]*%$/

const parse = (text: string): Either.Either<VerifyingKey, InvalidSecret> => {
  if (text === "") return fail("empty", "is empty; `effect-webhooks secret generate` makes one")
  if (blank.test(text)) return fail("whitespace", "contains white space or control characters; none are allowed")
  if (malformed.test(text)) return fail("invalid", "is not well-formed Unicode text")
  if (placeholder.test(text)) return fail("invalid", "is a placeholder that was never filled in")
  const prefix = /^wh(?:sec|sk|pk)_/i.exec(text)?.[0]
  if (prefix === undefined) return Either.right(fromText(text))
  const rest = text.slice(prefix.length)
  if (rest === "") return fail("empty", `is the prefix ${prefix.toLowerCase()} with nothing behind it`)
  switch (prefix) {
    case "whsec_":
      return fromWhsec(text, rest)
    case "whsk_":
      return fromWhsk(rest)
    case "whpk_":
      return fromWhpk(rest)
    default:
      return fail("kind", `has its prefix in the wrong case; write ${prefix.toLowerCase()}`)
  }
}

const fromText = (text: string): HmacKey => {
  const bytes = Buffer.from(text, "utf8")
  const decoded = decodeBase64(text)
  const key = createSecretKey(bytes)
  return {
    _tag: "Hmac",
    weak: bytes.length < 16,
    key,
    textKey: key,
    decodedKey: decoded !== undefined && decoded.length >= 24 && decoded.length <= 64
      ? createSecretKey(decoded)
      : undefined
  }
}

const fromWhsec = (text: string, rest: string): Either.Either<HmacKey, InvalidSecret> => {
  const bytes = decodeBase64(rest)
  if (bytes === undefined) {
    return fail("invalid", "is not strict base64 behind whsec_ (alphabet A-Z a-z 0-9 + /, padded with =)")
  }
  if (bytes.length < 24) return fail("too-short", `holds ${bytes.length} bytes behind whsec_; 24 to 64 are allowed`)
  if (bytes.length > 64) return fail("too-long", `holds ${bytes.length} bytes behind whsec_; 24 to 64 are allowed`)
  return Either.right({
    _tag: "Hmac",
    weak: false,
    key: createSecretKey(bytes),
    textKey: createSecretKey(Buffer.from(text, "utf8")),
    decodedKey: undefined
  })
}

const fromWhsk = (rest: string): Either.Either<Ed25519Key, InvalidSecret> => {
  const bytes = decodeBase64(rest)
  if (bytes === undefined || (bytes.length !== 32 && bytes.length !== 64)) {
    return fail("kind", "is not strict base64 of 32 bytes (seed) or 64 bytes (seed and public key) behind whsk_")
  }
  const { privateKey, publicKey } = ed25519FromSeed(bytes.subarray(0, 32))
  if (bytes.length === 64 && !rawPublicKey(publicKey).equals(bytes.subarray(32))) {
    return fail("kind", "has a public half behind whsk_ that does not belong to its seed")
  }
  return Either.right({ _tag: "Ed25519", weak: false, privateKey, publicKey })
}

const fromWhpk = (rest: string): Either.Either<Ed25519PublicKey, InvalidSecret> => {
  const bytes = decodeBase64(rest)
  if (bytes === undefined || bytes.length !== 32) {
    return fail("kind", "is not strict base64 of 32 bytes behind whpk_")
  }
  const publicKey = createPublicKey({ key: Buffer.concat([spkiHead, bytes]), format: "der", type: "spki" })
  return Either.right({ _tag: "Ed25519Public", weak: false, publicKey })
}

const generateEd25519 = (seed: Uint8Array): Extract<GeneratedSecret, { readonly kind: "ed25519" }> => {
  const publicKey = rawPublicKey(ed25519FromSeed(seed).publicKey)
  return {
    kind: "ed25519",
    secret: Redacted.make(`whsk_${Buffer.concat([seed, publicKey]).toString("base64")}`),
    publicKey: `whpk_${publicKey.toString("base64")}`
  }
}

// RFC 8410, section 7 and 4: the fixed DER before the 32 raw bytes of a private and of a public ed25519 key.
const pkcs8Head = Buffer.from("302e020100300506032b657004220420", "hex")
const spkiHead = Buffer.from("302a300506032b6570032100", "hex")

const ed25519FromSeed = (seed: Uint8Array): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } => {
  const privateKey = createPrivateKey({ key: Buffer.concat([pkcs8Head, seed]), format: "der", type: "pkcs8" })
  return { privateKey, publicKey: createPublicKey(privateKey) }
}

const rawPublicKey = (key: KeyObject): Buffer => key.export({ format: "der", type: "spki" }).subarray(spkiHead.length)
