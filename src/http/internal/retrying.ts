/**
 * The retry loop: makes attempts until one is final, and asks, in this order and before anything is waited for, whether the failure
 * may be repeated, the policy has a step left, the wait fits the deadline, and the budget grants it.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleIntervals from "effect/ScheduleIntervals"
import type { Within } from "../../Surroundings.js"
import type { RetryPolicy } from "../RetryPolicy.js"
import { monotonicNow } from "./monotonic.js"

/** What the loop must know of an attempt that did not end well. */
export interface Repeatable {
  /** May the same request be made again? */
  readonly retryable: boolean
  /** No request was made at all: asking again takes no step of the policy and nothing of the budget, only time. */
  readonly refused: boolean
  /** Is there nothing to wait for? Counts once in a row: what fails so again waits as any other. */
  readonly atOnce: boolean
  /** Milliseconds that the other side (or the open circuit) wants us to wait at least. */
  readonly retryAfter: number | undefined
}

/** How the loop sees attempts and speaks to its surroundings. */
export interface Hooks<A, E, E2, R> {
  /** Makes attempt `n` (1, 2, …). */
  readonly attempt: (n: number) => Effect.Effect<A, E, R>
  /** Judges an answer; `undefined`: it is final. */
  readonly judgeAnswer: (answer: A) => Repeatable | undefined
  /** Judges a failure. */
  readonly judgeFailure: (error: E) => Repeatable
  /** Asks for one retry; fails when it isn't granted. */
  readonly grant: (last: A | E) => Effect.Effect<void, E2>
  /** Told of each retry before its delay (milliseconds); `n` is the attempt that failed. */
  readonly onRetry: (n: number, delay: number, last: A | E) => Effect.Effect<void>
  /** Where the policy's step belongs. */
  readonly within: Within
  /** Makes interruptible what comes after an attempt that is repeated. */
  readonly restore: Within
}

/** Runs the loop. `deadlineAt` is in milliseconds of the monotonic clock. */
export const run = <A, E, E2, R>(
  policy: RetryPolicy,
  deadlineAt: number,
  hooks: Hooks<A, E, E2, R>
): Effect.Effect<A, E | E2, R> => {
  const next = (
    n: number,
    state: unknown,
    wasAtOnce: boolean,
    last: A | E,
    failed: Repeatable,
    giveUp: Effect.Effect<A, E>
  ): Effect.Effect<A, E | E2, R> =>
    failed.retryable
      // All that comes after the first is within this: once more for each would leave something on the fiber's stack.
      ? (n === 1 ? hooks.restore : identity)(Effect.flatMap(hooks.within(step(policy, state, last)), (decision) =>
        decision === undefined ? giveUp : Effect.flatMap(monotonicNow, (now) => {
          const floor = failed.retryAfter ?? 0
          const atOnce = failed.atOnce && !wasAtOnce
          const delay = failed.refused || atOnce ? floor : Math.max(decision.delay, floor)
          if (now + delay >= deadlineAt) {
            return giveUp
          }
          const after = Effect.zipRight(
            Effect.sleep(Duration.millis(delay)),
            Effect.suspend(() =>
              loop(n + 1, failed.refused ? state : decision.state, atOnce)
            )
          )
          return failed.refused
            ? after
            : Effect.zipRight(Effect.zipRight(hooks.grant(last), hooks.onRetry(n, delay, last)), after)
        })))
      : giveUp

  const loop = (n: number, state: unknown, wasAtOnce: boolean): Effect.Effect<A, E | E2, R> =>
    Effect.matchEffect(hooks.attempt(n), {
      onFailure: (error) => next(n, state, wasAtOnce, error, hooks.judgeFailure(error), Effect.fail(error)),
      onSuccess: (answer) => {
        const failed = hooks.judgeAnswer(answer)
        const final = Effect.succeed(answer)
        return failed === undefined ? final : next(n, state, wasAtOnce, answer, failed, final)
      }
    })

  return loop(1, policy.initial, false)
}

// --- internal

/** Steps the schedule without sleeping: its own driver would sleep before the budget could be asked. */
const step = (
  policy: RetryPolicy,
  state: unknown,
  input: unknown
): Effect.Effect<{ readonly delay: number; readonly state: unknown } | undefined> =>
  Effect.flatMap(
    Clock.currentTimeMillis,
    (now) =>
      Effect.map(policy.step(now, input, state), ([state, , decision]) =>
        ScheduleDecision.isDone(decision)
          ? undefined
          : { delay: Math.max(0, ScheduleIntervals.start(decision.intervals) - now), state })
  )
