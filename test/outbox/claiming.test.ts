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
import type * as Health from "../../src/outbox/internal/health.js"
import * as Settling from "../../src/outbox/internal/settling.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import type { DeliveryReport } from "../../src/webhooks/WebhookSender.js"
import { backends, postgres } from "../support/backends.js"
import { enqueue } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { eventually, leave, pass, prepared, row, states, times, working } from "../support/working.js"

const circuit = Circuit.settings()

/** A claim as a plan had it that knew nothing of the endpoints' rows. */
const claim = (ids: ReadonlyArray<string>, first = 1, retry = 0) =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    const endpoints = yield* Effect.forEach(
      ids,
      (id) => Endpoint.make({ id, url: `https://hooks.example.com/${id}`, events: ["*"] })
    )
    const wants = endpoints.map((endpoint) => ({ endpoint, first, retry, guarded: false, generation: 0 }))
    return yield* Claiming.claim(store, wants, { length: 60_000, fence: "mine", circuit, firstDelay: 0 })
  })

/** Writes the row of `a`, as somebody else does. */
const change = (fields: Partial<EndpointRows.EndpointRow>) =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    yield* EndpointRows.lock(store, ["a"], 0)
    yield* EndpointRows.write(store, [{ ...EndpointRows.blank("a", circuit), ...fields }], 0)
  })

const health: Health.Settings = { circuit, disableAfter: 1e9, disableSpread: 1e9 }

/** An attempt that has ended with a status; a 503 asks for a pause. */
const ended = (id: number, endpoint: Endpoint.Endpoint, status: number): Settling.Ended => ({
  claimed: {
    id,
    messageId: `msg_${id - 1}`,
    endpoint,
    eventType: "t",
    format: "event",
    orderKey: undefined,
    step: 0,
    attempts: 0,
    lapses: 0,
    once: false,
    fence: "theirs",
    generation: 0,
    notBefore: 0,
    retry: false,
    tenant: undefined,
    aggregateId: null,
    occurredAt: "2026-01-01T00:00:00Z",
    correlationId: "c",
    traceParent: undefined,
    body: undefined
  },
  report: {
    endpointId: endpoint.id,
    outcome: status === 200 ? "delivered" : "failed",
    class: status === 200 ? undefined : "http-status",
    status,
    attempts: 1,
    duration: 1,
    retryAfter: status === 200 ? undefined : 60_000
  } as DeliveryReport,
  crashed: false,
  startedAt: 0,
  chance: 0
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
  const waits = <A, E>(fiber: Fiber.RuntimeFiber<A, E>, beside = 0) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const waiting = Effect.map(
        sql`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        ({ length }) => length > beside
      )
      const ended = Effect.map(Fiber.poll(fiber), Option.isSome)
      yield* eventually(Effect.zipWith(waiting, ended, (waiting, ended) => waiting || ended))
      return !(yield* ended)
    })

  it.effect.each(["read committed", "repeatable read"])(
    "waits for who is about to disable the endpoint: %s",
    (level) =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        // Of all connections: whatever is idle gets it.
        yield* Effect.all(
          Array.from(
            { length: 10 },
            () => sql`SELECT pg_sleep(0.05), set_config('default_transaction_isolation', ${level}, false)`
          ),
          {
            concurrency: "unbounded"
          }
        )
        const store = yield* OutboxSchema.OutboxSchema
        yield* leave([{ lane: "first" }])
        yield* store.transaction(change({}))
        const disabling = yield* open(change(disabled))
        const claiming = yield* Effect.forkScoped(claim(["a"]))
        expect(yield* waits(claiming)).toBe(true)
        yield* disabling.end
        expect(yield* Fiber.join(claiming)).toEqual([])
      }).pipe(Effect.scoped, Effect.provide(database), quiet)
  )

  it.effect("doesn't wait for who writes down what was delivered, nor does that wait for it", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      yield* leave([{ lane: "leased", fence: "theirs", dueAt: 1 }, { lane: "first" }, { lane: "first" }])
      yield* store.transaction(EndpointRows.lock(store, ["a"], 0))
      const endpoint = yield* Endpoint.make({ id: "a", url: "https://hooks.example.com/a", events: ["*"] })
      const claiming = yield* open(claim(["a"]))
      const settling = yield* Effect.forkScoped(open(Settling.settle(store, [ended(1, endpoint, 200)], [0], health)))
      expect(yield* waits(settling)).toBe(false)
      const another = yield* Effect.forkScoped(claim(["a"]))
      expect(yield* waits(another)).toBe(false)
      expect([claiming.value, yield* Fiber.join(another)].map(([{ id } = { id: 0 }]) => id)).toEqual([2, 3])
      yield* claiming.end
      const { end, value } = yield* Fiber.join(settling)
      expect(value.settled).toHaveLength(1)
      yield* end
    }).pipe(Effect.scoped, Effect.provide(database), quiet))

  it.effect("and a settlement of its endpoints never wait for each other in a circle", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const sql = yield* SqlClient.SqlClient
      yield* leave([
        { lane: "leased", fence: "theirs", endpoint: "a", dueAt: 1 },
        { lane: "leased", fence: "theirs", endpoint: "c", dueAt: 1 },
        ...["a", "b", "c"].map((endpoint) => ({ lane: "first", endpoint }) as const)
      ])
      const endpoints = yield* Effect.forEach(
        ["a", "b", "c"],
        (id) => Endpoint.make({ id, url: `https://hooks.example.com/${id}`, events: ["*"] })
      )
      yield* store.transaction(EndpointRows.lock(store, ["a", "b", "c"], 0))
      const held = yield* open(sql`SELECT id FROM webhook_endpoints WHERE id = 'b' FOR UPDATE`)
      // It keeps `a`, and waits for `b`.
      const claiming = yield* Effect.forkScoped(claim(["a", "b", "c"]))
      expect(yield* waits(claiming)).toBe(true)
      // `c` is another by now than it saw: it will wait for whoever writes it then.
      yield* store.transaction(EndpointRows.write(store, [{ ...EndpointRows.blank("c", circuit), pausedUntil: 9 }], 0))
      const [a, , c] = endpoints
      const settling = yield* Effect.forkScoped(Effect.either(
        sql.withTransaction(Settling.settle(store, [ended(1, a!, 503), ended(2, c!, 200)], [0, 1000], health))
      ))
      expect(yield* waits(settling, 1)).toBe(true)
      yield* held.end
      yield* Fiber.join(claiming)
      expect(yield* Fiber.join(settling)).toMatchObject({ _tag: "Right" })
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
