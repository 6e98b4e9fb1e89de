/** Settling what was delivered and claiming what is next, in one go. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as Circuit from "../../src/http/Circuit.js"
import * as Claiming from "../../src/outbox/internal/claiming.js"
import * as EndpointRows from "../../src/outbox/internal/endpointRows.js"
import * as Folding from "../../src/outbox/internal/folding.js"
import type { Want } from "../../src/outbox/internal/planning.js"
import * as Relaying from "../../src/outbox/internal/relaying.js"
import * as Settling from "../../src/outbox/internal/settling.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import type { DeliveryReport } from "../../src/webhooks/WebhookSender.js"
import { backends, postgres, type postgres as Postgres } from "../support/backends.js"
import { leave, type Left, row } from "../support/working.js"

const health = { circuit: Circuit.settings(), ...Settling.disabling }

const lease: Claiming.Lease = { length: 60_000, fence: "next", circuit: health.circuit, firstDelay: 0 }

const endpoint = (id: string) =>
  Effect.runSync(Endpoint.make({ id, url: `https://hooks.example.com/${id}`, events: ["*"] }))

const want = (id: string, first: number, retry = 0): Want => ({
  endpoint: endpoint(id),
  first,
  retry,
  turn: "first",
  guarded: false
})

const database = ({ layer }: typeof Postgres) =>
  Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), layer))

const report = (fields: Partial<DeliveryReport> = {}): DeliveryReport => ({
  messageId: "msg_0",
  eventType: "t",
  endpointId: "a",
  url: "https://hooks.example.com/a",
  outcome: "delivered",
  class: undefined,
  status: 204,
  attempts: 1,
  duration: 12.6,
  correlationId: "c",
  error: undefined,
  retryAfter: undefined,
  directive: undefined,
  excerpt: undefined,
  ...fields
})

const ended = (claimed: Claiming.Claimed, fields: Partial<DeliveryReport> = {}): Settling.Ended => ({
  claimed,
  report: report({ endpointId: claimed.endpoint.id, ...fields }),
  crashed: false,
  startedAt: 100,
  chance: 0
})

/** Claims what there is of the endpoints. */
const claimed = (...ids: ReadonlyArray<string>) =>
  Effect.flatMap(
    OutboxSchema.OutboxSchema,
    (store) => Claiming.claim(store, ids.map((id) => want(id, 10, 10)), { ...lease, fence: "mine" })
  )

/** A worker's part that has just written a success of each endpoint. */
const calm = (...ids: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    const folding = Folding.make(health)
    const told = ids.map((id): Folding.Told => ({
      claimed: { endpoint: endpoint(id), generation: 0 },
      report: report(),
      disable: undefined,
      circuitResult: "Success"
    }))
    yield* Effect.flatMap(
      store.transaction(Effect.flatMap(store.now, (now) => folding.fold(store, told, now))),
      ({ committed }) => committed
    )
    return folding
  })

const change = (id: string, fields: Partial<EndpointRows.EndpointRow>) =>
  Effect.flatMap(
    OutboxSchema.OutboxSchema,
    (store) =>
      store.transaction(EndpointRows.write(store, [{ ...EndpointRows.blank(id, health.circuit), ...fields }], 0))
  )

const relay = (batch: ReadonlyArray<Settling.Ended>, wants: ReadonlyArray<Want>, folding: Folding.Folding) =>
  Effect.flatMap(OutboxSchema.OutboxSchema, (store) => Relaying.relay(store, batch, { wants, lease }, folding))

const stored = Effect.gen(function*() {
  const { sql, tables } = yield* OutboxSchema.OutboxSchema
  return [
    yield* sql`SELECT * FROM ${tables.deliveries} ORDER BY id`,
    yield* sql`SELECT * FROM ${tables.attempts} ORDER BY delivery_id, number`
  ]
})

const counted = (id: string) =>
  Effect.map(
    Effect.flatMap(OutboxSchema.OutboxSchema, (store) => EndpointRows.read(store, [id])),
    (rows) => {
      const row = rows.get(id)
      return row?.circuit._tag === "Closed"
        ? [row.circuit.results.a, row.circuit.results.b, row.consecutiveFailures]
        : row?.circuit._tag
    }
  )

const firsts = (endpoint: string, count: number): ReadonlyArray<Left> =>
  Array.from({ length: count }, () => ({ endpoint, lane: "first" }))

describe.each(backends)("a relay on $name", (backend) => {
  const over = Effect.provide(database(backend))

  it.effect("leaves what settling and claiming would", () => {
    const left: ReadonlyArray<Left> = [
      { lane: "first" },
      { lane: "retry", attempts: 3, step: 2 },
      { lane: "first", endpoint: "b" }
    ]
    const results = (all: ReadonlyArray<Claiming.Claimed>) =>
      all.map((one, n) => ended(one, n === 1 ? { excerpt: "thanks \uD83D", status: 200 } : {}))
    const wants = [want("b", 1, 1), want("a", 2)]
    const next = [...firsts("a", 3), { endpoint: "b", lane: "retry" as const, step: 4, attempts: 4 }]
    const byId = (claims: ReadonlyArray<Claiming.Claimed>) => [...claims].sort((one, other) => one.id - other.id)
    const world = (together: boolean) =>
      Effect.gen(function*() {
        const store = yield* OutboxSchema.OutboxSchema
        yield* TestClock.setTime(5_000_000)
        yield* leave(left)
        const batch = results(yield* claimed("a", "b"))
        yield* leave(next, "next_")
        const folding = yield* calm("a", "b")
        expect(Relaying.isPlain(batch, folding, 5_000_500)).toBe(true)
        yield* TestClock.setTime(5_000_700)
        if (together) {
          const { at, claimed, events, left, settled, unwritten } = yield* relay(batch, wants, folding)
          return [yield* stored, byId(claimed), settled, { at, events, left, unwritten }] as const
        }
        const { at, events, lost, settled } = yield* Settling.settle(store, batch, [0], folding)
        const claims = yield* Claiming.claim(store, wants, lease)
        return [yield* stored, byId(claims), settled, { at, events, left: lost, unwritten: [] }] as const
      }).pipe(Effect.provide(Layer.fresh(database(backend))))
    return Effect.gen(function*() {
      const [together, apart] = [yield* world(true), yield* world(false)]
      expect(together).toEqual(apart)
      expect(together[1].map(({ messageId }) => messageId)).toEqual(["next_0", "next_1", "next_3"])
    })
  })

  it.effect("changes nothing of a delivery whose lease is another's, and tells of it", () =>
    Effect.gen(function*() {
      yield* leave(firsts("a", 4))
      const [one, other] = yield* claimed("a")
      const { sql, tables } = yield* OutboxSchema.OutboxSchema
      yield* sql`UPDATE ${tables.deliveries} SET fence = 'yours' WHERE id = ${other!.id}`
      const { left, settled } = yield* relay([ended(one!), ended(other!)], [want("a", 1)], yield* calm("a"))
      expect([settled.map(({ ended }) => ended.claimed.id), left.map(({ claimed }) => claimed.id)]).toEqual([[1], [2]])
      expect(yield* row(2)).toMatchObject({ state: "pending", lane: "leased", fence: "yours", attempts: 0 })
      expect((yield* stored)[1]).toHaveLength(1)
    }).pipe(over))

  it.effect.each<[string, Partial<EndpointRows.EndpointRow>]>([
    ["is disabled", { disabled: { at: 0, by: "operator", reason: "" } }],
    ["is paused", { pausedUntil: 2 ** 45 }],
    ["is cut off", { circuit: Circuit.Circuit.Open({ generation: 1, until: 60_000, failedProbes: 0 }) }],
    ["is to get a probe", { circuit: Circuit.Circuit.Open({ generation: 1, until: 0, failedProbes: 0 }) }]
  ])("claims nothing of an endpoint that %s by now", ([, fields]) =>
    Effect.gen(function*() {
      yield* leave([...firsts("a", 1)])
      const batch = (yield* claimed("a")).map((one) => ended(one))
      yield* leave([...firsts("a", 1), ...firsts("b", 1)], "next_")
      const folding = yield* calm("a", "b")
      yield* change("a", fields)
      const { claimed: next, settled } = yield* relay(batch, [want("a", 1), want("b", 1)], folding)
      expect([settled.length, next.map(({ messageId }) => messageId)]).toEqual([1, ["next_1"]])
      expect(yield* row(2)).toMatchObject({ lane: "first", fence: null })
    }).pipe(over))

  it.effect("claims for the circuit that is there now", () =>
    Effect.gen(function*() {
      yield* leave(firsts("a", 1))
      const batch = (yield* claimed("a")).map((one) => ended(one))
      yield* leave(firsts("a", 1), "next_")
      const folding = yield* calm("a")
      yield* change("a", { circuit: Circuit.Circuit.Closed({ ...closed, generation: 7 }) })
      const { claimed: [next], unwritten } = yield* relay(batch, [want("a", 1)], folding)
      expect([next?.generation, unwritten]).toEqual([7, ["a"]])
    }).pipe(over))

  it.effect("counts successes, and tells whose must not wait since somebody has seen failures", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      yield* leave([...firsts("a", 2), ...firsts("b", 1)])
      const batch = (yield* claimed("a", "b")).map((one) => ended(one))
      const folding = yield* calm("a", "b")
      yield* TestClock.setTime(500)
      yield* change("a", {
        circuit: Circuit.Circuit.Closed({
          ...closed,
          results: { ...closed.results, a: 1, b: 3 },
          consecutiveFailures: 3
        }),
        consecutiveFailures: 3,
        firstFailureAt: 100,
        lastFailureAt: 400
      })
      const { unwritten } = yield* relay(batch, [], folding)
      expect([unwritten, yield* counted("a"), yield* counted("b")]).toEqual([["a"], [1, 3, 3], [1, 0, 0]])
      yield* folding.flush(store, unwritten)
      // The failures in a row are over; in the circuit, too.
      expect(yield* counted("a")).toEqual([3, 3, 0])
      expect((yield* EndpointRows.read(store, ["a"])).get("a")?.circuit).toMatchObject({ consecutiveFailures: 0 })
      expect([folding.waiting(999), folding.waiting(1000)]).toEqual([[], ["b"]])
      yield* folding.flush(store, folding.waiting())
      expect([yield* counted("b"), folding.waiting()]).toEqual([[2, 0, 0], []])
    }).pipe(over))

  it.effect("is done as a whole or not at all", () =>
    Effect.gen(function*() {
      const { sql, tables } = yield* OutboxSchema.OutboxSchema
      yield* leave(firsts("a", 2))
      const [one] = yield* claimed("a")
      yield* leave(firsts("a", 1), "next_")
      const folding = yield* calm("a")
      // The next one's message can't be read: as if a host had taken the table away.
      yield* sql`ALTER TABLE ${tables.messages} RENAME TO elsewhere`
      const before = yield* stored
      yield* Effect.flip(relay([ended(one!)], [want("a", 1)], folding))
      expect([yield* stored, folding.waiting()]).toEqual([before, []])
    }).pipe(over))

  it.effect("isn't for what has to be judged", () =>
    Effect.gen(function*() {
      yield* leave(firsts("a", 1))
      const [one] = yield* claimed("a")
      const folding = yield* calm("a")
      const isPlain = (batch: ReadonlyArray<Settling.Ended>, now = 0) => Relaying.isPlain(batch, folding, now)
      const plain = ended(one!)
      expect([isPlain([plain]), isPlain([plain], 999)]).toEqual([true, true])
      expect(isPlain([plain], 1000), "what has waited for a second").toBe(false)
      expect(Relaying.isPlain([plain], folding, 1000, 2000), "in a backlog").toBe(true)
      for (
        const [what, other] of Object.entries<Settling.Ended>({
          "a failure": ended(one!, { outcome: "failed", status: 500 }),
          "two requests": ended(one!, { attempts: 2 }),
          "not sent": { ...plain, report: undefined },
          "in order": ended({ ...one!, orderKey: "k" }),
          "another circuit": ended({ ...one!, generation: 3 }),
          "an endpoint that was never written": ended({ ...one!, endpoint: endpoint("b") })
        })
      ) {
        expect(isPlain([plain, other]), what).toBe(false)
      }
      const store = yield* OutboxSchema.OutboxSchema
      const fold = (kind: "Failure" | "Success") =>
        store.transaction(folding.fold(store, [{ ...Settling.toldOf(decided(plain)), circuitResult: kind }], 0))
      yield* Effect.flatMap(fold("Failure"), ({ committed }) => committed)
      expect(isPlain([plain]), "after a failure").toBe(false)
      yield* Effect.flatMap(fold("Success"), ({ committed }) => committed)
      expect(isPlain([plain]), "while a failure counts").toBe(false)
    }).pipe(over))
})

const closed = Circuit.initial(health.circuit) as Circuit.Circuit & { readonly _tag: "Closed" }

const decided = (one: Settling.Ended): Settling.Decided => ({ ended: one, settlement: Settling.decide(one, [], 0) })

/** Keeps what the statement locks until its effect is run. */
const held = (statement: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const begun = yield* Deferred.make<void>()
    const end = yield* Deferred.make<void>()
    const holding = yield* Effect.forkScoped(sql.withTransaction(Effect.zipRight(
      sql.unsafe(statement),
      Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(end))
    )))
    yield* Deferred.await(begun)
    return Effect.zipRight(Deferred.succeed(end, undefined), Fiber.join(holding))
  })

it.effect("a relay passes over an endpoint whose row somebody has, and waits for nobody", () =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    yield* leave(firsts("a", 1))
    const batch = (yield* claimed("a")).map((one) => ended(one))
    yield* leave([...firsts("a", 1), ...firsts("b", 1)], "next_")
    const folding = yield* calm("a", "b")
    const end = yield* held("SELECT 1 FROM webhook_endpoints WHERE id = 'a' FOR UPDATE")
    const { claimed: next, settled, unwritten } = yield* relay(batch, [want("a", 1), want("b", 1)], folding)
    expect([settled.length, next.map(({ messageId }) => messageId), unwritten]).toEqual([1, ["next_1"], []])
    // Nor does what has waited.
    yield* folding.flush(store, ["a"])
    expect([yield* counted("a"), folding.waiting()]).toEqual([[1, 0, 0], ["a"]])
    yield* end
    yield* folding.flush(store, ["a"])
    expect(yield* counted("a")).toEqual([2, 0, 0])
  }).pipe(Effect.scoped, Effect.provide(database(postgres))))

it.effect("a relay leaves a delivery whose row somebody has, and waits for nobody", () =>
  Effect.gen(function*() {
    yield* leave(firsts("a", 2))
    const batch = (yield* claimed("a")).map((one) => ended(one))
    yield* leave(firsts("a", 1), "next_")
    const folding = yield* calm("a")
    const end = yield* held("SELECT 1 FROM webhook_deliveries WHERE id = 1 FOR UPDATE")
    const { claimed: next, left, settled } = yield* relay(batch, [want("a", 1)], folding)
    yield* end
    expect([left, settled.map(({ ended }) => ended), next.length]).toEqual([[batch[0]], [batch[1]], 1])
    expect([yield* row(1), yield* row(2)]).toMatchObject([{ state: "pending", fence: "mine" }, { state: "delivered" }])
  }).pipe(Effect.scoped, Effect.provide(database(postgres))))

it.effect(
  "a relay that had to wait for a table claims nothing, since nobody may wait for that any more",
  () =>
    Effect.gen(function*() {
      yield* leave(firsts("a", 1))
      const batch = (yield* claimed("a")).map((one) => ended(one))
      yield* leave(firsts("a", 1), "next_")
      const folding = yield* calm("a")
      const end = yield* held("LOCK TABLE webhook_attempts IN SHARE MODE")
      const relayed = yield* Effect.fork(relay(batch, [want("a", 1)], folding))
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 10_100)))
      yield* end
      const { claimed: next, settled } = yield* Fiber.join(relayed)
      expect([settled.length, next.length, (yield* row(2)).fence]).toEqual([1, 0, null])
    }).pipe(Effect.scoped, Effect.provide(database(postgres))),
  30_000
)

it.effect("a relay tells where a statement by itself is no READ COMMITTED", () =>
  Effect.gen(function*() {
    const { url } = yield* postgres.database
    const again = (query: string) =>
      Effect.gen(function*() {
        yield* leave(firsts("a", 1), `${query}_`)
        const batch = (yield* claimed("a")).map((one) => ended(one))
        return (yield* relay(batch, [want("a", 1)], yield* calm("a"))).again
      }).pipe(Effect.provide(database({
        ...postgres,
        layer: Layer.orDie(PgClient.layer({ url: Redacted.make(url + query) }))
      })))
    const options = "?options=-c%20default_transaction_isolation%3D"
    expect(yield* again("")).toBe(true)
    for (const level of ["serializable", "repeatable%5C%20read"]) expect(yield* again(options + level)).toBe(false)
  }).pipe(Effect.scoped))
