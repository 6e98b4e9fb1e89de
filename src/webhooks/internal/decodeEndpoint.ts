/**
 * One endpoint of a configuration: every setting by its rule, every problem noted, none ends the search for others.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { createHash } from "node:crypto"
import { defaults } from "../../Defaults.js"
import * as EgressPolicy from "../../http/EgressPolicy.js"
import { parseSecret } from "../WebhookSecret.js"
import { type EndpointFields, type EndpointSecret, isExpired } from "./endpointFields.js"
import * as rules from "./endpointRules.js"
import * as endpointUrl from "./endpointUrl.js"
import { isRfc3339 } from "./eventTime.js"
import type { Node } from "./JsonDocument.js"
import { type Path, type Problem, problem, type Refusal, unknownKey } from "./problems.js"
import { fromEnvironment, fromFile } from "./references.js"
import { check, type Rule, wrongType } from "./rule.js"

/** What decoding an endpoint needs to know, and where it notes what is wrong. */
export interface Context {
  /** Names the root of the document. */
  readonly source: string
  readonly policy: EgressPolicy.Policy
  readonly headerName: Rule<string>
  readonly problems: Array<Problem>
}

/** A context of these settings, defaults for the rest, that continues a list of problems. */
export const makeContext = (
  source: string,
  options: {
    readonly policy?: EgressPolicy.Policy | undefined
    readonly correlationHeader?: string | undefined
  } | undefined,
  problems: Array<Problem>
): Context => ({
  source,
  policy: options?.policy ?? EgressPolicy.defaultPolicy,
  headerName: rules.headerName(options?.correlationHeader ?? defaults.correlationHeader),
  problems
})

/** An endpoint as far as it could be decoded; `settings` only if nothing is wrong with it. */
export interface Decoded {
  readonly path: Path
  readonly href: string | undefined
  readonly id: string | undefined
  readonly settings: Omit<EndpointFields, "events"> | undefined
}

/** The id of an endpoint that gives none: `ep_` and the first 16 hex digits of the SHA-256 of its WHATWG href. */
export const defaultId = (href: string): string => `ep_${createHash("sha256").update(href).digest("hex").slice(0, 16)}`

/** Decodes one endpoint. */
export const decodeEndpoint = (context: Context, node: Node, path: Path): Effect.Effect<Decoded> =>
  Effect.gen(function*() {
    const before = context.problems.length
    const found = new Map<string, Node>()
    if (node._tag === "Object") {
      for (const [key, value] of node.entries) {
        // A duplicate has been reported by the reader; the first is looked at.
        if (!known.includes(key)) note(context, [...path, key], unknownKey(key, known))
        else if (!found.has(key)) found.set(key, value)
      }
    } else refuseNode(context, node, path, "an endpoint ({ \"url\": \"https://…\", … })")
    const read = <A>(name: string, rule: Rule<A>): A | undefined => {
      const value = found.get(name)
      return value === undefined ? undefined : readScalar(context, value, [...path, name], rule)
    }
    if (node._tag === "Object" && !found.has("url")) {
      note(context, [...path, "url"], { code: "missing", message: "is missing" })
    }
    const href = parseUrl(context, read("url", rules.text), [...path, "url"])
    const id = read("id", rules.id) ?? (href === undefined || found.has("id") ? undefined : defaultId(href))
    const enabled = read("enabled", rules.enabled) ?? true
    const timeout = read("timeout", rules.timeout)
    const maxConcurrency = read("maxConcurrency", rules.maxConcurrency)
    const rateLimit = read("rateLimit", rules.rateLimit)
    const ordered = read("ordered", rules.ordered) ?? false
    const format = read("format", rules.format) ?? "event"
    const tenant = read("tenant", rules.tenant)
    const description = read("description", rules.description)
    const secrets = yield* decodeSecrets(context, found.get("secret"), found.get("secrets"), path)
    const headers = yield* decodeHeaders(context, found.get("headers"), [...path, "headers"])
    const complete = href !== undefined && id !== undefined && context.problems.length === before &&
      node._tag === "Object"
    return {
      path,
      href,
      id,
      settings: complete
        ? {
          id,
          url: href,
          enabled,
          secrets,
          headers,
          timeout,
          maxConcurrency,
          rateLimit,
          ordered,
          format,
          tenant,
          description
        }
        : undefined
    }
  })

/** Notes a problem. */
export const note = (context: Context, path: Path, refusal: Refusal): void => {
  context.problems.push(problem(context.source, path, refusal))
}

/** Notes that a value is of the wrong type, unless what is wrong with it has been noted already. */
export const refuseNode = (context: Context, node: Node, path: Path, expected: string): void => {
  if (node._tag !== "Refused") note(context, path, wrongType(expected, plain(node)))
}

// --- internal

const known = [
  "url",
  "id",
  "secret",
  "secrets",
  "enabled",
  "headers",
  "timeout",
  "maxConcurrency",
  "rateLimit",
  "ordered",
  "format",
  "tenant",
  "description"
]

const referenceKeys = ["env", "file"]

const secretKeys = ["value", "expiresAt"]

/** A stand-in of the same type: what a container holds doesn't matter to a rule for scalars. */
const plain = (node: Node): unknown => {
  if (node._tag === "Scalar") return node.value
  return node._tag === "Array" ? [] : {}
}

const readScalar = <A>(context: Context, node: Node, path: Path, rule: Rule<A>): A | undefined => {
  if (node._tag === "Refused") return undefined
  const result = check(rule, plain(node))
  if (Either.isRight(result)) return result.right
  note(context, path, result.left)
  return undefined
}

const parseUrl = (context: Context, text: string | undefined, path: Path): string | undefined => {
  if (text === undefined) return undefined
  const url = endpointUrl.parse(text, context.policy)
  if (Either.isRight(url)) return url.right.href
  note(context, path, url.left)
  return undefined
}

const decodeSecrets = (
  context: Context,
  one: Node | undefined,
  several: Node | undefined,
  path: Path
): Effect.Effect<ReadonlyArray<EndpointSecret>> =>
  Effect.gen(function*() {
    const secrets: Array<EndpointSecret> = []
    if (one !== undefined && several !== undefined) {
      note(context, [...path, "secrets"], {
        code: "conflict",
        message: "is given besides `secret`; give one of the two"
      })
    }
    // An empty text is no secret, as in the document that this library comes from.
    if (one !== undefined && !(one._tag === "Scalar" && one.value === "")) {
      const value = yield* decodeSecret(context, one, [...path, "secret"])
      if (value !== undefined) secrets.push({ value, expiresAt: undefined })
    }
    if (several?._tag === "Array") {
      for (const [index, item] of several.items.entries()) {
        const secret = yield* decodeListed(context, item, [...path, "secrets", index])
        if (secret !== undefined) secrets.push(secret)
      }
      const now = yield* Clock.currentTimeMillis
      if (secrets.length > 0 && secrets.length === several.items.length && secrets.every(isExpired(now))) {
        note(context, [...path, "secrets"], {
          code: "secrets_expired",
          message: "have all expired, so nothing could be signed; add one that is still good"
        })
      }
    } else if (several !== undefined) {
      refuseNode(context, several, [...path, "secrets"], "an array of secrets, newest first")
    }
    return secrets
  })

const decodeListed = (context: Context, node: Node, path: Path): Effect.Effect<EndpointSecret | undefined> =>
  Effect.gen(function*() {
    if (node._tag !== "Object" || !node.entries.some(([key]) => secretKeys.includes(key))) {
      const value = yield* decodeSecret(context, node, path)
      return value === undefined ? undefined : { value, expiresAt: undefined }
    }
    const found = pick(context, node.entries, path, secretKeys)
    const inner = found.get("value")
    if (inner === undefined) note(context, [...path, "value"], { code: "missing", message: "is missing" })
    const value = inner === undefined ? undefined : yield* decodeSecret(context, inner, [...path, "value"])
    const end = found.get("expiresAt")
    const expiresAt = end === undefined ? undefined : decodeTime(context, end, [...path, "expiresAt"])
    return value === undefined ? undefined : { value, expiresAt }
  })

const decodeTime = (context: Context, node: Node, path: Path): number | undefined => {
  const text = readScalar(context, node, path, rules.text)
  if (text === undefined) return undefined
  const time = isRfc3339(text) ? DateTime.make(text.toUpperCase()) : Option.none()
  if (Option.isNone(time)) {
    note(context, path, {
      code: "time",
      message: "must be a time with offset (RFC 3339), such as 2027-01-31T00:00:00Z"
    })
    return undefined
  }
  return DateTime.toEpochMillis(time.value)
}

const decodeSecret = (context: Context, node: Node, path: Path): Effect.Effect<Redacted.Redacted<string> | undefined> =>
  Effect.map(decodeValue(context, node, path), (value) => {
    if (value === undefined) return undefined
    const key = parseSecret(value)
    if (Either.isRight(key)) return value
    note(context, path, { code: `secret_${key.left.reason.replaceAll("-", "_")}`, message: key.left.detail })
    return undefined
  })

const decodeHeaders = (
  context: Context,
  node: Node | undefined,
  path: Path
): Effect.Effect<Readonly<Record<string, Redacted.Redacted<string>>>> =>
  Effect.gen(function*() {
    const headers: Record<string, Redacted.Redacted<string>> = Object.create(null) as Record<string, never>
    if (node === undefined) return headers
    if (node._tag !== "Object") {
      refuseNode(context, node, path, "an object of header names and values")
      return headers
    }
    const seen = new Map<string, string>()
    for (const [name, child] of node.entries) {
      const at = [...path, name]
      const accepted = check(context.headerName, name)
      const earlier = seen.get(name.toLowerCase())
      if (Either.isLeft(accepted)) note(context, at, accepted.left)
      // The reader has reported a name that is repeated as it is.
      else if (earlier !== undefined && earlier !== name) {
        note(context, at, { code: "duplicate_key", message: "is given more than once (letter case doesn't count)" })
      }
      seen.set(name.toLowerCase(), name)
      const value = yield* decodeValue(context, child, at)
      if (value === undefined) continue
      const checked = check(rules.headerValue, Redacted.value(value))
      if (Either.isLeft(checked)) note(context, at, checked.left)
      else headers[name] = value
    }
    return headers
  })

/** A secret or a header value: text, or where it stands. */
const decodeValue = (
  context: Context,
  node: Node,
  path: Path
): Effect.Effect<Redacted.Redacted<string> | undefined> => {
  if (node._tag === "Scalar" && typeof node.value === "string") return Effect.succeed(Redacted.make(node.value))
  if (node._tag === "Opaque" && Redacted.isRedacted(node.value)) {
    const value = Redacted.value(node.value)
    if (typeof value === "string") return Effect.succeed(node.value as Redacted.Redacted<string>)
  }
  if (node._tag !== "Object") {
    return Effect.sync(() => {
      refuseNode(context, node, path, valueForms)
      return undefined
    })
  }
  return Effect.gen(function*() {
    const found = pick(context, node.entries, path, referenceKeys)
    const [kind, child] = [...found][0] ?? []
    if (kind === undefined || child === undefined || found.size > 1) {
      // Of a mistyped name its own problem says enough.
      if (kind !== undefined || node.entries.length === 0) {
        note(context, path, { code: "type", message: `must be ${valueForms}` })
      }
      return undefined
    }
    const name = readScalar(context, child, [...path, kind], rules.reference)
    if (name === undefined) return undefined
    const value = yield* Effect.either(kind === "env" ? fromEnvironment(name) : fromFile(name))
    if (Either.isRight(value)) return value.right
    note(context, path, value.left)
    return undefined
  })
}

const valueForms = "a string, { \"env\": \"NAME\" } or { \"file\": \"path\" }"

const pick = (
  context: Context,
  entries: ReadonlyArray<readonly [string, Node]>,
  path: Path,
  names: ReadonlyArray<string>
): Map<string, Node> => {
  const found = new Map<string, Node>()
  for (const [key, value] of entries) {
    if (!names.includes(key)) note(context, [...path, key], unknownKey(key, names))
    else if (!found.has(key)) found.set(key, value)
  }
  return found
}
