/** Slots of a worker, where results can't be written down for a while, and where there are few of them. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import { postgres } from "../support/backends.js"
import { quiet } from "../support/recording.js"
import {
  calls,
  eventually,
  leave,
  pass,
  prepared,
  type Setup,
  start,
  states,
  wake,
  working
} from "../support/working.js"

const database = Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), postgres.layer))

const over = (setup: Setup) => Effect.provide(prepared({ ...setup, database }))

/** Runs the effect while a transaction keeps all that is settled from being written. */
const whileHeld = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const held = yield* Deferred.make<void>()
    const end = yield* Deferred.make<void>()
    const holding = yield* Effect.forkScoped(sql.withTransaction(Effect.zipRight(
      sql`LOCK TABLE webhook_attempts IN SHARE MODE`,
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

const all = (state: string) => eventually(Effect.map(states, (states) => states.every((one) => one === state)))

it.effect("what has been delivered lets its endpoint have the next, and keeps the worker's slot until it is written down", () =>
  Effect.gen(function*() {
    yield* leave([...first("a", 5), ...first("b", 1)])
    yield* whileHeld(Effect.gen(function*() {
      yield* start({ concurrency: 3, endpointConcurrency: 1, claim: 1 })
      yield* eventually(Effect.map(calls(), ({ length }) => length >= 3))
      expect(new Set(yield* states)).toEqual(new Set(["pending"]))
    }))
    yield* all("delivered")
    expect((yield* calls("a")).filter(({ beside }) => beside.some(({ endpoint }) => endpoint === "a"))).toEqual([])
  }).pipe(Effect.scoped, over({ endpoints: { a: {}, b: {} } }), quiet))

it.effect("no more is sent than there are slots, while nothing can be written down", () =>
  Effect.gen(function*() {
    yield* leave(first("a", 12))
    const sent = yield* whileHeld(Effect.gen(function*() {
      yield* start({ concurrency: 4, endpointConcurrency: 3 })
      yield* reached("a", 4)
      // Who had another slot would have used it before this comes back from the database.
      yield* Effect.repeatN(states, 20)
      return yield* calls()
    }))
    yield* all("delivered")
    expect(sent).toHaveLength(4)
  }).pipe(Effect.scoped, over({}), quiet))

it.effect("an endpoint leaves slots to others, while nothing can be written down", () =>
  Effect.gen(function*() {
    yield* leave(first("a", 12))
    yield* whileHeld(Effect.gen(function*() {
      yield* start({ concurrency: 6, endpointConcurrency: 2 })
      yield* reached("a", 4)
      yield* Effect.repeatN(states, 20)
      yield* leave(first("b", 1), "b_")
      yield* Effect.zipRight(wake, reached("b", 1))
      expect(yield* calls("a")).toHaveLength(4)
    }))
    yield* all("delivered")
  }).pipe(Effect.scoped, over({ endpoints: { a: {}, b: {} } }), quiet))

it.effect("what has failed counts with its endpoint until it is written down, since that may not be sent to then", () =>
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
    over({
      endpoints: { a: {}, b: { maxConcurrency: 2 } },
      steps: { a: [{ status: 503, headers: { "retry-after": "60" } }] }
    }),
    quiet
  ))

it.effect("an endpoint never has more under way than it may", () =>
  Effect.gen(function*() {
    yield* leave(first("a", 12))
    yield* wake
    yield* pass("20 seconds")
    expect((yield* calls()).map(({ beside }) => beside.length)).toEqual([0, ...Array.from({ length: 11 }, () => 1)])
    expect(new Set(yield* states)).toEqual(new Set(["delivered"]))
  }).pipe(
    Effect.provide(working({
      worker: { endpointConcurrency: 2 },
      steps: {
        a: [{ status: 200, delay: "1 second" }, { status: 200, delay: "1500 millis" }, {
          status: 200,
          delay: "1 second"
        }]
      }
    })),
    quiet
  ))

/** Requests to each, first attempts and others. */
const sent = (ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) =>
    Effect.map(calls(id), (calls) => {
      const firsts = calls.filter(({ attempt }) => attempt === 1).length
      return [firsts, calls.length - firsts] as const
    }))

const oneAtATime = { maxConcurrency: 1 }
const slow = [{ status: 200, delay: "1 second" }] as const

it.effect("of more endpoints than slots each has its turn, though who is at its limit is left out", () =>
  Effect.gen(function*() {
    yield* leave(["a", "b", "c"].flatMap((id) => first(id, 40)))
    yield* wake
    yield* pass("30 seconds")
    for (const [firsts] of yield* sent(["a", "b", "c"])) expect(firsts).toBeGreaterThan(15)
  }).pipe(
    Effect.provide(working({
      endpoints: { a: oneAtATime, b: oneAtATime, c: oneAtATime },
      worker: { concurrency: 2 },
      // So that the two slots are never free at one time.
      steps: { a: [{ status: 200, delay: "500 millis" }, ...slow], b: [...slow], c: [...slow] }
    })),
    quiet
  ))

it.effect("an endpoint's first attempts and its retries come by turns, however the worker's other endpoints come", () =>
  Effect.gen(function*() {
    yield* leave(
      ["a", "b"].flatMap((endpoint) =>
        (["first", "retry"] as const).flatMap((lane) => Array.from({ length: 30 }, () => ({ lane, endpoint })))
      )
    )
    yield* wake
    yield* pass("30 seconds")
    for (const numbers of yield* sent(["a", "b"])) expect(Math.min(...numbers)).toBeGreaterThan(12)
  }).pipe(
    Effect.provide(working({
      endpoints: { a: oneAtATime, b: oneAtATime },
      steps: { a: [{ status: 200, delay: "500 millis" }, ...slow], b: [...slow] }
    })),
    quiet
  ))

it.effect.each<readonly [number, number]>([[1, 30], [5, 10]])(
  "a paced endpoint's first attempts come beside its retries: %i a second",
  ([rateLimit, seconds]) =>
    Effect.gen(function*() {
      yield* leave((["first", "retry"] as const).flatMap((lane) => Array.from({ length: 120 }, () => ({ lane }))))
      yield* wake
      yield* pass(`${seconds} seconds`)
      const [numbers] = yield* sent(["a"])
      expect(Math.min(...numbers!)).toBeGreaterThan(rateLimit * seconds / 5)
    }).pipe(Effect.provide(working({ endpoints: { a: { rateLimit } } })), quiet)
)

it.effect("who has a few doesn't wait for all of who has many, with however few slots", () =>
  Effect.gen(function*() {
    yield* leave([...first("a", 20), ...first("b", 2)])
    yield* wake
    yield* pass("5 seconds")
    expect(yield* calls("b")).toHaveLength(2)
    expect((yield* calls()).length).toBeGreaterThanOrEqual(5)
  }).pipe(
    Effect.provide(working({
      endpoints: { a: {}, b: {} },
      worker: { concurrency: 1 },
      steps: { a: [{ status: 200, delay: "1 second" }], b: [{ status: 200, delay: "1 second" }] }
    })),
    quiet
  ))
