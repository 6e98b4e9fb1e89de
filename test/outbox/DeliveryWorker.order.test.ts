/** Endpoints that want their events in order, or no more than so many a second. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import type * as testing from "../../src/webhooks/testing.js"
import { postgres } from "../support/backends.js"
import { enqueue } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import {
  calls,
  deliveries,
  eventually,
  fleet,
  pass,
  play,
  receiver,
  states,
  times,
  working
} from "../support/working.js"

const second = 1000

/** Which delivery each request was for: `1` is `dlv_1`. */
const order = Effect.gen(function*() {
  const all = yield* deliveries
  return (yield* calls()).map(({ id }) => all.findIndex(({ messageId }) => messageId === id) + 1)
})

const enqueueOf = (aggregates: ReadonlyArray<string>) =>
  Effect.forEach(aggregates, (aggregateId) => enqueue({ aggregateId }))

describe("ordered", () => {
  const ordered = (steps: ReadonlyArray<testing.Step>, schedule?: ReadonlyArray<number>) =>
    working({
      endpoints: { a: { ordered: true } },
      steps: { a: steps },
      worker: schedule === undefined ? {} : { schedule }
    })

  it.effect("the next of an aggregate goes when the one before is delivered; other aggregates don't wait", () =>
    Effect.gen(function*() {
      yield* enqueueOf(["o-1", "o-1", "o-1", "o-2"])
      yield* pass("4 seconds")
      expect(yield* order).toEqual([1, 4])
      expect((yield* deliveries).map(({ held }) => held)).toEqual([false, true, true, false])
      yield* enqueueOf(["o-3", "o-1"])
      yield* pass("10 minutes")
      expect(yield* order).toEqual([1, 4, 5, 1, 2, 3, 6])
      expect(yield* times()).toEqual([0, 0, 4, 5, 5, 5, 5].map((at) => at * second))
      expect(new Set(yield* states)).toEqual(new Set(["delivered"]))
    }).pipe(Effect.provide(ordered([500, 200])), quiet))

  it.effect("one at a time, however long each takes", () =>
    Effect.gen(function*() {
      yield* enqueueOf(["o-1", "o-1", "o-1"])
      yield* pass("10 seconds")
      expect(yield* times()).toEqual([0, 2000, 4000])
    }).pipe(Effect.provide(ordered([{ status: 200, delay: "2 seconds" }])), quiet))

  it.effect("what is exhausted or discarded lets the next one go", () =>
    Effect.gen(function*() {
      yield* enqueueOf(["o-1", "o-1", "o-1", "o-1"])
      yield* pass("1 minute")
      expect(yield* order).toEqual([1, 1, 2, 3, 4])
      expect(yield* states).toEqual(["exhausted:attempts", "discarded:aborted", "delivered", "delivered"])
    }).pipe(
      Effect.provide(
        ordered([400, 400, { status: 400, headers: { "webhook-delivery": "abort-message" } }, 200], [0, 5000])
      ),
      quiet
    ))

  it.effect("a cancelled one lets the next one go", () =>
    Effect.gen(function*() {
      const { cancel } = yield* Deliveries.Deliveries
      yield* enqueueOf(["o-1", "o-1", "o-1", "o-1"])
      yield* pass("1 second")
      expect(yield* order).toEqual([1])
      yield* cancel("dlv_3")
      yield* pass("1 second")
      expect(yield* order).toEqual([1])
      yield* cancel("dlv_1")
      yield* pass("1 second")
      expect(yield* order).toEqual([1, 2, 4])
    }).pipe(Effect.provide(ordered([500, 200])), quiet))

  it.effect("a replayed one waits until the one that has the turn has ended", () =>
    Effect.gen(function*() {
      const { replay } = yield* Deliveries.Deliveries
      yield* enqueueOf(["o-1", "o-1", "o-1"])
      yield* pass("1 second")
      expect(yield* order).toEqual([1, 2])
      yield* replay("dlv_1")
      yield* pass("1 second")
      expect(yield* order).toEqual([1, 2])
      yield* play({ a: [200] })
      yield* pass("1 minute")
      // The second fails, is retried, and then comes the oldest that waits.
      expect(yield* order).toEqual([1, 2, 2, 1, 3])
      expect(new Set(yield* states)).toEqual(new Set(["delivered"]))
    }).pipe(Effect.provide(ordered([200, { status: 500, delay: "5 seconds" }])), quiet))

  it.live("on PostgreSQL the order is that of the commits, whoever began first", () =>
    Effect.gen(function*() {
      const database = yield* postgres.database
      const workers = yield* fleet(2, database, {
        endpoints: { a: { ordered: true } },
        worker: { poll: "20 millis" }
      })
      const committed: Array<string> = []
      const transaction = (context: (typeof workers)[number], wait: number) =>
        Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql.withTransaction(Effect.tap(enqueue(), () => Effect.sleep(wait)))
        ).pipe(
          Effect.tap(({ messageId }) => Effect.sync(() => committed.push(messageId))),
          Effect.provide(context)
        )
      yield* Effect.forEach(
        Array.from({ length: 12 }, (_, n) => n),
        (n) => Effect.delay(transaction(workers[n % 2]!, n % 3 === 0 ? 60 : 5), n * 4),
        { concurrency: "unbounded" }
      )
      yield* eventually(Effect.map(calls(), ({ length }) => length === 12))
      expect((yield* calls()).map(({ id }) => id)).toEqual(committed)
      expect((yield* calls()).every(({ beside }) => beside.length === 0)).toBe(true)
    }).pipe(Effect.scoped, Effect.provide(receiver({ a: [{ status: 200, delay: 2 }] })), quiet))
})

describe("rateLimit", () => {
  /** The most requests in any stretch of a second. */
  const most = (times: ReadonlyArray<number>) =>
    Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + second).length))

  it.effect("is never exceeded in any second, and nearly used", () =>
    Effect.gen(function*() {
      yield* Effect.replicateEffect(enqueue(), 40)
      yield* pass("10 seconds")
      const seen = yield* times("a")
      expect(seen).toHaveLength(40)
      expect(most(seen)).toBe(5)
      // An endpoint without a limit doesn't notice.
      expect((yield* times("b")).every((at) => at === 0)).toBe(true)
    }).pipe(Effect.provide(working({ endpoints: { a: { rateLimit: 5 }, b: { maxConcurrency: 64 } } })), quiet))

  it.effect("may be a fraction, and holds for retries, too", () =>
    Effect.gen(function*() {
      yield* Effect.replicateEffect(enqueue(), 3)
      yield* pass("1 minute")
      const seen = yield* times("a")
      expect(seen).toHaveLength(4)
      for (const [n, at] of seen.entries()) if (n > 0) expect(at - seen[n - 1]!).toBeGreaterThanOrEqual(2 * second)
      expect(seen[3]).toBeLessThanOrEqual(10 * second)
    }).pipe(Effect.provide(working({ endpoints: { a: { rateLimit: 0.5 } }, steps: { a: [500, 200] } })), quiet))

  it.live("is the fleet's", () =>
    Effect.gen(function*() {
      const [one, two] = yield* fleet(2, yield* postgres.database, {
        endpoints: { a: { rateLimit: 30 } },
        worker: { poll: "20 millis" }
      })
      yield* Effect.forEach([one!, two!], (context) => Effect.provide(Effect.replicateEffect(enqueue(), 25), context), {
        concurrency: 2
      })
      yield* eventually(Effect.map(calls(), ({ length }) => length === 50))
      expect(most(yield* times("a"))).toBeLessThanOrEqual(30)
    }).pipe(Effect.scoped, Effect.provide(receiver({})), quiet))
})
