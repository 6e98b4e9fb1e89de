/**
 * `purge`: deletes what has ended long enough ago.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { defaults } from "../../Defaults.js"
import { Deliveries } from "../../outbox/Deliveries.js"
import type { OutboxUnavailable } from "../../outbox/OutboxError.js"
import * as CliError from "../CliError.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  /** How long ago a delivered one must have ended. Default: the retention. */
  readonly delivered: Duration.Duration | undefined
  /** How long ago an exhausted or discarded one must have ended. Default: the retention. */
  readonly ended: Duration.Duration | undefined
  readonly json: boolean
}

/** Deletes in batches, and prints how much; with `--json` `{"messages","deliveries"}`. */
export const run = (
  options: Options,
  retention: { readonly delivered: Duration.Duration; readonly ended: Duration.Duration } | undefined
): Effect.Effect<number, CliError.CliError | OutboxUnavailable, Deliveries> =>
  Effect.gen(function*() {
    const deliveries = yield* Deliveries
    const purged = yield* deliveries.purge({
      delivered: options.delivered ?? retention?.delivered ?? Duration.decode(defaults.retention.delivered),
      ended: options.ended ?? retention?.ended ?? Duration.decode(defaults.retention.ended)
    })
    yield* options.json
      ? Stdio.json({ messages: purged.messages, deliveries: purged.deliveries })
      : Stdio.lines(
        `purged ${count(purged.deliveries, "delivery", "deliveries")} and ${
          count(purged.messages, "message", "messages")
        }`
      )
    return CliError.exitCodes.done
  })

// --- internal

const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`
