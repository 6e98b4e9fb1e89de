/**
 * How often and when a failed attempt is made again within the process.
 *
 * A policy gives delays only. What it may never do is in the client: an answer's `Retry-After` is a floor under each
 * delay, what can't be repeated safely isn't, and what doesn't fit the deadline isn't waited for.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { dual } from "effect/Function"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { defaults } from "../Defaults.js"

/**
 * A schedule that is stepped once after each failed attempt: it continues with a delay or it is done. A policy that is
 * done after N steps makes at most N + 1 requests. It must not wait by itself.
 */
export type RetryPolicy = Schedule.Schedule<unknown>

/** Exponential backoff; durations in any form that `Duration` reads. */
export interface Options {
  /** Retries after the first request, 0 or more; default 3. */
  readonly maxRetries?: number | undefined
  /** Delay before the first retry; default 1 second. */
  readonly baseDelay?: Duration.DurationInput | undefined
  /** What each further delay is multiplied by; default 2. */
  readonly factor?: number | undefined
  /** Longest delay, before jitter; default 30 seconds. */
  readonly maxDelay?: Duration.DurationInput | undefined
  /** Share (0 to 1) by which chance lengthens or shortens a delay; default 0.2; 0: none. */
  readonly jitter?: number | undefined
}

/** Exponential backoff up to a cap, for a number of retries. */
export const make = (options: Options = {}): RetryPolicy => {
  const jitter = options.jitter ?? defaults.jitter
  const delays = Schedule.exponential(options.baseDelay ?? defaults.baseDelay, options.factor ?? defaults.retryFactor)
    .pipe(
      Schedule.union(Schedule.spaced(options.maxDelay ?? defaults.maxDelay))
    )
  return (jitter === 0 ? delays : Schedule.jitteredWith(delays, { min: 1 - jitter, max: 1 + jitter })).pipe(
    Schedule.intersect(Schedule.recurs(options.maxRetries ?? defaults.maxRetries))
  )
}

/** One request, no retry. */
export const none: RetryPolicy = Schedule.stop

/** Runs an effect whose calls follow `policy` in place of the client's own. Read at the start of each call. */
export const withRetryPolicy: {
  (policy: RetryPolicy): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, policy: RetryPolicy): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, policy: RetryPolicy): Effect.Effect<A, E, R> =>
    Effect.locally(effect, currentRetryPolicy, Option.some(policy))
)

/** The policy that `withRetryPolicy` has set, if any. */
export const currentRetryPolicy: FiberRef.FiberRef<Option.Option<RetryPolicy>> = globalValue(
  "effect-webhooks/RetryPolicy/currentRetryPolicy",
  () => FiberRef.unsafeMake(Option.none<RetryPolicy>(), { join: (parent) => parent })
)
