import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Circuit from "../../src/http/Circuit.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Claiming from "../../src/outbox/internal/claiming.js"
import * as Holding from "../../src/outbox/internal/holding.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { postgres } from "../support/backends.js"
import { quiet } from "../support/recording.js"
import { calls, eventually, leave, prepared, rest, row } from "../support/working.js"

const circuit = Circuit.settings()

const settings = {
  concurrency: 64,
  endpointConcurrency: 10,
  claim: 200,
  kept: 16,
  poll: 1000,
  lease: 60_000,
  grace: Duration.seconds(10),
  schedule: [0, 0],
  retention: undefined,
  health: { circuit, disableAfter: 1e9, disableSpread: 1e9 }
}

it.effect("what is claimed again before all has been told of its last attempt is held, and counted, once", () =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    const sender = yield* WebhookSender.WebhookSender
    const health = yield* EndpointHealth.EndpointHealth
    // Somebody is told that the second is exhausted, and takes his time.
    const telling = yield* Deferred.make<void>()
    const told = yield* Deferred.make<void>()
    const publish = () => Effect.zipRight(Deferred.succeed(telling, undefined), Deferred.await(told))
    const holding = yield* Holding.make({ store, sender, health: { ...health, publish } }, settings)
    const endpoint = yield* Endpoint.make({ id: "a", url: "https://hooks.example.com/a", events: ["*"] })
    yield* leave([{ lane: "retry", step: 0 }, { lane: "retry", step: 1 }])
    const claim = (count: number) =>
      Claiming.claim(store, [{ endpoint, first: 0, retry: count, turn: "retry", guarded: false }], {
        length: 60_000,
        fence: `fence_${count}`,
        circuit,
        firstDelay: 0
      })
    yield* Effect.flatMap(claim(2), holding.begin)
    yield* Deferred.await(telling)
    // The first has failed, and is due again.
    expect(yield* row(1)).toMatchObject({ lane: "retry", state: "pending", step: 1 })
    yield* Effect.flatMap(claim(1), holding.begin)
    yield* Deferred.succeed(told, undefined)
    yield* eventually(Effect.map(row(1), ({ state }) => state === "exhausted"))
    yield* eventually(Effect.sync(() => holding.count() === 0))
    expect([holding.countOf("a", 10), holding.retries(), holding.ids()]).toEqual([0, 0, []])
    yield* holding.stop
  }).pipe(Effect.provide(prepared({ steps: { a: [404] } })), quiet))

it.effect("nothing follows what has ended once that is called off", () =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    const sender = yield* WebhookSender.WebhookSender
    const health = yield* EndpointHealth.EndpointHealth
    const holding = yield* Holding.make({ store, sender, health }, settings)
    const endpoint = yield* Endpoint.make({ id: "a", url: "https://hooks.example.com/a", events: ["*"] })
    const lease = { length: 60_000, fence: "f", circuit, firstDelay: 0 }
    const wants = [{ endpoint, first: 1, retry: 0, turn: "first" as const, guarded: false }]
    const claim = holding.claim(wants, Claiming.claim(store, wants, lease))
    yield* leave([{ lane: "first" }, { lane: "first" }, { lane: "first" }])
    yield* claim
    yield* eventually(Effect.map(row(1), ({ state }) => state === "delivered"))
    const asked = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    // As the worker's own, while it renews the lock of an SQLite.
    holding.relay(() =>
      Effect.as(Effect.zipRight(Deferred.succeed(asked, undefined), Deferred.await(go)), { wants, lease })
    )
    yield* claim
    yield* Deferred.await(asked)
    holding.relay(undefined)
    yield* holding.relayed
    // Here a suspect would begin, alone.
    yield* Deferred.succeed(go, undefined)
    yield* eventually(Effect.map(row(2), ({ state }) => state === "delivered"))
    yield* rest
    expect([(yield* calls()).length, (yield* row(3)).lane]).toEqual([2, "first"])
    expect([holding.count(), holding.countOf("a", 10), holding.retries()]).toEqual([0, 0, 0])
    yield* holding.stop
  }).pipe(Effect.provide(prepared({})), quiet))

it.effect("what somebody has locked keeps its slot, and what was claimed for that is handed back", () =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema.OutboxSchema
    const sender = yield* WebhookSender.WebhookSender
    const health = yield* EndpointHealth.EndpointHealth
    const holding = yield* Holding.make({ store, sender, health }, { ...settings, concurrency: 4 })
    const endpoint = yield* Endpoint.make({ id: "a", url: "https://hooks.example.com/a", events: ["*"] })
    const lease = { length: 60_000, fence: "f", circuit, firstDelay: 0 }
    const wants = (first: number) => [{ endpoint, first, retry: 0, turn: "first" as const, guarded: false }]
    const claim = (first: number) => holding.claim(wants(first), Claiming.claim(store, wants(first), lease))
    const delivered = (id: number) => eventually(Effect.map(row(id), ({ state }) => state === "delivered"))
    yield* leave(Array.from({ length: 5 }, () => ({ lane: "first", step: 0 }) as const))
    yield* Effect.zipRight(claim(1), delivered(1))
    const [claimed, begun, end] = yield* Effect.all([
      Deferred.make<void>(),
      Deferred.make<void>(),
      Deferred.make<void>()
    ])
    const locking = yield* Effect.fork(Effect.zipRight(
      Deferred.await(claimed),
      store.sql.withTransaction(Effect.zipRight(
        store.sql`SELECT 1 FROM webhook_deliveries WHERE id = 2 FOR UPDATE`,
        Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(end))
      ))
    ))
    let asked = 0
    holding.relay(({ slots }) =>
      Effect.suspend(() => {
        const next = asked++ === 0 ? { wants: wants(slots), lease: { ...lease, fence: "g" } } : undefined
        return Effect.as(Effect.zipRight(Deferred.succeed(claimed, undefined), Deferred.await(begun)), next)
      })
    )
    yield* claim(2)
    yield* delivered(3)
    yield* eventually(Effect.map(calls(), ({ length }) => length === 4))
    const most = holding.count()
    yield* Deferred.succeed(end, undefined)
    yield* Fiber.join(locking)
    yield* Effect.zipRight(delivered(2), delivered(4))
    yield* eventually(Effect.map(row(5), ({ fence }) => fence === null))
    expect([most, yield* row(5), (yield* calls()).length]).toMatchObject([2, { lane: "first", attempts: 0 }, 4])
    yield* eventually(Effect.sync(() => holding.count() === 0))
    yield* holding.stop
  }).pipe(
    Effect.provide(prepared({
      database: Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), postgres.layer))
    })),
    quiet
  ))
