/**
 * `stats`: how many deliveries there are in which state, and what has waited longest.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Deliveries } from "../../outbox/Deliveries.js"
import type { OutboxUnavailable } from "../../outbox/OutboxError.js"
import * as Views from "../../server/internal/views.js"
import * as CliError from "../CliError.js"
import * as Stdio from "../Stdio.js"
import { table } from "../Table.js"
import * as Times from "../Times.js"

export interface Options {
  readonly json: boolean
}

/** Prints the numbers by state, then by endpoint; with `--json` one object. */
export const run = (options: Options): Effect.Effect<number, CliError.CliError | OutboxUnavailable, Deliveries> =>
  Effect.gen(function*() {
    const stats = yield* Effect.flatMap(Deliveries, (deliveries) => deliveries.stats)
    if (options.json) {
      yield* Stdio.json(Views.stats(stats))
      return CliError.exitCodes.done
    }
    const now = yield* Clock.currentTimeMillis
    const shown = (time: number | undefined) => time === undefined ? "-" : Times.shown(time, now)
    const endpoints = table(
      stats.endpoints.map((endpoint) => [
        endpoint.id,
        String(endpoint.pending),
        String(endpoint.leased),
        shown(endpoint.oldestDueAt),
        endpoint.orphaned ? "orphaned: not configured here" : ""
      ]),
      ["ENDPOINT", "PENDING", "LEASED", "OLDEST DUE", ""]
    )
    yield* Stdio.lines(
      ...table([
        ...Object.entries(stats.states).map(([state, count]) => [state, String(count)]),
        ["orphaned", String(stats.orphaned)],
        ["oldest due", shown(stats.oldestDueAt)]
      ]),
      ...(endpoints.length === 0 ? [] : ["", ...endpoints])
    )
    return CliError.exitCodes.done
  })
