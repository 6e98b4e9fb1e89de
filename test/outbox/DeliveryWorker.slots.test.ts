/** The slots of a worker: where results can't be written down for a while, since somebody holds the row of an endpoint, and where deliveries wait for one. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import type * as testing from "../../src/webhooks/testing.js"
import { postgres } from "../support/backends.js"
import { quiet } from "../support/recording.js"
import {
  calls,
  eventually,
  leave,
  pass,
  prepared,
  row,
  type Setup,
  start,
  states,
  times,
  wake,
  working
} from "../support/working.js"

const database = Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), postgres.layer))

const day = 86_400_000

const over = (setup: Setup) => Effect.provide(prepared({ ...setup, database }))

/** Runs the effect while a transaction keeps all that is settled of `a` from being written. */
const whileHeld = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO webhook_endpoints (id, consecutive_failures, updated_at) VALUES ('a', 0, 0)`
    const held = yield* Deferred.make<void>()
    const end = yield* Deferred.make<void>()
    const holding = yield* Effect.forkScoped(sql.withTransaction(Effect.zipRight(
      sql`SELECT id FROM webhook_endpoints WHERE id = 'a' FOR NO KEY UPDATE`,
      Effect.zipRight(Deferred.succeed(held, undefined), Deferred.await(end))
    )))
    yield* Deferred.await(held)
    const value = yield* effect
    yield* Deferred.succeed(end, undefined)
    yield* Fiber.join(holding)
    return value
  })

const reached = (endpoint: string, count: number) =>
  eventually(Effect.map(calls(endpoint), ({ length }) => length >= count))

const first = (endpoint: string, count: number) =>
  Array.from({ length: count }, () => ({ lane: "first", endpoint, step: 0 }) as const)

it.effect("what has been delivered gives its slot back before that is written down", () =>
  Effect.gen(function*() {
    yield* leave(first("a", 3))
    const clock = yield* TestClock.testClock()
    const rests = Effect.map(clock.sleeps, (sleeps) => Chunk.some(sleeps, (until) => until >= day))
    yield* whileHeld(Effect.gen(function*() {
      yield* start({ concurrency: 1, poll: "1 day" })
      for (const count of [1, 2, 3]) {
        yield* reached("a", count)
        yield* eventually(rests)
        yield* TestClock.adjust("1 second")
      }
      expect(yield* states).toEqual(["pending", "pending", "pending"])
    }))
    yield* eventually(Effect.map(states, (states) => states.every((state) => state === "delivered")))
    expect((yield* calls()).map(({ beside }) => beside.length)).toEqual([0, 0, 0])
  }).pipe(Effect.scoped, over({ steps: { a: [{ status: 200, delay: "1 second" }] } }), quiet))

it.effect("no more than a claim waits to be written down", () =>
  Effect.gen(function*() {
    yield* leave(first("a", 8))
    const { length } = yield* whileHeld(Effect.gen(function*() {
      yield* start({ concurrency: 2, claim: 2 })
      yield* reached("a", 4)
      return yield* calls()
    }))
    yield* eventually(Effect.map(states, (states) => states.every((state) => state === "delivered")))
    expect(length).toBe(4)
  }).pipe(Effect.scoped, over({}), quiet))

it.effect("what has failed keeps its slot until that is written down: its endpoint may not be sent to then", () =>
  Effect.gen(function*() {
    yield* leave([...first("a", 2), ...first("b", 3)])
    yield* whileHeld(Effect.gen(function*() {
      yield* start({ endpointConcurrency: 1 })
      // Whoever found a slot for the third of `b` would have found one for the second of `a`.
      yield* reached("b", 3)
      expect(yield* calls("a")).toHaveLength(1)
    }))
    yield* eventually(Effect.map(states, (states) => states.filter((state) => state === "delivered").length === 3))
    expect(yield* calls("a")).toHaveLength(1)
  }).pipe(
    Effect.scoped,
    over({ endpoints: { a: {}, b: {} }, steps: { a: [{ status: 503, headers: { "retry-after": "60" } }] } }),
    quiet
  ))

describe("for an endpoint that delivers", () => {
  const options = { concurrency: 2, claim: 8, poll: "1 second", schedule: ["0 seconds", "1 hour"] } as const

  const answers = (...more: ReadonlyArray<testing.Step>): Setup => ({
    endpoints: { a: {}, b: {} },
    worker: options,
    steps: { a: [{ status: 200, delay: "1 second" }, { status: 200, delay: "1 second" }, ...more] }
  })
  /** Deliveries that are claimed and not under way. */
  const waiting = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ readonly n: number }>`SELECT count(*) AS n FROM webhook_deliveries WHERE lane = 'leased'`
    return Number(row!.n) - (yield* calls()).filter(({ endedAt }) => endedAt === undefined).length
  })

  it.effect("more is claimed than it has slots, and waits; no more is under way", () =>
    Effect.gen(function*() {
      yield* leave(first("a", 12))
      yield* wake
      yield* pass("500 millis")
      expect(yield* waiting).toBe(0)
      yield* pass("1 second")
      expect(yield* waiting).toBe(2)
      yield* pass("10 seconds")
      expect(yield* times()).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5].map((at) => at * 1000))
      expect(new Set(yield* states)).toEqual(new Set(["delivered"]))
    }).pipe(Effect.provide(working(answers())), quiet))

  it.effect("what waits is handed back as if it had not been claimed when the endpoint can't be sent to any more", () =>
    Effect.gen(function*() {
      yield* leave(first("a", 12))
      yield* wake
      yield* pass("500 millis")
      yield* pass("1 second")
      expect(yield* waiting).toBe(2)
      yield* pass("1 second")
      expect(yield* times()).toEqual([0, 0, 1000, 1000])
      expect(yield* waiting).toBe(0)
      expect(yield* row(5)).toMatchObject({ lane: "first", fence: null, dueAt: 0, attempts: 0, step: 0 })
    }).pipe(
      Effect.provide(working(answers({ status: 503, headers: { "retry-after": "60" }, delay: "1 second" }))),
      quiet
    ))

  it.effect("what waits goes on in the slot of what has failed, when that is written down", () =>
    Effect.gen(function*() {
      yield* leave(first("a", 12))
      yield* wake
      yield* pass("1500 millis")
      expect(yield* waiting).toBe(2)
      yield* pass("1 second")
      expect(yield* times()).toEqual([0, 0, 1000, 1000, 2000, 2000])
      // Before what is claimed then.
      expect((yield* calls()).map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5].map((n) => `msg_${n}`))
    }).pipe(Effect.provide(working(answers({ status: 404, delay: "1 second" }))), quiet))

  it.effect("and has had nothing to deliver since, nothing is claimed ahead", () =>
    Effect.gen(function*() {
      for (let n = 0; n < 3; n++) {
        yield* leave(first("a", 2), `before_${n}_`)
        yield* wake
        yield* pass("3 seconds")
      }
      yield* leave(first("a", 12))
      yield* wake
      yield* pass("500 millis")
      expect([yield* waiting, yield* calls()]).toEqual([0, expect.objectContaining({ length: 8 })])
    }).pipe(Effect.provide(working(answers())), quiet))

  it.effect("what has waited for a second is handed back: others may have a slot for it", () =>
    Effect.gen(function*() {
      yield* leave(first("a", 12))
      yield* wake
      yield* pass("1500 millis")
      expect(yield* waiting).toBe(2)
      yield* pass("2 seconds")
      expect(yield* waiting).toBe(0)
      expect(yield* row(5)).toMatchObject({ lane: "first", fence: null, dueAt: 0, attempts: 0 })
      expect(yield* times()).toHaveLength(4)
    }).pipe(Effect.provide(working(answers({ status: 200, delay: "8 seconds" }))), quiet))

  it.effect("what waits is handed back at once when the worker stops, and what is under way ends", () =>
    Effect.gen(function*() {
      yield* leave(first("a", 12))
      const scope = yield* Scope.make()
      yield* Scope.extend(start(options), scope)
      yield* pass("1500 millis")
      expect(yield* waiting).toBe(2)
      const stopping = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("100 millis")
      expect(yield* waiting).toBe(0)
      expect(yield* row(5)).toMatchObject({ lane: "first", fence: null, dueAt: 0, attempts: 0 })
      yield* pass("1 second")
      yield* Fiber.join(stopping)
      expect(yield* times()).toEqual([0, 0, 1000, 1000])
      expect((yield* states).filter((state) => state === "delivered")).toHaveLength(4)
    }).pipe(Effect.provide(prepared(answers())), quiet))

  it.effect("another endpoint's delivery doesn't wait behind all of them", () =>
    Effect.gen(function*() {
      yield* leave(first("a", 12))
      yield* wake
      yield* pass("1500 millis")
      expect(yield* waiting).toBe(2)
      yield* leave(first("b", 1), "other_")
      yield* pass("3 seconds")
      expect(yield* times("b")).toEqual([3000])
    }).pipe(Effect.provide(working(answers())), quiet))
})
