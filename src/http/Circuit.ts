/**
 * The circuit breaker as a pure machine: `admit` asks before a call, `settle` tells how it ended, time is an
 * argument (milliseconds). The same machine guards calls in a process (`CircuitBreakers`) and may live in a
 * database row that a fleet shares.
 *
 * Every change of state starts a new generation. A call remembers the generation that admitted it, and a result of
 * an earlier generation changes nothing: a slow call that began before the break can neither reopen nor close it.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import { defaults } from "../Defaults.js"
import * as SlidingWindow from "./SlidingWindow.js"

/** When a circuit opens, for how long, and how it closes again. All times in milliseconds. */
export interface Settings {
  /** Share of failed results (0 to 1) in the window at which it opens. */
  readonly failureRatio: number
  /** Results that the window must hold before the ratios count. */
  readonly minimumThroughput: number
  /** Length of the window. */
  readonly samplingWindow: number
  /** Failures in a row that open it whatever the ratio; `Infinity`: never. */
  readonly consecutiveFailures: number
  /** How long it stays open after `failedProbes` failed probes (0 when it opens from closed). */
  readonly breakDuration: (failedProbes: number) => number
  /** Calls admitted while half-open; it closes when that many have succeeded. */
  readonly probes: number
  /** Half-open for this long without a verdict: open again. */
  readonly maxHalfOpen: number
  /** Calls that take longer than `threshold` count as slow; it opens at a share of `ratio` slow ones. Off by default. */
  readonly slowCalls: { readonly threshold: number; readonly ratio: number } | undefined
}

/** Settings as a host gives them: durations in any form, everything optional. */
export interface Options {
  readonly failureRatio?: number | undefined
  readonly minimumThroughput?: number | undefined
  readonly samplingWindow?: Duration.DurationInput | undefined
  /** Default 5; `Infinity` turns the rule off. */
  readonly consecutiveFailures?: number | undefined
  /** Default: 30 seconds, doubling with each failed probe up to 5 minutes. */
  readonly breakDuration?: ((failedProbes: number) => Duration.DurationInput) | undefined
  readonly probes?: number | undefined
  readonly maxHalfOpen?: Duration.DurationInput | undefined
  readonly slowCalls?: { readonly threshold: Duration.DurationInput; readonly ratio: number } | undefined
}

/** Settings from options, the library's defaults where an option is absent. */
export const settings = (options: Options = {}): Settings => {
  const breakDuration = options.breakDuration ?? defaultBreakDuration
  return {
    failureRatio: options.failureRatio ?? defaults.breaker.failureRatio,
    minimumThroughput: options.minimumThroughput ?? defaults.breaker.minimumThroughput,
    samplingWindow: Duration.toMillis(options.samplingWindow ?? defaults.breaker.samplingWindow),
    consecutiveFailures: options.consecutiveFailures ?? defaults.breaker.consecutiveFailures,
    breakDuration: (failedProbes) => Duration.toMillis(breakDuration(failedProbes)),
    probes: Math.max(1, options.probes ?? defaults.breaker.probes),
    maxHalfOpen: Duration.toMillis(options.maxHalfOpen ?? defaults.breaker.maxHalfOpen),
    slowCalls: options.slowCalls && {
      threshold: Duration.toMillis(options.slowCalls.threshold),
      ratio: options.slowCalls.ratio
    }
  }
}

/** The state of one circuit. */
export type Circuit = Data.TaggedEnum<{
  /** Calls flow. `results` counts all results (`a`) and failures (`b`), `slow` slow calls (`a`). */
  Closed: {
    readonly generation: number
    readonly results: SlidingWindow.SlidingWindow
    readonly slow: SlidingWindow.SlidingWindow
    readonly consecutiveFailures: number
  }
  /** Calls are refused until `until`. */
  Open: { readonly generation: number; readonly until: number; readonly failedProbes: number }
  /** A few probes find out whether calls may flow again. */
  HalfOpen: {
    readonly generation: number
    readonly since: number
    readonly inFlight: number
    readonly succeeded: number
    readonly failedProbes: number
  }
}>

/** Constructors and matchers of `Circuit`. */
export const Circuit = Data.taggedEnum<Circuit>()

/** The answer to "may I call?". */
export type Admission = Data.TaggedEnum<{
  /** Yes; `settle` wants the generation back. */
  Permitted: { readonly generation: number }
  /** No; it may be worth asking again in `retryAfter` milliseconds (half-open: in a second at most). */
  Rejected: { readonly retryAfter: number }
}>

/** Constructors and matchers of `Admission`. */
export const Admission = Data.taggedEnum<Admission>()

/** How a call ended. `Neutral` (interrupted) says nothing about the other side and only returns the permit. */
export type Result = "Success" | "Failure" | "Neutral"

/** A closed circuit with nothing counted. */
export const initial = (settings: Settings): Circuit => closed(0, settings)

/** Asks for one call at `now`. */
export const admit = (state: Circuit, now: number, settings: Settings): readonly [Admission, Circuit] => {
  const current = advance(state, now, settings)
  switch (current._tag) {
    case "Closed":
      return [new Permitted(current.generation), current]
    case "Open": {
      if (now < current.until) return [new Rejected(current.until - now), current]
      const generation = current.generation + 1
      return [
        new Permitted(generation),
        Circuit.HalfOpen({ generation, since: now, inFlight: 1, succeeded: 0, failedProbes: current.failedProbes })
      ]
    }
    case "HalfOpen":
      return current.inFlight + current.succeeded < settings.probes
        ? [
          new Permitted(current.generation),
          Circuit.HalfOpen({ ...current, inFlight: current.inFlight + 1 })
        ]
        // The probe may be over at any moment, so it is worth asking again soon.
        : [new Rejected(Math.min(askAgain, current.since + settings.maxHalfOpen - now)), current]
  }
}

/**
 * Tells how a call that `generation` admitted ended at `now`, `elapsed` milliseconds after it began. A call of another
 * generation than the present one changes nothing.
 */
export const settle = (
  state: Circuit,
  generation: number,
  result: Result,
  now: number,
  settings: Settings,
  elapsed = 0
): Circuit => {
  const current = advance(state, now, settings)
  if (current.generation !== generation || current._tag === "Open") return current
  if (current._tag === "HalfOpen") {
    const inFlight = current.inFlight - 1
    switch (result) {
      case "Neutral":
        return Circuit.HalfOpen({ ...current, inFlight })
      case "Failure":
        return open(generation + 1, now, current.failedProbes + 1, settings)
      case "Success":
        return current.succeeded + 1 >= settings.probes
          ? closed(generation + 1, settings)
          : Circuit.HalfOpen({ ...current, inFlight, succeeded: current.succeeded + 1 })
    }
  }
  if (result === "Neutral") return current
  const failed = result === "Failure"
  const results = SlidingWindow.record(current.results, now, 1, failed ? 1 : 0)
  const slow = settings.slowCalls === undefined
    ? current.slow
    : SlidingWindow.record(current.slow, now, elapsed > settings.slowCalls.threshold ? 1 : 0, 0)
  const consecutiveFailures = failed ? current.consecutiveFailures + 1 : 0
  const opens = consecutiveFailures >= settings.consecutiveFailures ||
    (results.a >= settings.minimumThroughput && (
      (results.b > 0 && results.b / results.a >= settings.failureRatio) ||
      (settings.slowCalls !== undefined && slow.a > 0 && slow.a / results.a >= settings.slowCalls.ratio)
    ))
  return opens
    ? open(generation + 1, now, 0, settings)
    : new Closed(generation, results, slow, consecutiveFailures)
}

/** The state at `now`: a circuit that was half-open for too long is open again, from the moment that its time ran out. */
export const advance = (state: Circuit, now: number, settings: Settings): Circuit =>
  state._tag === "HalfOpen" && now >= state.since + settings.maxHalfOpen
    ? open(state.generation + 1, state.since + settings.maxHalfOpen, state.failedProbes + 1, settings)
    : state

/** Milliseconds until a call may be admitted; 0: now. */
export const retryAfter = (state: Circuit, now: number, settings: Settings): number => {
  const [admission] = admit(state, now, settings)
  return admission._tag === "Permitted" ? 0 : admission.retryAfter
}

/** A closed circuit with nothing counted, of a new generation: results of calls under way change nothing any more. */
export const reset = (state: Circuit, settings: Settings): Circuit => closed(state.generation + 1, settings)

/**
 * Open until `until` at least, for a peer that said when to come back: a break that lasts longer stays as it is. A new generation,
 * so that results of calls under way change nothing; failed probes stay counted. Settle the call that brought the news first.
 */
export const openUntil = (state: Circuit, until: number): Circuit =>
  state._tag === "Open" && state.until >= until ? state : Circuit.Open({
    generation: state.generation + 1,
    until,
    failedProbes: state._tag === "Closed" ? 0 : state.failedProbes
  })

// --- internal

/** Milliseconds. */
const askAgain = 1000

// What every call makes, equal by structure like the rest, but made by a class: the constructors of `Data.taggedEnum` are made anew at each use, and change the
// prototype of what they make.

class Closed extends Data.Structural<unknown> {
  readonly _tag = "Closed"
  readonly generation: number
  readonly results: SlidingWindow.SlidingWindow
  readonly slow: SlidingWindow.SlidingWindow
  readonly consecutiveFailures: number

  constructor(
    generation: number,
    results: SlidingWindow.SlidingWindow,
    slow: SlidingWindow.SlidingWindow,
    consecutiveFailures: number
  ) {
    super(undefined)
    this.generation = generation
    this.results = results
    this.slow = slow
    this.consecutiveFailures = consecutiveFailures
  }
}

class Permitted extends Data.Structural<unknown> {
  readonly _tag = "Permitted"
  readonly generation: number

  constructor(generation: number) {
    super(undefined)
    this.generation = generation
  }
}

class Rejected extends Data.Structural<unknown> {
  readonly _tag = "Rejected"
  readonly retryAfter: number

  constructor(retryAfter: number) {
    super(undefined)
    this.retryAfter = retryAfter
  }
}

const closed = (generation: number, settings: Settings): Circuit => {
  const window = SlidingWindow.make(settings.samplingWindow)
  return new Closed(generation, window, window, 0)
}

const open = (generation: number, now: number, failedProbes: number, settings: Settings): Circuit =>
  Circuit.Open({ generation, until: now + settings.breakDuration(failedProbes), failedProbes })

const defaultBreakDuration = (failedProbes: number): Duration.Duration =>
  Duration.min(
    Duration.times(defaults.breaker.breakDuration, 2 ** Math.min(failedProbes, 30)),
    defaults.breaker.maxBreakDuration
  )
