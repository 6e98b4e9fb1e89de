/**
 * Every metric of the library by name. Names are snake_case with the unit in them; tags have few values (never a URL
 * or an id).
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"

const attemptsKey = MetricKey.counter("webhook_attempts_total", {
  description: "HTTP requests made for deliveries",
  incremental: true
})

/** Attempts made, by `outcome` (`delivered`, `failed`, `rejected`) and failure `class` (`none` when delivered). */
export const attempts = Metric.fromMetricKey(attemptsKey)

/** Counts one attempt that took `duration` milliseconds, for a fiber. */
export const attempt = (fiber: AnyFiber, outcome: string, failureClass: string, duration: number): void => {
  countBy(fiber, 1, attemptsKey, ["outcome", "class"], outcome, failureClass)
  attemptDuration.unsafeUpdate(duration, fiber.getFiberRef(FiberRef.currentMetricLabels))
}

/** How long one attempt took. */
export const attemptDuration = Metric.histogram(
  "webhook_attempt_duration_milliseconds",
  MetricBoundaries.fromIterable([5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000]),
  "Duration of one HTTP request of a delivery"
)

/** Deliveries under way. */
export const inFlight = Metric.gauge("webhook_deliveries_in_flight", {
  description: "Deliveries under way in this process"
})

/** Counts deliveries as under way (1) or over (-1), for a fiber. */
export const changeInFlight = (fiber: AnyFiber, by: -1 | 1): void =>
  inFlight.unsafeModify(by, fiber.getFiberRef(FiberRef.currentMetricLabels))

/** Circuit breakers that are not closed, by `state` (`Open`, `HalfOpen`, `Isolated`). */
export const breakers = Metric.gauge("webhook_breakers", {
  description: "Circuit breakers that are not closed, by state"
})

/** Moves one circuit from one state to another. */
export const breakerTransition = (from: string, to: string): Effect.Effect<void> =>
  Effect.zipRight(moveBreaker(from, -1), moveBreaker(to, 1))

/** Calls that ran without a breaker because no place was left for their key. */
export const breakerOverflows = Metric.counter("webhook_breaker_overflow_total", {
  description: "Calls that ran unprotected because the table of circuit breakers was full",
  incremental: true
})

/** Counts one such call. */
export const breakerOverflow: Effect.Effect<void> = Metric.update(breakerOverflows, 1)

/** Retries refused by a retry budget. */
export const budgetRefusals = Metric.counter("webhook_retry_budget_refusals_total", {
  description: "Retries refused because the key's retry budget was used up",
  incremental: true
})

/** Counts one such refusal. */
export const budgetRefusal: Effect.Effect<void> = Metric.update(budgetRefusals, 1)

/** Events under way in the background. */
export const backgroundQueue = Metric.gauge("webhook_background_queue_events", {
  description: "Events under way in the background"
})

const enqueuesKey = MetricKey.counter("webhook_enqueued_events_total", {
  description: "Events handed to the outbox, by result",
  incremental: true
})

/** Events handed to the outbox, by `result` (`stored`, `unrouted`, `duplicate`). */
export const enqueues = Metric.fromMetricKey(enqueuesKey)

/** Counts events, and the deliveries that have become pending with them, for a fiber. */
export const enqueued = (
  fiber: AnyFiber,
  counts: Readonly<Record<"duplicate" | "stored" | "unrouted", number>>,
  pending: number
): void => {
  for (const [result, count] of Object.entries(counts)) countBy(fiber, count, enqueuesKey, ["result"], result)
  deliveriesEntered(fiber, "pending", pending)
}

const deliveriesKey = MetricKey.counter("webhook_deliveries_total", {
  description: "Deliveries of the outbox that came into a state, by state",
  incremental: true
})

/** Deliveries of the outbox that came into a state by this process, by `state`. */
export const deliveries = Metric.fromMetricKey(deliveriesKey)

/** Counts some, for a fiber. */
export const deliveriesEntered = (fiber: AnyFiber, state: string, count: number): void =>
  countBy(fiber, count, deliveriesKey, ["state"], state)

/** How long the oldest due delivery of the outbox has been due, as a worker last saw it; 0: none is. */
export const oldestDueAge = Metric.gauge("webhook_outbox_oldest_due_age_milliseconds", {
  description: "Age of the oldest delivery that is due, as a worker last saw it"
})

/** Circuits of endpoints that deliveries wait for and that are not closed, by `state` (`Open`, `HalfOpen`), as a worker last saw them. */
export const endpointCircuits = Metric.gauge("webhook_endpoint_circuits", {
  description: "Circuits of endpoints with pending deliveries that are not closed, by state"
})

/** Takes what a worker has seen. */
export const circuits = (states: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.forEach(["Open", "HalfOpen"], (state) =>
    Metric.set(
      Metric.tagged(endpointCircuits, "state", state),
      states.filter((one) => one === state).length
    ), { discard: true })

/** Deliveries claimed by this process's worker. */
export const claims = Metric.counter("webhook_claims_total", {
  description: "Deliveries claimed by a worker",
  incremental: true
})

/** Counts some, for a fiber. */
export const claimed = (fiber: AnyFiber, count: number): void =>
  claims.unsafeUpdate(count, fiber.getFiberRef(FiberRef.currentMetricLabels))

/** Deliveries whose lease was lost before they were settled. */
export const leaseLosses = Metric.counter("webhook_lease_losses_total", {
  description: "Deliveries whose lease was lost before they were settled: their result was not written",
  incremental: true
})

/** Time from an attempt's end to its result being committed. */
export const settleLag = Metric.histogram(
  "webhook_settle_lag_milliseconds",
  MetricBoundaries.fromIterable([1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000]),
  "Time from the end of an attempt to its result being committed"
)

/** Takes one, in milliseconds, for a fiber. */
export const settled = (fiber: AnyFiber, lag: number): void =>
  settleLag.unsafeUpdate(lag, fiber.getFiberRef(FiberRef.currentMetricLabels))

// --- internal

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

/** The counters by name and tags: these are part of a key, which `Metric.tagged` would make (and hash) anew at every update. */
const counters = new Map<string, Metric.Metric.Counter<number>>()

const countBy = (
  fiber: AnyFiber,
  count: number,
  key: MetricKey.MetricKey.Counter<number>,
  tags: ReadonlyArray<string>,
  ...values: ReadonlyArray<string>
): void => {
  if (count === 0) return
  const by = `${key.name} ${values.join(" ")}`
  let counter = counters.get(by)
  if (counter === undefined) {
    const labels = tags.map((tag, index) => MetricLabel.make(tag, values[index]!))
    counter = Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labels))
    counters.set(by, counter)
  }
  counter.unsafeUpdate(count, fiber.getFiberRef(FiberRef.currentMetricLabels))
}

const moveBreaker = (state: string, change: number): Effect.Effect<void> =>
  state === "Closed" ? Effect.void : Metric.modify(Metric.tagged(breakers, "state", state), change)
