/**
 * What the commands that deliver take from the environment: the endpoints, the client's settings and the log level, and what the durable
 * path needs beyond them, with every error in them told at once.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as Scope from "effect/Scope"
import type * as EgressDispatcher from "../http/EgressDispatcher.js"
import * as ResilientHttpClient from "../http/ResilientHttpClient.js"
import * as RetryPolicy from "../http/RetryPolicy.js"
import * as WebhookConfig from "../webhooks/WebhookConfig.js"
import * as CliError from "./CliError.js"
import type * as DatabaseUrl from "./DatabaseUrl.js"
import { variable } from "./Environment.js"
import * as OutboxSettings from "./OutboxSettings.js"
import * as Stdio from "./Stdio.js"
import { visible } from "./Visible.js"

/** The settings, decoded. */
export interface Settings {
  readonly context: Context.Context<ResilientHttpClient.ResilientHttpClient | WebhookConfig.WebhookConfig>
  readonly logger: Layer.Layer<never>
}

/** Those of the durable path, too. */
export interface WithOutbox extends Settings {
  readonly outbox: OutboxSettings.OutboxSettings
}

/** What makes the connections: `EgressDispatcher.layerHttpClientFromEnv`, or something around it. */
export type HttpClientLayer = Layer.Layer<
  HttpClient.HttpClient,
  Layer.Layer.Error<typeof EgressDispatcher.layerHttpClientFromEnv>,
  FileSystem.FileSystem
>

/** How they are read. */
export interface Options {
  readonly json: boolean
  /** Changes the retry policy that the settings give. */
  readonly retryPolicy?: ((policy: RetryPolicy.RetryPolicy) => RetryPolicy.RetryPolicy) | undefined
  /** Where `WEBHOOKS_LOG_LEVEL` says nothing; default: none. */
  readonly logLevel?: LogLevel.LogLevel | undefined
}

/**
 * Decodes the settings. Any error fails with exit code 2: a line each on stderr, and `{"errors":[{"path","message"}]}` for `--json`.
 */
export const load = (
  options: Options,
  httpClient: HttpClientLayer
): Effect.Effect<Settings, CliError.CliError, Scope.Scope> =>
  decode(options, httpClient, Config.succeed(undefined), () => ({}))

/**
 * Decodes the settings and those of the durable path, in the same way; `database` goes before `WEBHOOKS_DATABASE_URL`. The client has
 * as many slots as the worker fills: otherwise deliveries would wait for one while their leases run.
 */
export const loadOutbox = (
  options: Options & { readonly database?: string | undefined },
  httpClient: HttpClientLayer
): Effect.Effect<WithOutbox, CliError.CliError, Scope.Scope> =>
  Effect.map(
    decode(options, httpClient, OutboxSettings.config(options.database), ({ worker }) => ({
      concurrency: worker.concurrency,
      keyConcurrency: worker.endpointConcurrency
    })),
    ({ context, logger, more }) => ({ context, logger, outbox: more })
  )

/** The database alone, for what needs no endpoints. */
export const loadDatabase = (
  options: { readonly json: boolean; readonly database?: string | undefined }
): Effect.Effect<DatabaseUrl.Target, CliError.CliError> =>
  Effect.mapError(OutboxSettings.databaseUrl(options.database), (error) => {
    const problems = fromConfigError(error)
    return refuse(options.json, problems.map(toLine), problems)
  })

// --- internal

interface Problem {
  readonly path: string
  readonly message: string
}

const decode = <More>(
  options: Options,
  httpClient: HttpClientLayer,
  more: Config.Config<More>,
  slots: (more: More) => Pick<ResilientHttpClient.Options, "concurrency" | "keyConcurrency">
): Effect.Effect<Settings & { readonly more: More }, CliError.CliError, Scope.Scope> =>
  Effect.gen(function*() {
    const logLevel = yield* Effect.either(readLogLevel(options.logLevel ?? LogLevel.None))
    const logger = makeLogger(Either.getOrElse(logLevel, () => LogLevel.None))
    const decoded = yield* Effect.either(more)
    const changed = (found: ResilientHttpClient.Options): ResilientHttpClient.Options => ({
      ...found,
      ...(Either.isRight(decoded) ? slots(decoded.right) : {}),
      retryPolicy: (options.retryPolicy ?? identity)(RetryPolicy.make(found.retry))
    })
    const [config, connections] = yield* Effect.provide(
      Effect.all([
        Effect.either(Layer.build(Layer.provide(WebhookConfig.layerFromEnv(), NodeFileSystem.layer))),
        Effect.either(Layer.build(Layer.provide(httpClient, NodeFileSystem.layer)))
      ]),
      logger
    )
    const client = yield* Effect.either(
      Layer.build(Layer.provide(
        clientLayer(changed),
        Either.isRight(connections)
          ? Layer.succeedContext(connections.right)
          : Layer.succeed(HttpClient.HttpClient, unused)
      ))
    )
    const endpointErrors = Either.isLeft(config) ? config.left.errors : []
    // The correlation header is looked at by both.
    const others = [
      ...(Either.isLeft(connections) ? fromEgressError(connections.left) : []),
      ...(Either.isLeft(client) ? fromConfigError(client.left) : []),
      ...(Either.isLeft(logLevel) ? [logLevel.left] : []),
      ...(Either.isLeft(decoded) ? fromConfigError(decoded.left) : [])
    ].filter((other) => endpointErrors.every(({ path }) => path !== other.path))
    if (Either.isLeft(config) || Either.isLeft(client) || Either.isLeft(decoded) || others.length > 0) {
      const lines = [...(Either.isLeft(config) ? config.left.message.split("\n") : []), ...others.map(toLine)]
      return yield* refuse(options.json, lines, [...endpointErrors, ...others])
    }
    return { context: Context.merge(config.right, client.right), logger, more: decoded.right }
  })

// Built over nothing only to see what else is wrong.
const unused = HttpClient.make(() => Effect.dieMessage("no requests here"))

const fromEgressError = (error: Layer.Layer.Error<HttpClientLayer>): ReadonlyArray<Problem> => {
  switch (error._tag) {
    // The configuration's endpoints are held against the same rules, and tell what is wrong with them.
    case "InvalidEgressRules":
      return []
    case "InvalidEgressSettings":
      return [{ path: error.path, message: error.problem }]
    case "TlsVerificationOff":
      return [{ path: error.variable, message: error.problem }]
  }
}

const toLine = ({ message, path }: Problem): string => `${path}: ${message}`

const refuse = (json: boolean, lines: ReadonlyArray<string>, errors: ReadonlyArray<Problem>): CliError.CliError =>
  new CliError.CliError({
    exitCode: CliError.exitCodes.usage,
    lines: lines.map((line) => visible(line)),
    json: json ? { errors: errors.map(({ message, path }) => ({ path, message })) } : undefined
  })

const clientLayer = (change: (options: ResilientHttpClient.Options) => ResilientHttpClient.Options) =>
  Layer.unwrapEffect(
    Effect.map(ResilientHttpClient.optionsFromEnv, (options) => ResilientHttpClient.layer(change(options)))
  )

const levels: Readonly<Record<string, LogLevel.LogLevel>> = {
  all: LogLevel.All,
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  warn: LogLevel.Warning,
  error: LogLevel.Error,
  fatal: LogLevel.Fatal,
  none: LogLevel.None
}

const readLogLevel = (fallback: LogLevel.LogLevel): Effect.Effect<LogLevel.LogLevel, Problem> =>
  Effect.flatMap(variable("WEBHOOKS_LOG_LEVEL"), (text) => {
    const name = text?.trim().toLowerCase()
    const level = name === undefined ? fallback : Object.hasOwn(levels, name) ? levels[name] : undefined
    return level === undefined
      ? Effect.fail({
        path: "WEBHOOKS_LOG_LEVEL",
        message: "is not a log level; write all, trace, debug, info, warning, error, fatal or none"
      })
      : Effect.succeed(level)
  })

const makeLogger = (level: LogLevel.LogLevel): Layer.Layer<never> =>
  Layer.merge(
    Logger.minimumLogLevel(level),
    Logger.replace(
      Logger.defaultLogger,
      Logger.map(Logger.logfmtLogger, (text) => {
        Stdio.note(`${visible(text, 8000)}\n`)
      })
    )
  )

const fromConfigError = (error: ConfigError.ConfigError): ReadonlyArray<Problem> => {
  if (ConfigError.isAnd(error) || ConfigError.isOr(error)) {
    return [...fromConfigError(error.left), ...fromConfigError(error.right)]
  }
  return [{ path: error.path.join("."), message: error.message }]
}
