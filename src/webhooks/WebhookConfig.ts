/**
 * The endpoints that a program's environment names: `WEBHOOKS_CONFIG` (JSON text) or `WEBHOOKS_CONFIG_FILE` (a path), or a document in the
 * host's own code. Read once, strictly, and refused as a whole with every error at once; no error repeats what was configured.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as EgressPolicy from "../http/EgressPolicy.js"
import * as HeaderName from "../http/HeaderName.js"
import * as Endpoint from "./Endpoint.js"
import { decodeDocument } from "./internal/decodeDocument.js"
import { makeContext } from "./internal/decodeEndpoint.js"
import * as JsonDocument from "./internal/JsonDocument.js"
import { type Problem, renderProblem } from "./internal/problems.js"
import { readText } from "./internal/references.js"

/** The configured endpoints. */
export class WebhookConfig extends Context.Tag("effect-webhooks/WebhookConfig")<WebhookConfig, {
  /** In the order of the document; an endpoint that stands under several keys is one endpoint with several `events`. */
  readonly endpoints: ReadonlyArray<Endpoint.Endpoint>
}>() {}

/**
 * Endpoints by what they want. A key is an event type (1 to 128 characters of `[A-Za-z0-9_.-]`), `invoice.*` (every type that continues
 * `invoice.`, however far) or `*`. One URL under several keys must have the same settings everywhere.
 */
export type Document = Readonly<Record<string, ReadonlyArray<Endpoint.EndpointDocument>>>

/** What a configuration is held against. */
export interface Options {
  /**
   * Hosts, addresses and ports beyond the public internet over `https:`, as text in the form of `WEBHOOKS_EGRESS_ALLOW` (see
   * `EgressPolicy.parseRules`) or as rules. Default: none.
   */
  readonly allow?: string | ReadonlyArray<EgressPolicy.EgressRule> | undefined
  /** Hosts, addresses and ports that are denied whatever `allow` says, in the same forms. Default: none. */
  readonly deny?: string | ReadonlyArray<EgressPolicy.EgressRule> | undefined
  /** A policy of the host's own, in place of `allow` and `deny`. */
  readonly policy?: EgressPolicy.Policy | undefined
  /** Name of the correlation header, which no endpoint may set; not one with a meaning of its own. Default: `X-Correlation-ID`. */
  readonly correlationHeader?: string | undefined
  /** Names the document in errors. Default: `WEBHOOKS_CONFIG`. */
  readonly source?: string | undefined
}

/** Where `layerConfig` finds things; each member defaults to nothing. */
export interface Sources {
  /** The document as JSON text; blank is none. */
  readonly text?: Redacted.Redacted<string> | undefined
  /** The path of a file with the document; not together with `text`. */
  readonly file?: string | undefined
  /** As in `Options`. */
  readonly allow?: string | undefined
  /** As in `Options`. */
  readonly deny?: string | undefined
  /** As in `Options`. */
  readonly correlationHeader?: string | undefined
}

/**
 * The endpoints of a document in JSON (RFC 8259, at most 1 MiB and 16 levels deep, no byte order mark, no duplicate names). Blank text means
 * no endpoints. `{ "env" }` is resolved by the `ConfigProvider`; `{ "file" }` needs a `FileSystem` in the program.
 */
export const parse = (
  text: string,
  options?: Options
): Effect.Effect<Context.Tag.Service<WebhookConfig>, InvalidWebhookConfig> =>
  Effect.suspend(() => decode(JsonDocument.read(options?.source ?? configVariable, text), options))

/** The endpoints of a document that the host program holds; the same rules as for JSON text. Secrets may be `Redacted`. */
export const make = (
  document: Document,
  options?: Options
): Effect.Effect<Context.Tag.Service<WebhookConfig>, InvalidWebhookConfig> =>
  Effect.suspend(() => decode(JsonDocument.fromValue(options?.source ?? configVariable, document), options))

/** `make` as a layer. */
export const layer = (document: Document, options?: Options): Layer.Layer<WebhookConfig, InvalidWebhookConfig> =>
  Layer.effect(WebhookConfig, make(document, options))

/** The configuration from wherever `sources` says. */
export const layerConfig = (
  sources: Config.Config.Wrap<Sources>
): Layer.Layer<WebhookConfig, InvalidWebhookConfig | ConfigError.ConfigError, FileSystem.FileSystem> =>
  Layer.effect(WebhookConfig, Effect.flatMap(Config.unwrap(sources), (found) => fromSources(found, undefined)))

/**
 * The configuration from `WEBHOOKS_CONFIG` (JSON text) or `WEBHOOKS_CONFIG_FILE` (a path), not both; neither, or blank: no endpoints.
 * `WEBHOOKS_EGRESS_ALLOW`, `WEBHOOKS_EGRESS_DENY` and `WEBHOOKS_CORRELATION_HEADER` are heeded where `overrides` don't say otherwise.
 */
export const layerFromEnv = (
  overrides?: Options
): Layer.Layer<WebhookConfig, InvalidWebhookConfig, FileSystem.FileSystem> =>
  Layer.effect(
    WebhookConfig,
    environment.pipe(
      Effect.mapError((error) => invalid(configVariable, [unreadable(error)])),
      Effect.flatMap((found) => fromSources(found, overrides))
    )
  )

/**
 * A configuration that breaks rules, all of them. Each error has the `path` of the value (`OrderCreated[0].url`; the name of the variable for
 * the whole), a `code` for the rule and a `message`: what is wrong and what is allowed. The path holds names of settings and event types,
 * escaped and cut; no value, secret or text of the document is ever in it.
 */
export class InvalidWebhookConfig extends Schema.TaggedError<InvalidWebhookConfig>()("InvalidWebhookConfig", {
  /** Names the document: a variable, or what `Options.source` says. */
  source: Schema.String,
  errors: Schema.Array(Schema.Struct({ path: Schema.String, code: Schema.String, message: Schema.String }))
}) {
  /** A line an error, `WEBHOOKS_CONFIG.OrderCreated[0].url: …`; beyond 100 errors only their number. */
  override get message(): string {
    const lines = this.errors.slice(0, maxLines).map((error) => renderProblem(this.source, error))
    return this.errors.length > maxLines
      ? [...lines, `... and ${this.errors.length - maxLines} more errors`].join("\n")
      : lines.join("\n")
  }
}

// --- internal

const configVariable = "WEBHOOKS_CONFIG"
const fileVariable = "WEBHOOKS_CONFIG_FILE"
const allowVariable = "WEBHOOKS_EGRESS_ALLOW"
const denyVariable = "WEBHOOKS_EGRESS_DENY"
const correlationVariable = "WEBHOOKS_CORRELATION_HEADER"

const maxLines = 100

const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

const environment: Config.Config<Sources> = Config.all({
  text: optional(Config.redacted(configVariable).pipe(Config.withDescription("endpoints by event type, JSON"))),
  file: optional(Config.string(fileVariable).pipe(Config.withDescription("path of a file with the endpoints"))),
  allow: optional(
    Config.string(allowVariable).pipe(
      Config.withDescription("hosts and ranges that may be called beyond the public internet")
    )
  ),
  deny: optional(
    Config.string(denyVariable).pipe(Config.withDescription("hosts and ranges that may not be called"))
  ),
  correlationHeader: optional(
    Config.string(correlationVariable).pipe(Config.withDescription("name of the correlation header"))
  )
})

const invalid = (source: string, errors: ReadonlyArray<Problem>): InvalidWebhookConfig =>
  new InvalidWebhookConfig({ source, errors })

const unreadable = (error: ConfigError.ConfigError): Problem => ({
  path: configVariable,
  code: "environment",
  message: `the environment can't be read (${error._op})`
})

const isBlank = (text: string | undefined): boolean =>
  text === undefined || (text.trim() === "" && !text.startsWith("\uFEFF"))

const fromSources = (
  found: Sources,
  overrides: Options | undefined
): Effect.Effect<Context.Tag.Service<WebhookConfig>, InvalidWebhookConfig, FileSystem.FileSystem> => {
  const options = (source: string): Options => ({
    source: overrides?.source ?? source,
    allow: overrides?.allow ?? found.allow,
    deny: overrides?.deny ?? found.deny,
    policy: overrides?.policy,
    correlationHeader: overrides?.correlationHeader ??
      (isBlank(found.correlationHeader) ? undefined : found.correlationHeader)
  })
  const text = found.text === undefined ? undefined : Redacted.value(found.text)
  const file = found.file
  if (file === undefined || isBlank(file)) return parse(text ?? "", options(configVariable))
  if (!isBlank(text)) {
    const message = `is set together with ${fileVariable}; set one of the two`
    return Effect.fail(invalid(configVariable, [{ path: configVariable, code: "conflict", message }]))
  }
  return Effect.flatMap(FileSystem.FileSystem, (fs) =>
    readText(fs, file, JsonDocument.maxBytes).pipe(
      Effect.flatMap((content) => content === undefined ? Effect.fail(JsonDocument.tooLarge) : Effect.succeed(content)),
      Effect.mapError((refusal) => invalid(fileVariable, [{ path: fileVariable, ...refusal }])),
      Effect.flatMap((content) => parse(content, options(fileVariable)))
    ))
}

const decode = (
  reading: JsonDocument.Reading,
  options: Options | undefined
): Effect.Effect<Context.Tag.Service<WebhookConfig>, InvalidWebhookConfig> =>
  Effect.gen(function*() {
    const source = options?.source ?? configVariable
    const allow = readRules(allowVariable, options?.allow)
    const deny = readRules(denyVariable, options?.deny)
    const problems = [...allow.problems, ...deny.problems, ...reading.problems]
    const correlationHeader = options?.correlationHeader
    const wrong = correlationHeader === undefined ? undefined : HeaderName.correlationProblem(correlationHeader)
    if (wrong !== undefined) problems.push({ path: correlationVariable, code: "header_name", message: wrong })
    const written = EgressPolicy.make({ allow: allow.rules, deny: deny.rules })
    const policy = options?.policy ?? (allow.problems.length === 0 ? written : withUnreadable(written))
    const context = makeContext(source, { policy, correlationHeader }, problems)
    const endpoints = reading.root === undefined ? [] : yield* decodeDocument(context, reading.root)
    return problems.length > 0
      ? yield* invalid(source, problems)
      : { endpoints: endpoints.map((fields) => new Endpoint.Endpoint(fields)) }
  })

/** A policy that leaves open what an entry that can't be read may have been meant to allow: good URLs aren't to look bad, and the whole is refused anyway. */
const withUnreadable = (policy: EgressPolicy.Policy): EgressPolicy.Policy => ({
  ...policy,
  decideUrl: (url) => {
    const decision = policy.decideUrl(url)
    return decision._tag === "Allowed" || beyondAllowing.includes(decision.rule)
      ? decision
      : { _tag: "Allowed", addresses: [] }
  }
})

const beyondAllowing = ["denied", "metadata", "name"]

/** The rules that can be read serve although others can't. */
const readRules = (
  variable: string,
  written: Options["allow"]
): { readonly rules: ReadonlyArray<EgressPolicy.EgressRule>; readonly problems: ReadonlyArray<Problem> } => {
  if (written === undefined) return { rules: [], problems: [] }
  if (typeof written !== "string") return { rules: written, problems: [] }
  const rules = EgressPolicy.parseRules(written)
  if (Either.isRight(rules)) return { rules: rules.right, problems: [] }
  const bad = new Set(rules.left.errors.map((error) => error.position))
  const good = EgressPolicy.parseRules(written.split(",").filter((_, index) => !bad.has(index + 1)).join(","))
  return {
    rules: Either.getOrElse(good, () => []),
    problems: rules.left.errors.map(({ message, position }) => ({
      path: variable,
      code: "egress_rule",
      message: `entry ${position} ${message}`
    }))
  }
}
