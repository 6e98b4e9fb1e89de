import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Circuit from "../../src/http/Circuit.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Claiming from "../../src/outbox/internal/claiming.js"
import * as EndpointRows from "../../src/outbox/internal/endpointRows.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import { backends, postgres } from "../support/backends.js"
import { enqueue } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { eventually, leave, pass, prepared, row, states, times, working } from "../support/working.js"

const circuit = Circuit.settings()

/** A claim as a plan had it that knew nothing of the endpoints' rows. */
const claim = (ids: ReadonlyArray<string>, first = 1, retry = 0, guarded: boolean | ReadonlyArray<string> = false) =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    const endpoints = yield* Effect.forEach(
      ids,
      (id) => Endpoint.make({ id, url: `https://hooks.example.com/${id}`, events: ["*"] })
    )
    const wants = endpoints.map((endpoint) => ({
      endpoint,
      first,
      retry,
      turn: "first" as const,
      guarded: typeof guarded === "boolean" ? guarded : guarded.includes(endpoint.id)
    }))
    return yield* Claiming.claim(store, wants, { length: 60_000, fence: "mine", circuit, firstDelay: 0 })
  })

/** Writes the row of `a`, as somebody else does. */
const change = (fields: Partial<EndpointRows.EndpointRow>) =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    yield* EndpointRows.lock(store, ["a"], 0)
    yield* EndpointRows.write(store, [{ ...EndpointRows.blank("a", circuit), ...fields }], 0)
  })

const disabled = { disabled: { at: 0, by: "operator", reason: "" } } as const

describe.each(backends)("a claim on $name", (backend) => {
  const database = Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), backend.layer))

  it.effect.each<[string, Partial<EndpointRows.EndpointRow>]>([
    ["is disabled", disabled],
    ["is paused", { pausedUntil: 1 }],
    ["is cut off", { circuit: Circuit.Circuit.Open({ generation: 1, until: 60_000, failedProbes: 0 }) }],
    ["is to get a probe", { circuit: Circuit.Circuit.Open({ generation: 1, until: 0, failedProbes: 0 }) }]
  ])("takes nothing of an endpoint that %s since the plan was made", ([, fields]) =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      yield* leave([{ lane: "first" }, { lane: "first", endpoint: "b" }])
      yield* store.transaction(change(fields))
      expect((yield* claim(["a", "b"])).map(({ endpoint }) => endpoint.id)).toEqual(["b"])
      expect(yield* row(1)).toMatchObject({ lane: "first", fence: null, dueAt: 0 })
    }).pipe(Effect.provide(database)))

  it.effect("takes a retry as the probe, whosever turn it is", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      yield* leave([{ lane: "first" }, { lane: "retry" }])
      yield* store.transaction(
        change({ circuit: Circuit.Circuit.Open({ generation: 1, until: 0, failedProbes: 0 }) })
      )
      expect((yield* claim(["a"], 1, 1, true)).map(({ retry }) => retry)).toEqual([true])
    }).pipe(Effect.provide(database)))

  it.effect("takes from however many endpoints what is wanted of each, and no more", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 1000 }, (_, n) => `e${n}`)
      yield* leave(
        (["first", "retry", "first"] as const).flatMap((lane) => ids.map((endpoint) => ({ lane, endpoint })))
      )
      const claimed = yield* claim(ids, 1, 1)
      const lanes = new Map(ids.map((id) => [id, new Array<boolean>()]))
      for (const { endpoint, retry } of claimed) lanes.get(endpoint.id)!.push(retry)
      expect(new Set([...lanes.values()].map((retries) => retries.join()))).toEqual(new Set(["false,true"]))
    }).pipe(Effect.provide(database)))
})

it.effect("a worker serves at one time more endpoints than SQLite puts queries together", () =>
  Effect.gen(function*() {
    yield* enqueue()
    yield* eventually(
      Effect.zipRight(pass(0), Effect.map(states, (states) => states.every((state) => state === "delivered")))
    )
    expect(yield* times()).toEqual(Array.from({ length: 520 }, () => 0))
  }).pipe(
    Effect.provide(working({
      endpoints: Object.fromEntries(Array.from({ length: 520 }, (_, n) => [`e${n}`, {}])),
      worker: { concurrency: 520, claim: 520 }
    })),
    quiet
  ))

describe("a claim on PostgreSQL", () => {
  const database = Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), postgres.layer))

  /** A transaction that has run the effect, and ends when it is told to. */
  const open = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const done = yield* Deferred.make<A, E>()
      const end = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkScoped(sql.withTransaction(
        Effect.zipRight(Effect.intoDeferred(effect, done), Deferred.await(end))
      ))
      const value = yield* Deferred.await(done)
      return { value, end: Effect.zipRight(Deferred.succeed(end, undefined), Fiber.join(fiber)) }
    })

  /** Lets it come to a lock that another holds, and tells whether it has; else it has ended. */
  const waits = <A, E>(fiber: Fiber.RuntimeFiber<A, E>) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const waiting = Effect.map(
        sql`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        ({ length }) => length > 0
      )
      const ended = Effect.map(Fiber.poll(fiber), Option.isSome)
      yield* eventually(Effect.zipWith(waiting, ended, (waiting, ended) => waiting || ended))
      return !(yield* ended)
    })

  it.effect("waits for who is about to disable the endpoint", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      yield* leave([{ lane: "first" }])
      yield* store.transaction(change({}))
      const disabling = yield* open(change(disabled))
      const claiming = yield* Effect.forkScoped(claim(["a"]))
      expect(yield* waits(claiming)).toBe(true)
      yield* disabling.end
      expect(yield* Fiber.join(claiming)).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(database), quiet))

  it.effect("holds no row that others write after the one that it waits for: else each would wait for the other", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      yield* leave([{ lane: "first" }, { lane: "first", endpoint: "b" }])
      yield* store.transaction(EndpointRows.lock(store, ["a", "b"], 0))
      const writing = yield* open(EndpointRows.lock(store, ["a"], 0))
      const claiming = yield* Effect.forkScoped(claim(["a", "b"], 1, 0, ["b"]))
      expect(yield* waits(claiming)).toBe(true)
      const other = yield* Effect.forkScoped(store.transaction(EndpointRows.lock(store, ["b"], 0)))
      yield* Fiber.join(other)
      yield* writing.end
      expect((yield* Fiber.join(claiming)).map(({ id }) => id)).toEqual([1, 2])
    }).pipe(Effect.scoped, Effect.provide(database), quiet))

  it.effect("is waited for by who disables the endpoint, and not by another claim", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const { disable } = yield* EndpointHealth.EndpointHealth
      yield* leave([{ lane: "first" }, { lane: "first" }])
      yield* store.transaction(change({}))
      const claiming = yield* open(claim(["a"]))
      expect(claiming.value.map(({ id }) => id)).toEqual([1])
      const another = yield* Effect.forkScoped(claim(["a"]))
      expect(yield* waits(another)).toBe(false)
      expect((yield* Fiber.join(another)).map(({ id }) => id)).toEqual([2])
      const disabling = yield* Effect.forkScoped(disable("a", "for a while"))
      expect(yield* waits(disabling)).toBe(true)
      yield* claiming.end
      yield* Fiber.join(disabling)
    }).pipe(Effect.scoped, Effect.provide(prepared({ database })), quiet))
})
