/**
 * `enqueue`: stores a stream of events, however long, for a worker to deliver.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { defaults } from "../../Defaults.js"
import { monotonicNow } from "../../http/internal/monotonic.js"
import * as Outbox from "../../outbox/Outbox.js"
import type { OutboxUnavailable } from "../../outbox/OutboxError.js"
import * as CliError from "../CliError.js"
import * as Database from "../Database.js"
import * as EnqueueLines from "../EnqueueLines.js"
import * as EventInput from "../EventInput.js"
import * as Progress from "../Progress.js"
import * as Signals from "../Signals.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  readonly json: boolean
}

/** Prints a line an event once it is committed, and for what is no event; a summary on stderr. */
export const run = (options: Options, file: string | undefined): Effect.Effect<number, CliError.CliError> =>
  Database.run({ json: options.json, migrate: true }, () => enqueueAll(options, file))

// --- internal

/** A transaction holds at most this many lines, … */
const batchLines = 100
/** … which stood in about so many bytes, … */
const batchBytes = 1_048_576
/** … and none of which has waited longer than this, in milliseconds, for another to come. */
const batchWait = 20

const enqueueAll = (
  options: Options,
  file: string | undefined
): Effect.Effect<number, CliError.CliError | OutboxUnavailable, Outbox.Outbox | Scope.Scope> =>
  Effect.gen(function*() {
    const outbox = yield* Outbox.Outbox
    const input = yield* EventInput.open(file)
    const counts = EnqueueLines.counts()
    const progress = yield* Progress.make(
      () => ({ events: counts.events, duplicates: counts.duplicates, invalid: counts.invalid }),
      input.size
    )
    const decoder = EventInput.makeDecoder()
    // The line of the last event that is stored, and what is being stored.
    let lastLine = 0
    let underWay: ReadonlyArray<EventInput.Line> = []

    const report = (results: ReadonlyArray<EnqueueLines.Result>): Effect.Effect<void, CliError.CliError> => {
      underWay = underWay.slice(results.length)
      for (const result of results) {
        EnqueueLines.count(counts, result)
        if (result._tag === "Stored") lastLine = result.line
      }
      progress.update(decoder.read())
      return Stdio.write(results.map((result) => EnqueueLines.render(result, options.json)).join(""))
    }

    // All in one transaction; where one of them is refused, in two halves, so that it takes no other with it.
    const store = (
      lines: ReadonlyArray<EventInput.Line>
    ): Effect.Effect<void, CliError.CliError | OutboxUnavailable> => {
      const events = lines.flatMap((line) => line._tag === "Event" ? [line.event] : [])
      if (events.length === 0) return report(merge(lines, []))
      const split = (error: string) => {
        if (events.length === 1) return report(merge(lines, [{ error }]))
        const middle = Math.ceil(lines.length / 2)
        return Effect.zipRight(store(lines.slice(0, middle)), store(lines.slice(middle)))
      }
      return Effect.matchCauseEffect(outbox.enqueueAll(events), {
        onSuccess: (enqueued) => report(merge(lines, enqueued)),
        onFailure: (cause) => {
          const error = Option.getOrUndefined(Cause.failureOption(cause))
          if (error?._tag === "OutboxUnavailable" && error.reason !== "constraint") return Effect.fail(error)
          if (error !== undefined) return split(EventInput.refusal(error))
          // No event disappears without a word, not even by a fault of ours.
          return Cause.isInterruptedOnly(cause) ? Effect.interrupt : split("internal error; please report")
        }
      })
    }

    let pending: Array<EventInput.Line> = []
    let since = 0
    let taken = 0

    const flush = Effect.suspend(() => {
      underWay = pending
      pending = []
      taken = decoder.read()
      // Stopped in the middle, nobody could say what has been stored.
      return Effect.uninterruptible(store(underWay))
    })

    const add = (line: EventInput.Line) =>
      Effect.flatMap(monotonicNow, (now) => {
        if (pending.length === 0) since = now
        pending.push(line)
        return pending.length >= batchLines || decoder.read() - taken >= batchBytes ? flush : Effect.void
      })

    let ended = false
    const take = Effect.gen(function*() {
      while (!ended) {
        const next = yield* Effect.fork(input.next)
        if (pending.length > 0) {
          const left = since + batchWait - (yield* monotonicNow)
          const came = left <= 0 ? Option.none() : yield* Effect.timeoutOption(Fiber.await(next), left)
          if (Option.isNone(came)) yield* flush
        }
        const chunk = yield* Fiber.join(next)
        yield* decoder.decode(chunk, add)
        progress.update(decoder.read())
        if (chunk === undefined) ended = true
      }
      yield* flush
      return "done" as const
    })

    // Not of this scope, which would wait for a database that doesn't answer.
    const fiber = yield* Effect.forkDaemon(take)
    const end = yield* Effect.raceAll([
      Fiber.await(fiber),
      Effect.exit(Signals.first),
      Effect.exit(Effect.as(Stdio.untilClosed, "closed" as const))
    ])
    const done = Exit.isSuccess(end) && end.value === "done"
    if (Exit.isSuccess(end) && !done) yield* land(fiber)
    progress.end()
    const short = !ended || pending.length > 0 || underWay.length > 0
    if (short) {
      const reason = Exit.isSuccess(end) && end.value !== "done" ? reasons[end.value] : "an error, see below"
      yield* Stdio.notes(`stopped (${reason}): ${unstored(counts.events, lastLine, underWay)}`)
    }
    yield* Stdio.notes(EnqueueLines.summary(counts))
    if (Exit.isFailure(end)) return yield* Effect.failCause(end.cause)
    if (short && end.value !== "done" && end.value !== "closed") return CliError.exitCodes[end.value]
    return counts.invalid > 0 || short ? CliError.exitCodes.failed : CliError.exitCodes.done
  })

/** The lines with what became of their events. */
const merge = (
  lines: ReadonlyArray<EventInput.Line>,
  ends: ReadonlyArray<Outbox.Enqueued | { readonly error: string }>
): ReadonlyArray<EnqueueLines.Result> => {
  let at = 0
  return lines.map((line) => {
    if (line._tag === "Invalid") return line
    const end = ends[at++]
    return end === undefined || "error" in end
      ? { _tag: "Invalid", line: line.line, error: end?.error ?? "internal error; please report" }
      : { _tag: "Stored", line: line.line, eventType: line.event.type, enqueued: end }
  })
}

/** Lets the batch under way end within the grace time. */
const land = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* Fiber.interruptFork(fiber)
    const told = Effect.delay(
      Stdio.notes(`stopping: what is being stored has ${defaults.grace} to end; again to end at once`),
      "200 millis"
    )
    yield* Effect.raceFirst(
      Effect.timeoutOption(Fiber.await(fiber), defaults.grace),
      Effect.zipRight(Effect.fork(told), Signals.another)
    )
  })

const reasons = {
  SIGHUP: "the terminal was closed",
  SIGINT: "Ctrl-C",
  SIGTERM: "SIGTERM",
  closed: "nobody reads standard output"
}

const unstored = (events: number, lastLine: number, underWay: ReadonlyArray<EventInput.Line>): string => {
  const [first, last] = [underWay[0], underWay.at(-1)]
  const rest = events === 0
    ? "no event was stored"
    : `nothing that comes after event ${events} (line ${lastLine}) was stored`
  return first === undefined || last === undefined
    ? rest
    : `${rest}, except perhaps lines ${first.line} to ${last.line}: their storing was cut off`
}
