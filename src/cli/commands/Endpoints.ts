/**
 * `endpoints list|test|enable|disable|recover`: how the endpoints are, and what to do about it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Deliveries } from "../../outbox/Deliveries.js"
import type { RecoveryUnderWay } from "../../outbox/DeliveriesError.js"
import { EndpointHealth } from "../../outbox/EndpointHealth.js"
import type { OutboxUnavailable } from "../../outbox/OutboxError.js"
import * as Views from "../../server/internal/views.js"
import { Endpoints } from "../../webhooks/Endpoints.js"
import * as CliError from "../CliError.js"
import * as DispatchLines from "../DispatchLines.js"
import * as EndpointLines from "../EndpointLines.js"
import * as Refusals from "../Refusals.js"
import * as Stdio from "../Stdio.js"
import * as Times from "../Times.js"
import { visible } from "../Visible.js"

export interface Options {
  readonly json: boolean
}

export interface DisableOptions extends Options {
  /** For people: why. */
  readonly reason: string
}

export interface RecoverOptions extends Options {
  /** RFC 3339, or how long ago. */
  readonly since: string
  /** RFC 3339, or how long ago; default: now. */
  readonly until: string | undefined
}

type Run<R> = Effect.Effect<number, CliError.CliError | OutboxUnavailable, R>

/** Prints a line an endpoint: the configured ones, and those that the database remembers. */
export const list = (options: Options): Run<Deliveries | EndpointHealth | Endpoints> =>
  Effect.gen(function*() {
    const health = yield* EndpointHealth
    const deliveries = yield* Deliveries
    const endpoints = yield* Endpoints
    const configured = new Map((yield* endpoints.list).map((endpoint) => [endpoint.id, endpoint]))
    const stats = yield* deliveries.stats
    const pending = new Map(stats.endpoints.map(({ id, pending }) => [id, pending]))
    const now = yield* Clock.currentTimeMillis
    const entries = (yield* health.list).map((one) => ({
      health: one,
      endpoint: configured.get(one.id),
      pending: pending.get(one.id) ?? 0
    }))
    if (entries.length === 0) {
      yield* Stdio.notes("no endpoints are configured; see WEBHOOKS_CONFIG in effect-webhooks --help")
    }
    yield* options.json
      ? Effect.forEach(entries, (entry) => Stdio.json(EndpointLines.endpointJson(entry, now)), { discard: true })
      : Stdio.lines(...EndpointLines.endpointTable(entries, now))
    return CliError.exitCodes.done
  })

/** Sends a `webhook.test` event at once and prints how that ended; exit code 1 unless it was delivered. Nothing is stored. */
export const test = (options: Options, id: string): Run<EndpointHealth> =>
  Effect.gen(function*() {
    const health = yield* EndpointHealth
    const report = yield* Refusals.toCliError(health.test(yield* Refusals.endpointId(id)))
    if (options.json) {
      yield* Stdio.json(Views.report(report))
    } else {
      yield* Stdio.write(DispatchLines.render({ _tag: "Delivery", report }, false))
      if (report.excerpt !== undefined && report.excerpt !== "") {
        yield* Stdio.lines(`the answer: ${visible(report.excerpt)}`)
      }
    }
    return report.outcome === "delivered" ? CliError.exitCodes.done : CliError.exitCodes.failed
  })

/** Lets deliveries to an endpoint flow again, and prints how it is now. */
export const enable = (options: Options, id: string): Run<EndpointHealth | Endpoints> =>
  Effect.gen(function*() {
    const health = yield* EndpointHealth
    return yield* changed(options, yield* Refusals.toCliError(health.enable(yield* Refusals.endpointId(id))))
  })

/** Holds deliveries to an endpoint back until it is enabled, and prints how it is now. */
export const disable = (options: DisableOptions, id: string): Run<EndpointHealth | Endpoints> =>
  Effect.gen(function*() {
    const health = yield* EndpointHealth
    const known = yield* Refusals.endpointId(id)
    const reason = options.reason.trim()
    if (reason === "" || reason.length > maxReason) {
      return yield* CliError.usage(`--reason has 1 to ${maxReason} characters`)
    }
    return yield* changed(options, yield* Refusals.toCliError(health.disable(known, reason)))
  })

/**
 * Replays every failed delivery of an endpoint that ended in a span of time, and prints how many. One that was cut off goes on with the
 * same times, or wherever a worker runs.
 */
export const recover = (options: RecoverOptions, id: string): Run<Deliveries | EndpointHealth> =>
  Effect.gen(function*() {
    const health = yield* EndpointHealth
    const deliveries = yield* Deliveries
    const endpointId = yield* Refusals.endpointId(id)
    const now = yield* Clock.currentTimeMillis
    const since = yield* parseTime("--since", options.since, now)
    const until = options.until === undefined ? undefined : yield* parseTime("--until", options.until, now)
    if (since > (until ?? now)) {
      return yield* CliError.usage(`--since lies after ${until === undefined ? "now" : "--until"}`)
    }
    yield* Refusals.toCliError(health.get(endpointId))
    const { recovered } = yield* deliveries.recover({ endpointId, since, until }).pipe(
      Effect.catchTag("RecoveryUnderWay", (error) => Effect.fail(underWay(error))),
      Refusals.toCliError
    )
    yield* options.json
      ? Stdio.json({
        id: endpointId,
        recovered,
        since: Times.instant(since),
        until: Times.maybeInstant(until)
      })
      : Stdio.lines(`${endpointId}  ${recovered} ${recovered === 1 ? "delivery" : "deliveries"} recovered`)
    return CliError.exitCodes.done
  })

// --- internal

const maxReason = 500

const underWay = ({ endpointId, since, until }: RecoveryUnderWay): CliError.CliError =>
  CliError.failed(
    `endpoint ${endpointId} is being recovered over another range; to go on with that one: ` +
      `--since ${Times.instant(since)} --until ${Times.instant(until)}`
  )

const parseTime = (option: string, text: string, now: number): Effect.Effect<number, CliError.CliError> =>
  Option.match(Times.parse(text, now), {
    onNone: () => Effect.fail(CliError.usage(`${option} is ${Times.allowed}`)),
    onSome: Effect.succeed
  })

const changed = (
  options: Options,
  health: EndpointLines.Entry["health"]
): Effect.Effect<number, CliError.CliError, Endpoints> =>
  Effect.gen(function*() {
    const endpoints = yield* Endpoints
    const entry = {
      health,
      endpoint: Option.getOrUndefined(yield* endpoints.get(health.id)),
      pending: undefined
    }
    const now = yield* Clock.currentTimeMillis
    yield* options.json
      ? Stdio.json(EndpointLines.endpointJson(entry, now))
      : Stdio.lines(EndpointLines.endpointLine(entry, now))
    return CliError.exitCodes.done
  })
