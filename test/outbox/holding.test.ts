import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Circuit from "../../src/http/Circuit.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Claiming from "../../src/outbox/internal/claiming.js"
import * as Holding from "../../src/outbox/internal/holding.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { quiet } from "../support/recording.js"
import { eventually, leave, prepared, row } from "../support/working.js"

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
