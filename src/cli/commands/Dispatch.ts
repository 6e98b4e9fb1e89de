/**
 * `dispatch`: sends a stream of events, however long, to the endpoints that want them, and reports each delivery.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { statSync } from "node:fs"
import { defaults } from "../../Defaults.js"
import * as Endpoints from "../../webhooks/Endpoints.js"
import * as WebhookDispatcher from "../../webhooks/WebhookDispatcher.js"
import * as WebhookEvent from "../../webhooks/WebhookEvent.js"
import * as CliError from "../CliError.js"
import * as DispatchLines from "../DispatchLines.js"
import * as EventReader from "../EventReader.js"
import * as Progress from "../Progress.js"
import * as ReportingSender from "../ReportingSender.js"
import * as Settings from "../Settings.js"
import * as Signals from "../Signals.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  readonly json: boolean
}

/** Prints a line a delivery, and for an event that nobody wants or that isn't valid; a summary on stderr. */
export const run = (options: Options, file: string | undefined): Effect.Effect<number, CliError.CliError> =>
  Effect.scoped(Effect.gen(function*() {
    const settings = yield* Settings.load(options, NodeHttpClient.layerUndici)
    return yield* Effect.provide(dispatchAll(options, file, settings), settings.logger)
  }))

// --- internal

const dispatchAll = (
  options: Options,
  file: string | undefined,
  settings: Settings.Settings
): Effect.Effect<number, CliError.CliError, Scope.Scope> =>
  Effect.gen(function*() {
    const input = yield* openInput(file)
    const counts: Progress.Counts = { events: 0, delivered: 0, failed: 0, rejected: 0, unrouted: 0, invalid: 0 }
    const progress = yield* Progress.make(counts, input.size)
    const broken = yield* Deferred.make<never, CliError.CliError>()

    const report = (results: ReadonlyArray<DispatchLines.Result>): Effect.Effect<void> => {
      for (const result of results) count(counts, result)
      const text = results.map((result) => DispatchLines.render(result, options.json)).join("")
      return Effect.catchAll(progress.around(Stdio.write(text)), (error) => Deferred.fail(broken, error))
    }

    const context = yield* Layer.build(Layer.provide(
      Layer.scoped(WebhookDispatcher.WebhookDispatcher, WebhookDispatcher.make({ concurrency: 10_000 })),
      Layer.merge(
        ReportingSender.layer((delivery) => report([{ _tag: "Delivery", report: delivery }])),
        Endpoints.layer
      ).pipe(Layer.provide(Layer.succeedContext(settings.context)))
    ))
    const { dispatch } = Context.get(context, WebhookDispatcher.WebhookDispatcher)

    const one = (event: WebhookEvent.WebhookEvent, line: number): Effect.Effect<void> =>
      Effect.matchEffect(dispatch(event), {
        onFailure: (error) => report([{ _tag: "Invalid", line, error: error.message }]),
        onSuccess: ({ deliveries, eventType, messageId }) =>
          deliveries.length === 0 ? report([{ _tag: "Unrouted", messageId, eventType }]) : Effect.void
      }).pipe(
        // No event disappears without a word, not even by a fault of ours.
        Effect.catchAllDefect(() => report([{ _tag: "Invalid", line, error: "internal error; please report" }]))
      )

    const flight = makeFlight(defaults.concurrency)
    const reader = EventReader.make()
    let ended = false
    let lastLine = 0
    let read = 0

    const handle = (items: ReadonlyArray<EventReader.Item>) =>
      Effect.gen(function*() {
        let invalid: Array<DispatchLines.Result> = []
        const flush = Effect.suspend(() => {
          const results = invalid
          invalid = []
          return results.length === 0 ? Effect.void : report(results)
        })
        for (const item of items) {
          const decoded = item._tag === "Invalid"
            ? Either.left(item.error)
            : yield* Effect.either(Effect.mapError(WebhookEvent.decodeInput(item.value), (error) => error.message))
          if (Either.isLeft(decoded)) {
            invalid.push({ _tag: "Invalid", line: item.line, error: decoded.left })
            continue
          }
          yield* flush
          yield* flight.start(one(decoded.right, item.line), () => {
            counts.events++
            lastLine = item.line
          })
        }
        yield* flush
      })

    const take = Effect.gen(function*() {
      while (!ended) {
        const chunk = yield* input.next
        yield* handle(chunk === undefined ? reader.end() : reader.push(chunk))
        if (chunk === undefined) ended = true
        read += chunk?.length ?? 0
        progress.update(read)
      }
      yield* flight.idle
      return "done" as const
    })

    const end = yield* Effect.raceAll([
      Effect.exit(take),
      Effect.exit(Signals.first),
      Effect.exit(Effect.as(Stdio.untilClosed, "closed" as const)),
      Effect.exit(Deferred.await(broken))
    ])
    const cut = end._tag === "Success" && end.value === "done" ? 0 : yield* land(flight)
    progress.end()
    const short = !ended || cut > 0
    if (short) {
      const reason = Exit.isSuccess(end) && end.value !== "done" ? reasons[end.value] : "an error, see below"
      yield* Stdio.notes(`stopped (${reason}): ${unsent(ended, counts.events, lastLine, cut)}`)
    }
    yield* Stdio.notes(summary(counts))
    if (Exit.isFailure(end)) return yield* Effect.failCause(end.cause)
    if (short && (end.value === "SIGINT" || end.value === "SIGTERM")) return CliError.exitCodes[end.value]
    const failures = counts.failed + counts.rejected + counts.invalid
    return failures > 0 || short ? CliError.exitCodes.failed : CliError.exitCodes.done
  })

const reasons = { SIGINT: "Ctrl-C", SIGTERM: "SIGTERM", closed: "nobody reads standard output" }

const unsent = (ended: boolean, events: number, lastLine: number, cut: number): string => {
  const inFlight = cut === 0 ? "" : `${plural(cut, "event")} in flight cut off`
  const rest = ended
    ? ""
    : events === 0
    ? "no event was sent"
    : `nothing that comes after event ${events} (line ${lastLine}) was sent`
  return [inFlight, rest].filter((text) => text !== "").join("; ")
}

const plural = (n: number, word: string): string => `${n} ${word}${n === 1 ? "" : "s"}`

const summary = (counts: Progress.Counts): string => {
  const { delivered, events, failed, invalid, rejected, unrouted } = counts
  if (events + invalid === 0) return "nothing to send: no events"
  return `${plural(events, "event")} (${unrouted} unrouted), ${plural(invalid, "invalid line")}; ` +
    `deliveries: ${delivered} delivered, ${failed} failed, ${rejected} rejected`
}

const count = (counts: Progress.Counts, result: DispatchLines.Result): void => {
  if (result._tag === "Delivery") counts[result.report.outcome]++
  else if (result._tag === "Unrouted") counts.unrouted++
  else counts.invalid++
}

interface Flight {
  /** Runs an effect in the background as soon as there is a place; `begun` is called when there is. */
  readonly start: (effect: Effect.Effect<void>, begun: () => void) => Effect.Effect<void>
  /** Waits until nothing is under way. */
  readonly idle: Effect.Effect<void>
  readonly running: () => number
  readonly interrupt: Effect.Effect<void>
}

const makeFlight = (limit: number): Flight => {
  const places = Effect.unsafeMakeSemaphore(limit)
  const fibers = new Set<Fiber.RuntimeFiber<void>>()
  return {
    start: (effect, begun) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(places.take(1)), () => {
          begun()
          return Effect.map(
            Effect.forkDaemon(Effect.ensuring(Effect.interruptible(effect), places.release(1))),
            (fiber) => {
              fibers.add(fiber)
              fiber.addObserver(() => fibers.delete(fiber))
            }
          )
        })
      ),
    idle: Effect.zipRight(places.take(limit), Effect.asVoid(places.release(limit))),
    running: () => fibers.size,
    interrupt: Effect.suspend(() => Fiber.interruptAll(fibers))
  }
}

/** Lets what is in flight end within the grace time; the number of events that didn't. */
const land = (flight: Flight): Effect.Effect<number> =>
  Effect.gen(function*() {
    if (flight.running() === 0) return 0
    yield* Stdio.notes(
      `stopping: ${plural(flight.running(), "event")} in flight, up to ${defaults.grace}; again to end at once`
    )
    yield* Effect.timeoutOption(flight.idle, defaults.grace)
    const left = flight.running()
    yield* flight.interrupt
    return left
  })

interface Input {
  /** The next bytes; none at the end. */
  readonly next: Effect.Effect<Uint8Array | undefined, CliError.CliError>
  /** Length in bytes, where it is known. */
  readonly size: number | undefined
}

const openInput = (file: string | undefined): Effect.Effect<Input, CliError.CliError> =>
  Effect.try({
    try: () => {
      const stats = file === undefined || file === "-" ? undefined : statSync(file)
      if (stats?.isDirectory() === true) throw Object.assign(new Error(), { code: "EISDIR" })
      const chunks = Stdio.openInput(file)[Symbol.asyncIterator]()
      return {
        size: stats?.isFile() === true ? stats.size : undefined,
        next: Effect.tryPromise({
          try: () => chunks.next(),
          catch: (error) => Stdio.unreadable(file, Stdio.codeOf(error))
        }).pipe(Effect.map((result) =>
          result.done === true ? undefined : typeof result.value === "string" ? Buffer.from(result.value) : result.value
        ))
      }
    },
    catch: (error) =>
      Stdio.unreadable(file, Stdio.codeOf(error))
  })
