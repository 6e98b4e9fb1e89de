/**
 * Circuit breakers by key, one process wide. The state of a key is a pure `Circuit`; a call takes two steps of it, each in one go of the
 * fiber that makes it, so that nothing comes between reading a state and putting the next in its place.
 *
 * Keys are bounded. When all places are taken by circuits that are not closed, a new key's calls run unprotected and are counted
 * (`overflow`): losing track of an open circuit would be worse.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { defaults } from "../Defaults.js"
import * as FiberClock from "../FiberClock.js"
import { uninterruptibleMask } from "../Masking.js"
import * as Metrics from "../Metrics.js"
import * as Circuit from "./Circuit.js"
import { BoundedKeys } from "./internal/BoundedKeys.js"

/** The name of a state; `Isolated`: opened by hand until released. */
export type StateName = Circuit.Circuit["_tag"] | "Isolated"

/** What is known of a key. */
export interface State {
  readonly name: StateName
  /** Time until a call may be let through; zero when closed, infinite when isolated. */
  readonly retryAfter: Duration.Duration
}

/** A change of state of one key. */
export interface Transition {
  readonly key: string
  readonly from: StateName
  readonly to: StateName
  /** Milliseconds since the epoch. */
  readonly at: number
}

/** Circuit breakers by key. */
export class CircuitBreakers extends Context.Tag("effect-webhooks/CircuitBreakers")<CircuitBreakers, {
  /**
   * Runs an effect if the key's circuit admits it, otherwise fails with `CircuitOpen`. `judge` tells what an exit means for the other
   * side; by default a success is a success, a failure or a defect a failure, and an interruption says nothing.
   */
  readonly protect: <A, E, R>(
    key: string,
    effect: Effect.Effect<A, E, R>,
    judge?: (exit: Exit.Exit<A, E>) => Circuit.Result
  ) => Effect.Effect<A, E | CircuitOpen, R>
  /** Fails with `CircuitOpen` if the key would refuse a call now; takes no permit. */
  readonly check: (key: string) => Effect.Effect<void, CircuitOpen>
  /** The present state of a key; a key that was never called is closed. */
  readonly state: (key: string) => Effect.Effect<State>
  /** Every change of state from the moment of subscription. A slow subscriber loses the oldest of 1 024. */
  readonly changes: Stream.Stream<Transition>
  /** Refuses all calls of a key until the scope closes. Isolating twice takes two releases. */
  readonly isolate: (key: string) => Effect.Effect<void, never, Scope.Scope>
  /** Closes a key's circuit and forgets its counts; results of calls under way change nothing any more. */
  readonly reset: (key: string) => Effect.Effect<void>
  /** Keys with state at this moment. */
  readonly size: Effect.Effect<number>
  /** Calls that ran unprotected because no place was left for their key. */
  readonly overflow: Effect.Effect<number>
}>() {}

/** Settings of the circuits and how many keys are kept. */
export interface Options extends Circuit.Options {
  /** Default 10 000. */
  readonly maxKeys?: number | undefined
}

/** Makes the breakers. */
export const make = (options: Options = {}): Effect.Effect<CircuitBreakers["Type"]> =>
  Effect.map(PubSub.sliding<Transition>(1024), (transitions) => {
    const settings = Circuit.settings(options)
    const keys = new BoundedKeys<Breaker>(options.maxKeys ?? defaults.maxKeys, (key) => ({
      key,
      circuit: Circuit.initial(settings),
      isolations: 0,
      inFlight: 0
    }), ({ inFlight }) => inFlight > 0)

    /** Puts what a pure step made of a key's circuit in its place; what then is to be told to the world, if the state changed. */
    const put = (breaker: Breaker, to: Circuit.Circuit): Effect.Effect<void> | undefined => {
      const from = breaker.circuit
      breaker.circuit = to
      return from.generation === to.generation ? undefined : moved(breaker, from, to)
    }

    const moved = (breaker: Breaker, from: Circuit.Circuit, to: Circuit.Circuit): Effect.Effect<void> =>
      // Seen from outside an isolated circuit is isolated, whatever late results do to it.
      breaker.isolations > 0
        ? Effect.void
        : from._tag !== to._tag
        ? announce(breaker, from._tag, to._tag)
        // A half-open circuit whose time ran out was open in between.
        : from._tag === "HalfOpen"
        ? Effect.zipRight(announce(breaker, "HalfOpen", "Open"), announce(breaker, "Open", "HalfOpen"))
        : Effect.void

    const announce = (breaker: Breaker, from: StateName, to: StateName): Effect.Effect<void> => {
      if (to === "Closed") keys.unpin(breaker.key, breaker)
      else keys.pin(breaker.key, breaker)
      return Effect.flatMap(Clock.currentTimeMillis, (at) =>
        Effect.zipRight(
          Metrics.breakerTransition(from, to),
          PubSub.publish(transitions, { key: breaker.key, from, to, at })
        ))
    }

    // One effect for what comes before a call and one around it: built of `Ref.modify` and `onExit` the same took 7 µs, so 2.
    const protect = <A, E, R>(
      key: string,
      effect: Effect.Effect<A, E, R>,
      judge: (exit: Exit.Exit<A, E>) => Circuit.Result = judgeExit
    ): Effect.Effect<A, E | CircuitOpen, R> =>
      Effect.withFiberRuntime<A, E | CircuitOpen, R>((fiber) => {
        // Most of those that are refused change nothing, and there is nothing to hold together.
        const breaker = keys.get(key)
        if (breaker === undefined) return Effect.zipRight(Metrics.breakerOverflow, effect)
        if (breaker.circuit._tag === "Open" && breaker.isolations === 0) {
          const left = breaker.circuit.until - FiberClock.monotonic(fiber)
          if (left > 0) return Effect.fail(refusal(key, Duration.millis(left)))
        }
        return uninterruptibleMask((restore): Effect.Effect<A, E | CircuitOpen, R> => {
          if (breaker.isolations > 0) return Effect.fail(refusal(key, Duration.infinity))
          const startedAt = FiberClock.monotonic(fiber)
          const [admission, admitted] = Circuit.admit(breaker.circuit, startedAt, settings)
          const told = put(breaker, admitted)
          if (admission._tag === "Rejected") {
            const refused = Effect.fail(refusal(key, Duration.millis(admission.retryAfter)))
            return told === undefined ? refused : Effect.zipRight(told, refused)
          }
          const { generation } = admission
          const settle = (exit: Exit.Exit<A, E>): Effect.Effect<A, E> => {
            breaker.inFlight--
            const now = FiberClock.monotonic(fiber)
            const told = put(
              breaker,
              Circuit.settle(breaker.circuit, generation, judge(exit), now, settings, now - startedAt)
            )
            return told === undefined ? exit : Effect.zipRight(told, exit)
          }
          breaker.inFlight++
          const call = Effect.matchCauseEffect(restore(effect), {
            onFailure: (cause) => settle(Exit.failCause(cause)),
            onSuccess: (value) => settle(Exit.succeed(value))
          })
          return told === undefined ? call : Effect.zipRight(told, call)
        })
      })

    const view = (breaker: Breaker): Effect.Effect<State> =>
      breaker.isolations > 0
        ? Effect.succeed({ name: "Isolated", retryAfter: Duration.infinity })
        : Effect.uninterruptible(Effect.withFiberRuntime((fiber) => {
          const now = FiberClock.monotonic(fiber)
          const current = Circuit.advance(breaker.circuit, now, settings)
          const state: State = {
            name: current._tag,
            retryAfter: Duration.millis(Circuit.retryAfter(current, now, settings))
          }
          return Effect.as(put(breaker, current) ?? Effect.void, state)
        }))

    const isolation = (breaker: Breaker, change: 1 | -1): Effect.Effect<void> =>
      Effect.suspend(() => {
        const before = breaker.isolations
        breaker.isolations += change
        if ((before === 0) === (breaker.isolations === 0)) return Effect.void
        const { _tag } = breaker.circuit
        return change === 1 ? announce(breaker, _tag, "Isolated") : announce(breaker, "Isolated", _tag)
      })

    return {
      protect,
      check: (key) =>
        Effect.suspend(() => {
          const breaker = keys.find(key)
          return breaker === undefined ?
            Effect.void :
            Effect.flatMap(view(breaker), (state) =>
              Duration.equals(state.retryAfter, Duration.zero)
                ? Effect.void
                : Effect.fail(new CircuitOpen({ key, retryAfter: state.retryAfter })))
        }),
      state: (key) =>
        Effect.suspend(() => {
          const breaker = keys.find(key)
          return breaker === undefined ? Effect.succeed<State>(neverCalled) : view(breaker)
        }),
      changes: Stream.fromPubSub(transitions),
      isolate: (key) =>
        Effect.acquireRelease(
          Effect.tap(Effect.sync(() => keys.force(key)), (breaker) => isolation(breaker, 1)),
          (breaker) => isolation(breaker, -1)
        ).pipe(Effect.asVoid),
      reset: (key) =>
        Effect.suspend(() => {
          const breaker = keys.find(key)
          return breaker === undefined
            ? Effect.void
            : Effect.uninterruptible(
              Effect.suspend(() => put(breaker, Circuit.reset(breaker.circuit, settings)) ?? Effect.void)
            )
        }),
      size: Effect.sync(() => keys.size),
      overflow: Effect.sync(() => keys.refusals)
    }
  })

/** Breakers with the library's defaults where an option is absent. */
export const layer = (options: Options = {}): Layer.Layer<CircuitBreakers> =>
  Layer.effect(CircuitBreakers, make(options))

/** The circuit of `key` refused a call; nothing was sent. Ask again after `retryAfter`. */
export class CircuitOpen extends Schema.TaggedError<CircuitOpen>("effect-webhooks/CircuitOpen")("CircuitOpen", {
  key: Schema.String,
  retryAfter: Schema.DurationFromSelf,
  /** Requests made before the refusal, in this call. */
  attempts: Schema.optionalWith(Schema.Number, { default: () => 0 }),
  /** Scheme, host, port and path. */
  url: Schema.optional(Schema.String)
}) {
  override get message(): string {
    const target = this.url === undefined || this.url === this.key ? this.key : `${this.key} (${this.url})`
    const wait = Duration.isFinite(this.retryAfter)
      ? `retry after ${Math.ceil(Duration.toMillis(this.retryAfter))} ms`
      : "isolated by hand until released"
    return `the circuit of ${target} is open: ${wait}; attempts made: ${this.attempts}`
  }
}

// --- internal

interface Breaker {
  readonly key: string
  circuit: Circuit.Circuit
  isolations: number
  /** Calls under way: their results must find this state again. */
  inFlight: number
}

/**
 * `new CircuitOpen(…)` for values that need no check, and without a stack, which would only lead here: 1 µs, not 15. When circuits are open refusals are all that
 * happens, and they must cost less than what they save.
 */
const refusal = (key: string, retryAfter: Duration.Duration): CircuitOpen => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  const error = Reflect.construct(Error, [], CircuitOpen) as CircuitOpen
  Error.stackTraceLimit = limit
  return Object.assign(error, { _tag: "CircuitOpen", key, retryAfter, attempts: 0 } as const)
}

const neverCalled: State = { name: "Closed", retryAfter: Duration.zero }

const judgeExit = (exit: Exit.Exit<unknown, unknown>): Circuit.Result =>
  Exit.isSuccess(exit) ? "Success" : Exit.isInterrupted(exit) ? "Neutral" : "Failure"
