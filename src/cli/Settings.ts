/**
 * What the commands that deliver take from the environment: the endpoints, the client's settings and the log level, with every error in
 * them told at once.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as Scope from "effect/Scope"
import * as ResilientHttpClient from "../http/ResilientHttpClient.js"
import * as RetryPolicy from "../http/RetryPolicy.js"
import * as WebhookConfig from "../webhooks/WebhookConfig.js"
import * as CliError from "./CliError.js"
import { variable } from "./Environment.js"
import * as Stdio from "./Stdio.js"
import { visible } from "./Visible.js"

/** The settings, decoded. */
export interface Settings {
  readonly context: Context.Context<ResilientHttpClient.ResilientHttpClient | WebhookConfig.WebhookConfig>
  readonly logger: Layer.Layer<never>
}

/**
 * Decodes the settings. Any error fails with exit code 2: a line each on stderr, and `{"errors":[{"path","message"}]}` for `--json`.
 */
export const load = (
  options: {
    readonly json: boolean
    /** Changes the retry policy that the settings give. */
    readonly retryPolicy?: ((policy: RetryPolicy.RetryPolicy) => RetryPolicy.RetryPolicy) | undefined
  },
  httpClient: Layer.Layer<HttpClient.HttpClient>
): Effect.Effect<Settings, CliError.CliError, Scope.Scope> =>
  Effect.gen(function*() {
    const logLevel = yield* Effect.either(readLogLevel)
    const logger = makeLogger(Either.getOrElse(logLevel, () => LogLevel.None))
    const [config, client] = yield* Effect.provide(
      Effect.all([
        Effect.either(Layer.build(Layer.provide(WebhookConfig.layerFromEnv(), NodeFileSystem.layer))),
        Effect.either(Layer.build(Layer.provide(clientLayer(options.retryPolicy), httpClient)))
      ]),
      logger
    )
    const endpointErrors = Either.isLeft(config) ? config.left.errors : []
    // The correlation header is looked at by both.
    const others = [
      ...(Either.isLeft(client) ? fromConfigError(client.left) : []),
      ...(Either.isLeft(logLevel) ? [logLevel.left] : [])
    ].filter((other) => endpointErrors.every(({ path }) => path !== other.path))
    if (Either.isLeft(config) || Either.isLeft(client) || others.length > 0) {
      const lines = [
        ...(Either.isLeft(config) ? config.left.message.split("\n") : []),
        ...others.map(({ message, path }) => `${path}: ${message}`)
      ]
      return yield* new CliError.CliError({
        exitCode: CliError.exitCodes.usage,
        lines: lines.map((line) => visible(line)),
        json: options.json
          ? { errors: [...endpointErrors, ...others].map(({ message, path }) => ({ path, message })) }
          : undefined
      })
    }
    return { context: Context.merge(config.right, client.right), logger }
  })

// --- internal

interface Problem {
  readonly path: string
  readonly message: string
}

const clientLayer = (change: (policy: RetryPolicy.RetryPolicy) => RetryPolicy.RetryPolicy = (policy) => policy) =>
  Layer.unwrapEffect(Effect.map(
    ResilientHttpClient.optionsFromEnv,
    (options) => ResilientHttpClient.layer({ ...options, retryPolicy: change(RetryPolicy.make(options.retry)) })
  ))

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

// None by default: what became of each delivery is on stdout already.
const readLogLevel: Effect.Effect<LogLevel.LogLevel, Problem> = Effect.flatMap(
  variable("WEBHOOKS_LOG_LEVEL"),
  (text) => {
    const name = text?.trim().toLowerCase() ?? "none"
    const level = Object.hasOwn(levels, name) ? levels[name] : undefined
    return level === undefined
      ? Effect.fail({
        path: "WEBHOOKS_LOG_LEVEL",
        message: "is not a log level; write all, trace, debug, info, warning, error, fatal or none"
      })
      : Effect.succeed(level)
  }
)

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
