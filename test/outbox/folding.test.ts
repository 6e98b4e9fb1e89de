/** What results make of their endpoints' rows, and when those are written. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Circuit from "../../src/http/Circuit.js"
import * as EndpointRows from "../../src/outbox/internal/endpointRows.js"
import * as Folding from "../../src/outbox/internal/folding.js"
import * as Health from "../../src/outbox/internal/health.js"
import * as Settling from "../../src/outbox/internal/settling.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import type { DeliveryReport } from "../../src/webhooks/WebhookSender.js"
import { backends, postgres } from "../support/backends.js"

const settings: Health.Settings = { circuit: Circuit.settings(), ...Settling.disabling }

const endpoint = Effect.runSync(Endpoint.make({ id: "a", url: "https://hooks.example.com/a", events: ["*"] }))

type Kind = "ok" | "failed" | "not sent"

const told = (kind: Kind, generation = 0): Folding.Told => {
  const report: DeliveryReport = {
    endpointId: "a",
    outcome: kind === "ok" ? "delivered" : "failed",
    attempts: 1,
    duration: 1,
    ...(kind === "ok" ? { status: 200 } : { class: "retryable-status", status: 500 })
  } as DeliveryReport
  return {
    claimed: { endpoint, generation },
    report: kind === "not sent" ? undefined : report,
    circuitResult: kind === "ok" ? "Success" : kind === "failed" ? "Failure" : "Neutral",
    disable: undefined
  }
}

/** A worker's part that writes results down. */
const worker = () => {
  const folding = Folding.make(settings)
  return (...kinds: ReadonlyArray<Kind>) =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const { generation } = (yield* row).circuit
      const { committed, events } = yield* store.transaction(
        Effect.flatMap(store.now, (now) => folding.fold(store, kinds.map((kind) => told(kind, generation)), now))
      )
      yield* committed
      return events
    })
}

const row = Effect.gen(function*() {
  const store = yield* OutboxSchema.OutboxSchema
  return (yield* EndpointRows.read(store, ["a"])).get("a") ?? EndpointRows.blank("a")
})

const counted = Effect.map(
  row,
  ({ circuit, consecutiveFailures }) =>
    circuit._tag === "Closed" ? [circuit.results.a, circuit.results.b, consecutiveFailures] : circuit._tag
)

const database = ({ layer }: typeof postgres) =>
  Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), layer))

const ok = (count: number): ReadonlyArray<Kind> => Array.from({ length: count }, () => "ok")

describe.each(backends)("results on $name", (backend) => {
  it.effect("of an endpoint without failures are written once a second, and all of them", () =>
    Effect.gen(function*() {
      const fold = worker()
      yield* TestClock.setTime(10_000)
      yield* fold("ok")
      expect([yield* counted, (yield* row).lastSuccessAt]).toEqual([[1, 0, 0], 10_000])
      for (const time of [10_300, 10_999]) {
        yield* TestClock.setTime(time)
        yield* fold(...ok(5))
      }
      expect([yield* counted, (yield* row).lastSuccessAt]).toEqual([[1, 0, 0], 10_000])
      yield* TestClock.setTime(11_000)
      yield* fold("ok")
      expect([yield* counted, (yield* row).lastSuccessAt]).toEqual([[12, 0, 0], 11_000])
    }).pipe(Effect.provide(database(backend))))

  it.effect("that have waited are counted before a failure, and none waits while there are failures", () =>
    Effect.gen(function*() {
      const fold = worker()
      yield* fold("ok")
      yield* fold(...ok(9))
      yield* fold("failed")
      expect(yield* counted).toEqual([11, 1, 1])
      yield* fold(...ok(3))
      expect(yield* counted).toEqual([14, 1, 0])
      // No row of failures any more, but one that counts.
      yield* fold("ok")
      expect(yield* counted).toEqual([15, 1, 0])
    }).pipe(Effect.provide(database(backend))))

  it.effect("do not wait where another worker has seen failures, and end a row of them", () =>
    Effect.gen(function*() {
      const [one, other] = [worker(), worker()]
      yield* one("ok")
      yield* one("ok", "ok")
      yield* other("failed", "failed", "failed")
      expect(yield* counted).toEqual([4, 3, 3])
      yield* one("ok")
      expect(yield* counted).toEqual([7, 3, 0])
      // And such as are of no window any more.
      yield* TestClock.setTime(5 * settings.circuit.samplingWindow)
      yield* one("ok")
      const store = yield* OutboxSchema.OutboxSchema
      yield* store.transaction(EndpointRows.write(store, [{ ...yield* row, consecutiveFailures: 2 }], 0))
      yield* one("ok")
      expect(yield* counted).toEqual([2, 0, 0])
    }).pipe(Effect.provide(database(backend))))

  it.effect("that have waited too long, or for another circuit, are no longer counted", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const [fold, another] = [worker(), worker()]
      yield* fold("ok")
      yield* fold(...ok(5))
      yield* TestClock.setTime(settings.circuit.samplingWindow + 1)
      yield* another("ok")
      yield* fold("ok")
      expect(yield* counted).toEqual([2, 0, 0])
      // In the window as if they had been written then: the five are gone before what came later.
      yield* fold(...ok(5))
      const at = 1.9 * settings.circuit.samplingWindow
      yield* TestClock.setTime(at)
      yield* another("ok")
      yield* fold("ok")
      expect(yield* counted).toEqual([9, 0, 0])
      yield* TestClock.setTime(2.2 * settings.circuit.samplingWindow)
      yield* fold("ok")
      expect(yield* counted).toEqual([3, 0, 0])
      yield* fold(...ok(5))
      const { circuit } = yield* row
      yield* store.transaction(EndpointRows.write(
        store,
        [{ ...yield* row, circuit: Circuit.reset(circuit, settings.circuit) }],
        0
      ))
      yield* fold("ok")
      expect(yield* counted).toEqual([1, 0, 0])
    }).pipe(Effect.provide(database(backend))))

  it.effect("of a transaction that is rolled back are counted once when it is run again", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const folding = Folding.make(settings)
      const fold = (kinds: ReadonlyArray<Kind>) =>
        Effect.flatMap(store.now, (now) => folding.fold(store, kinds.map((kind) => told(kind)), now))
      const commit = (kinds: ReadonlyArray<Kind>) =>
        Effect.flatMap(store.transaction(fold(kinds)), ({ committed }) => committed)
      const rollBack = (kinds: ReadonlyArray<Kind>) =>
        Effect.flip(store.transaction(Effect.zipRight(fold(kinds), Effect.fail("no" as const))))
      yield* commit(ok(1))
      yield* rollBack(ok(4))
      yield* commit(ok(4))
      yield* rollBack(["failed"])
      yield* commit(["failed"])
      expect(yield* counted).toEqual([6, 1, 1])
    }).pipe(Effect.provide(database(backend))))

  it.effect("whose commit nobody knows of are not counted twice", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const folding = Folding.make(settings)
      const fold = (kinds: ReadonlyArray<Kind>) =>
        store.transaction(
          Effect.flatMap(store.now, (now) => folding.fold(store, kinds.map((kind) => told(kind)), now))
        )
      yield* Effect.flatMap(fold(ok(1)), ({ committed }) => committed)
      yield* Effect.flatMap(fold(ok(20)), ({ committed }) => committed)
      yield* fold(["failed"])
      yield* folding.lost
      yield* Effect.flatMap(fold(ok(1)), ({ committed }) => committed)
      expect(yield* counted).toEqual([23, 1, 0])
    }).pipe(Effect.provide(database(backend))))

  it.effect("make of a row what they would one by one", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const batches = FastCheck.array(
        FastCheck.record({
          // So that all is in one part of the window.
          after: FastCheck.nat(90),
          kinds: FastCheck.array(
            FastCheck.constantFrom(...ok(5), "failed" as Kind, "not sent" as Kind),
            { minLength: 1, maxLength: 6 }
          )
        }),
        { maxLength: 30 }
      )
      for (const [n, story] of FastCheck.sample(batches, { numRuns: 20, seed: 2 }).entries()) {
        yield* store.transaction(EndpointRows.write(store, [EndpointRows.blank("a", settings.circuit)], 0))
        const from = 1_000_000 * (n + 1)
        yield* TestClock.setTime(from)
        const fold = worker()
        let expected = EndpointRows.blank("a", settings.circuit)
        let now = from
        for (const { after, kinds } of story) {
          now += after
          yield* TestClock.setTime(now)
          yield* fold(...kinds)
          for (const kind of kinds) {
            const { circuitResult, report } = told(kind)
            expected = Health.settle(expected, {
              delivered: report?.outcome === "delivered",
              circuitResult,
              generation: expected.circuit.generation,
              retryAfter: undefined,
              status: undefined,
              disable: undefined,
              now
            }, settings).row
          }
        }
        // One that says nothing, but is written.
        yield* fold("not sent")
        expect(yield* row).toEqual({ ...expected, circuit: (yield* row).circuit })
        expect((yield* row).circuit).toMatchObject(JSON.parse(JSON.stringify(expected.circuit)) as object)
      }
    }).pipe(Effect.provide(database(backend))))
})

it.effect("results of an endpoint without failures don't wait for who holds its row", () =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const fold = worker()
    yield* fold("ok")
    const held = yield* Deferred.make<void>()
    const end = yield* Deferred.make<void>()
    const holding = yield* Effect.forkScoped(sql.withTransaction(Effect.zipRight(
      sql`SELECT 1 FROM webhook_endpoints FOR UPDATE`,
      Effect.zipRight(Deferred.succeed(held, undefined), Deferred.await(end))
    )))
    yield* Deferred.await(held)
    yield* fold(...ok(7))
    yield* Deferred.succeed(end, undefined)
    yield* Fiber.join(holding)
    yield* fold("failed")
    expect(yield* counted).toEqual([9, 1, 1])
  }).pipe(Effect.scoped, Effect.provide(database(postgres))))
