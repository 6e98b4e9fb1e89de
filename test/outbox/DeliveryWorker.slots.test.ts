/** Slots of a worker whose results can't be written down for a while: somebody holds the row of an endpoint. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { postgres } from "../support/backends.js"
import { quiet } from "../support/recording.js"
import { calls, eventually, leave, prepared, type Setup, start, states } from "../support/working.js"

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
  Array.from({ length: count }, () => ({ lane: "first", endpoint }) as const)

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
      yield* start({ concurrency: 2, claim: 3 })
      yield* reached("a", 5)
      return yield* calls()
    }))
    yield* eventually(Effect.map(states, (states) => states.every((state) => state === "delivered")))
    expect(length).toBe(5)
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
