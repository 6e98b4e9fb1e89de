/**
 * One place that events are delivered to: a URL, the secrets that sign, and settings. It shows itself (in logs, `inspect` and JSON) without
 * query string, header values or secrets.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Inspectable from "effect/Inspectable"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as EgressPolicy from "../http/EgressPolicy.js"
import { decodeEndpoint, makeContext, note } from "./internal/decodeEndpoint.js"
import {
  type EndpointDocument,
  type EndpointFields,
  type EndpointSecret,
  type Format,
  isExpired
} from "./internal/endpointFields.js"
import * as rules from "./internal/endpointRules.js"
import { fromValue } from "./internal/JsonDocument.js"
import { check } from "./internal/rule.js"
import { parseSecret } from "./WebhookSecret.js"

export type {
  EndpointDocument,
  EndpointFields,
  EndpointSecret,
  Format,
  SecretDocument,
  ValueDocument
} from "./internal/endpointFields.js"

/**
 * An endpoint. The constructor takes the fields as they are; what comes from outside (a customer's form, a database) goes through `make`,
 * which holds it to the rules of the configuration.
 */
export class Endpoint implements EndpointFields {
  readonly id: string
  readonly url: string
  readonly events: ReadonlyArray<string>
  readonly enabled: boolean
  readonly secrets: ReadonlyArray<EndpointSecret>
  readonly headers: Readonly<Record<string, Redacted.Redacted<string>>>
  readonly timeout: Duration.Duration | undefined
  readonly maxConcurrency: number | undefined
  readonly rateLimit: number | undefined
  readonly ordered: boolean
  readonly format: Format
  readonly tenant: string | undefined
  readonly description: string | undefined

  constructor(fields: EndpointFields) {
    this.id = fields.id
    this.url = fields.url
    this.events = fields.events
    this.enabled = fields.enabled
    this.secrets = fields.secrets
    this.headers = fields.headers
    this.timeout = fields.timeout
    this.maxConcurrency = fields.maxConcurrency
    this.rateLimit = fields.rateLimit
    this.ordered = fields.ordered
    this.format = fields.format
    this.tenant = fields.tenant
    this.description = fields.description
  }

  /** `summary`, and the names of the extra headers. */
  toJSON(): Summary & { readonly _id: "Endpoint"; readonly headers: ReadonlyArray<string> } {
    return { _id: "Endpoint", ...summary(this), headers: Object.keys(this.headers) }
  }

  toString(): string {
    return Inspectable.format(this.toJSON())
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

/**
 * Whether requests to an endpoint are signed: `weak` if one of its secrets is under 16 bytes, `unsigned` without secrets.
 */
export type Signing = "signed" | "unsigned" | "weak"

/**
 * Whether requests to an endpoint are signed. With `now`, in milliseconds since the epoch, a secret that has expired doesn't count (if all
 * have, nothing is sent at all).
 */
export const signing = (endpoint: EndpointFields, now?: number): Signing => {
  if (endpoint.secrets.length === 0) return "unsigned"
  const expired = now === undefined ? () => false : isExpired(now)
  const weak = endpoint.secrets.filter((secret) => !expired(secret)).some(({ value }) =>
    Either.match(parseSecret(value), {
      onLeft: () => false,
      onRight: (key) => key.weak
    })
  )
  return weak ? "weak" : "signed"
}

/** An endpoint as it may be shown to anyone who may see the configuration. */
export interface Summary {
  readonly id: string
  /** Scheme, host, port and path. */
  readonly url: string
  readonly events: ReadonlyArray<string>
  readonly enabled: boolean
  readonly signed: Signing
}

/** What may be shown of an endpoint: no query string, no header value, no secret. */
export const summary = (endpoint: EndpointFields): Summary => ({
  id: endpoint.id,
  url: displayUrl(endpoint.url),
  events: endpoint.events,
  enabled: endpoint.enabled,
  signed: signing(endpoint)
})

/** A URL's scheme, host, port and path: what of it may be shown. */
export const displayUrl = (url: string): string => {
  const end = url.search(/[?#]/)
  return (end === -1 ? url : url.slice(0, end)).replace(/^([a-z]+:\/\/)[^/]*@/i, "$1")
}

/** What endpoints are held against. */
export interface Options {
  /** Which hosts, addresses and ports a URL may name; default: `EgressPolicy.defaultPolicy`, the public internet over `https:`. */
  readonly policy?: EgressPolicy.Policy | undefined
  /** Name of the correlation header, which no endpoint may set; default `X-Correlation-ID`. */
  readonly correlationHeader?: string | undefined
}

/**
 * An endpoint of a host that keeps its own, held to the same rules as one from `WEBHOOKS_CONFIG` and with the same defaults. `events`
 * defaults to none: then `Endpoints.fromEndpoints` never picks it, which is right where the host picks by itself. `{ "env" }` is resolved by
 * the `ConfigProvider`, `{ "file" }` by the `FileSystem` if the program has one: never let customers write these. All errors at once.
 */
export const make = (
  input: EndpointDocument & { readonly events?: ReadonlyArray<string> | undefined },
  options?: Options
): Effect.Effect<Endpoint, InvalidEndpoint> =>
  Effect.gen(function*() {
    const { events = [], ...document } = input
    const reading = fromValue("endpoint", document)
    const context = makeContext("endpoint", options, [...reading.problems])
    for (const [index, event] of events.entries()) {
      const checked = check(rules.eventKey, event)
      if (Either.isLeft(checked)) note(context, ["events", index], checked.left)
    }
    const decoded = yield* decodeEndpoint(context, reading.root ?? { _tag: "Refused" }, [])
    return decoded.settings === undefined || context.problems.length > 0
      ? yield* new InvalidEndpoint({ errors: context.problems })
      : new Endpoint({ ...decoded.settings, events: [...new Set(events)] })
  })

/**
 * An endpoint that breaks rules, all of them: `path` names the setting (`headers.Host`; `endpoint` for the whole), `code` the rule,
 * `message` what is wrong and what is allowed. Nothing that was configured is repeated.
 */
export class InvalidEndpoint extends Schema.TaggedError<InvalidEndpoint>()("InvalidEndpoint", {
  errors: Schema.Array(Schema.Struct({ path: Schema.String, code: Schema.String, message: Schema.String }))
}) {
  override get message(): string {
    return this.errors.map((error) => `${error.path}: ${error.message}`).join("\n")
  }
}
