/**
 * `sign`: the headers that a delivery of these bytes would carry.
 */
import * as Effect from "effect/Effect"
import * as WebhookSignature from "../../webhooks/WebhookSignature.js"
import * as CliError from "../CliError.js"
import * as Secrets from "../Secrets.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  readonly id: string
  /** Seconds since the epoch. */
  readonly timestamp: number
  readonly secret: ReadonlyArray<string>
  readonly json: boolean
}

/** Prints `name: value` a line, or with `--json` one object of the headers. */
export const run = (options: Options, file: string | undefined): Effect.Effect<number, CliError.CliError> =>
  Effect.gen(function*() {
    const keys = yield* Secrets.required(options.secret, WebhookSignature.parseSecret)
    const body = yield* Stdio.readAll(file)
    const headers = yield* Effect.mapError(
      WebhookSignature.sign({ id: options.id, timestamp: options.timestamp, body, keys }),
      (error) => CliError.usage(error.message)
    )
    if (keys.some((key) => key.weak)) yield* Stdio.notes("warning: a secret under 16 bytes can be guessed")
    yield* options.json
      ? Stdio.json(headers)
      : Stdio.lines(...Object.entries(headers).map(([name, value]) => `${name}: ${value}`))
    return CliError.exitCodes.done
  })
