/**
 * `dispatch`: sends a stream of events, however long, to the endpoints that want them, and reports each delivery.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { defaults } from "../../Defaults.js"
import * as EgressDispatcher from "../../http/EgressDispatcher.js"
import * as ResilientHttpClient from "../../http/ResilientHttpClient.js"
import * as WebhookDispatcher from "../../webhooks/WebhookDispatcher.js"
import type * as WebhookEvent from "../../webhooks/WebhookEvent.js"
import * as CliError from "../CliError.js"
import * as DispatchLines from "../DispatchLines.js"
import * as EventInput from "../EventInput.js"
import * as Progress from "../Progress.js"
import * as Settings from "../Settings.js"
import * as Signals from "../Signals.js"
import * as Stdio from "../Stdio.js"
import * as Stopping from "../Stopping.js"

export interface Options {
  readonly json: boolean
}

/** Prints a line a delivery, and for an event that nobody wants or that isn't valid; a summary on stderr. */
export const run = (options: Options, file: string | undefined): Effect.Effect<number, CliError.CliError> =>
  Effect.scoped(Effect.gen(function*() {
    const stopping = Stopping.make()
    const settings = yield* Settings.load(
      { json: options.json, retryPolicy: stopping.retryPolicy },
      stopping.httpClient(EgressDispatcher.layerHttpClientFromEnv)
    )
    return yield* Effect.provide(dispatchAll(options, file, settings, stopping), settings.logger)
  }))

// --- internal

const dispatchAll = (
  options: Options,
  file: string | undefined,
  settings: Settings.Settings,
  stopping: Stopping.Stopping
): Effect.Effect<number, CliError.CliError, Scope.Scope> =>
  Effect.gen(function*() {
    const input = yield* EventInput.open(file)
    const counts: Counts = {
      events: 0,
      delivered: 0,
      failed: 0,
      rejected: 0,
      unrouted: 0,
      invalid: 0,
      notSent: 0,
      interrupted: 0
    }
    const progress = yield* Progress.make(() => ({
      events: counts.events,
      delivered: counts.delivered,
      failed: counts.failed + counts.rejected + counts.invalid
    }), input.size)
    const broken = yield* Deferred.make<never, CliError.CliError>()
    const decoder = EventInput.makeDecoder()

    const report = (results: ReadonlyArray<DispatchLines.Result>): Effect.Effect<void> => {
      for (const result of results) count(counts, result)
      progress.update(decoder.read())
      const text = results.map((result) => DispatchLines.render(result, options.json)).join("")
      return Effect.catchAll(Stdio.write(text), (error) => Deferred.fail(broken, error))
    }

    const context = yield* Layer.build(Layer.provide(
      WebhookDispatcher.layer({ onDelivery: (delivery) => report([{ _tag: "Delivery", report: delivery }]) }),
      Layer.succeedContext(Context.add(
        settings.context,
        ResilientHttpClient.ResilientHttpClient,
        stopping.client(Context.get(settings.context, ResilientHttpClient.ResilientHttpClient))
      ))
    ))
    const { dispatch } = Context.get(context, WebhookDispatcher.WebhookDispatcher)

    const one = (event: WebhookEvent.WebhookEvent, line: number): Effect.Effect<void> =>
      Effect.matchEffect(dispatch(event), {
        onFailure: (error) => {
          // It is counted as a line that was no event.
          counts.events--
          return report([{ _tag: "Invalid", line, error: EventInput.refusal(error) }])
        },
        onSuccess: ({ deliveries, eventType, messageId }) =>
          deliveries.length === 0 ? report([{ _tag: "Unrouted", messageId, eventType }]) : Effect.void
      }).pipe(
        // No event disappears without a word, not even by a fault of ours.
        Effect.catchAllDefect(() => report([{ _tag: "Invalid", line, error: "internal error; please report" }]))
      )

    const flight = makeFlight(defaults.concurrency)
    let ended = false
    let taken = 0
    let lastLine = 0

    const handle = (chunk: Uint8Array | undefined) =>
      Effect.gen(function*() {
        let invalid: Array<DispatchLines.Result> = []
        const flush = Effect.suspend(() => {
          const results = invalid
          invalid = []
          return results.length === 0 ? Effect.void : report(results)
        })
        yield* decoder.decode(chunk, (line) => {
          if (line._tag === "Invalid") {
            invalid.push(line)
            return Effect.void
          }
          return Effect.zipRight(
            flush,
            flight.start(one(line.event, line.line), () => {
              counts.events++
              taken++
              lastLine = line.line
              progress.update(decoder.read())
            })
          )
        })
        yield* flush
        progress.update(decoder.read())
      })

    const take = Effect.gen(function*() {
      while (!ended) {
        const chunk = yield* input.next
        yield* handle(chunk)
        if (chunk === undefined) ended = true
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
    const cut = end._tag === "Success" && end.value === "done" ? 0 : yield* land(flight, stopping)
    progress.end()
    const givenUp = stopping.givenUp() > 0
    const short = !ended || cut > 0 || counts.interrupted > 0 || givenUp
    if (short) {
      const reason = Exit.isSuccess(end) && end.value !== "done" ? reasons[end.value] : "an error, see below"
      yield* Stdio.notes(`stopped (${reason}): ${unsent(ended, taken, lastLine, cut, counts.notSent, givenUp)}`)
    }
    yield* Stdio.notes(summary(counts))
    if (Exit.isFailure(end)) return yield* Effect.failCause(end.cause)
    if (short && end.value !== "done" && end.value !== "closed") return CliError.exitCodes[end.value]
    const failures = counts.failed + counts.rejected + counts.invalid
    return failures > 0 || short ? CliError.exitCodes.failed : CliError.exitCodes.done
  })

const reasons = {
  SIGHUP: "the terminal was closed",
  SIGINT: "Ctrl-C",
  SIGTERM: "SIGTERM",
  closed: "nobody reads standard output"
}

const unsent = (
  ended: boolean,
  events: number,
  lastLine: number,
  cut: number,
  notSent: number,
  givenUp: boolean
): string => {
  const inFlight = cut === 0 ? "" : `${plural(cut, "event")} in flight cut off`
  const waiting = notSent === 0 ? "" : `${plural(notSent, "delivery", "deliveries")} not sent`
  const rest = ended
    ? ""
    : events === 0
    ? "no event was sent"
    : `nothing that comes after event ${events} (line ${lastLine}) was sent`
  const texts = [inFlight, waiting, givenUp ? retries : "", rest].filter((text) => text !== "")
  return texts.length === 0 ? retries : texts.join("; ")
}

const retries = "retries were given up"

const plural = (n: number, word: string, many = `${word}s`): string => `${n} ${n === 1 ? word : many}`

interface Counts {
  events: number
  delivered: number
  failed: number
  rejected: number
  unrouted: number
  invalid: number
  /** Deliveries that were stopped before their first request, … */
  notSent: number
  /** … and all that were stopped, these included. */
  interrupted: number
}

const summary = (counts: Counts): string => {
  const { delivered, events, failed, invalid, notSent, rejected, unrouted } = counts
  if (events + invalid === 0) return "nothing to send: no events"
  return `${plural(events, "event")} (${unrouted} unrouted), ${plural(invalid, "invalid line")}; ` +
    `deliveries: ${delivered} delivered, ${failed} failed, ${rejected} rejected` +
    (notSent === 0 ? "" : `, ${notSent} not sent`)
}

const count = (counts: Counts, result: DispatchLines.Result): void => {
  if (result._tag === "Delivery") {
    const { attempts, class: failureClass, outcome } = result.report
    if (failureClass === "interrupted") counts.interrupted++
    if (failureClass === "interrupted" && attempts === 0) counts.notSent++
    else counts[outcome]++
  } else if (result._tag === "Unrouted") counts.unrouted++
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

/** Stops what isn't on the wire and lets the rest end within the grace time; the number of events that didn't. */
const land = (flight: Flight, stopping: Stopping.Stopping): Effect.Effect<number> =>
  Effect.gen(function*() {
    if (flight.running() === 0) return 0
    yield* stopping.stop
    yield* Stdio.notes(`stopping: requests in flight have ${defaults.grace} to end; again to end at once`)
    // Whichever comes first: all have ended, the time is over, or somebody insists.
    yield* Effect.raceFirst(Effect.timeoutOption(flight.idle, defaults.grace), Signals.another)
    const left = flight.running()
    yield* flight.interrupt
    return left
  })
