/**
 * `worker`: delivers what is enqueued, until it is stopped.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as LogLevel from "effect/LogLevel"
import * as DeliveryWorker from "../../outbox/DeliveryWorker.js"
import * as CliError from "../CliError.js"
import * as Database from "../Database.js"
import * as Signals from "../Signals.js"
import * as Started from "../Started.js"
import * as Stdio from "../Stdio.js"
import { visible } from "../Visible.js"

export interface Options {
  /** In place of `WEBHOOKS_DATABASE_URL`. */
  readonly database: string | undefined
  readonly json: boolean
}

/** Prints one line as it starts and works until SIGINT, SIGTERM or SIGHUP; then it stops in good order. */
export const run = (options: Options): Effect.Effect<number, CliError.CliError> =>
  Database.run({ ...options, migrate: true, logLevel: LogLevel.Info }, ({ outbox }) =>
    Effect.gen(function*() {
      const signal = yield* Signals.awaited
      yield* Layer.build(DeliveryWorker.layer(outbox.worker)).pipe(
        Effect.catchTag("WorkerAlreadyRunning", (error) => Effect.fail(CliError.failed(visible(error.message))))
      )
      yield* Started.tell(options.json, { text: "worker started", json: { worker: "started" } }, outbox.database)
      yield* Fiber.join(signal)
      yield* Stdio.notes(Signals.stopping(outbox.worker.grace))
      return CliError.exitCodes.done
    }))
