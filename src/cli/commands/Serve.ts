/**
 * `serve`: the HTTP API and a worker in one process, until it is stopped.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as LogLevel from "effect/LogLevel"
import * as Scope from "effect/Scope"
import * as DeliveryWorker from "../../outbox/DeliveryWorker.js"
import * as ApiServer from "../../server/ApiServer.js"
import * as CliError from "../CliError.js"
import * as Database from "../Database.js"
import { variable } from "../Environment.js"
import * as Signals from "../Signals.js"
import * as Started from "../Started.js"
import * as Stdio from "../Stdio.js"
import { visible } from "../Visible.js"

export interface Options {
  /** 0: any free one. */
  readonly port: number
  /** Beyond loopback only with a token. */
  readonly host: string
  /** In place of `WEBHOOKS_DATABASE_URL`. */
  readonly database: string | undefined
  readonly json: boolean
}

/** Prints one line as it listens and works until SIGINT, SIGTERM or SIGHUP; then it stops in good order. */
export const run = (options: Options): Effect.Effect<number, CliError.CliError> =>
  Database.run({ ...options, migrate: true, logLevel: LogLevel.Info }, ({ outbox }) =>
    Effect.gen(function*() {
      const { grace } = outbox.worker
      // Side by side: both end within the one grace time.
      const both = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.parallel)
      const correlationHeader = yield* variable("WEBHOOKS_CORRELATION_HEADER")
      const signal = yield* Signals.awaited
      // Made after the server: a port that is taken shouldn't cost a worker its start.
      const later: { worker?: DeliveryWorker.DeliveryWorker["Type"] } = {}
      const server = yield* within(
        both,
        ApiServer.layer({
          port: options.port,
          host: options.host,
          hosts: outbox.hosts,
          tokens: outbox.tokens,
          grace,
          correlationHeader,
          ready: Effect.suspend(() => later.worker?.ready ?? Effect.succeed(false))
        })
      ).pipe(Effect.mapError((error) =>
        error._tag === "ListenFailed" ? CliError.failed(visible(error.message)) : CliError.usage(visible(error.message))
      ))
      const started = yield* within(both, DeliveryWorker.layer(outbox.worker)).pipe(
        Effect.catchTag("WorkerAlreadyRunning", (error) =>
          Effect.fail(CliError.failed(visible(error.message))))
      )
      later.worker = Context.get(started, DeliveryWorker.DeliveryWorker)
      const { url } = Context.get(server, ApiServer.ApiServer)
      yield* Started.tell(options.json, { text: `listening on ${url}`, json: { listening: url } }, outbox.database)
      yield* Fiber.join(signal)
      yield* Stdio.notes(Signals.stopping(grace))
      return CliError.exitCodes.done
    }))

// --- internal

const within = <A, E, R>(parent: Scope.Scope, layer: Layer.Layer<A, E, R>): Effect.Effect<Context.Context<A>, E, R> =>
  Effect.flatMap(
    Scope.fork(parent, ExecutionStrategy.sequential),
    (scope) => Layer.buildWithScope(layer, scope)
  )
