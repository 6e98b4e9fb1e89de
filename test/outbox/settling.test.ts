import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { defaults } from "../../src/Defaults.js"
import * as Circuit from "../../src/http/Circuit.js"
import { EgressBlocked, requestError } from "../../src/http/ResilientHttpClientError.js"
import type { Claimed } from "../../src/outbox/internal/claiming.js"
import * as Folding from "../../src/outbox/internal/folding.js"
import * as Settling from "../../src/outbox/internal/settling.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import type { DeliveryReport } from "../../src/webhooks/WebhookSender.js"
import { backends } from "../support/backends.js"
import { count } from "../support/outboxing.js"
import { leave, row } from "../support/working.js"

const endpoint = new Endpoint.Endpoint({
  id: "a",
  url: "https://hooks.example.com/a",
  events: ["*"],
  enabled: true,
  secrets: [],
  headers: {},
  timeout: undefined,
  maxConcurrency: undefined,
  rateLimit: undefined,
  ordered: false,
  format: "event",
  tenant: undefined,
  description: undefined
})

const claimed = (fields: Partial<Claimed> = {}): Claimed => ({
  id: 1,
  messageId: "msg_0",
  endpoint,
  eventType: "t",
  format: "event",
  orderKey: undefined,
  step: 0,
  attempts: 0,
  lapses: 0,
  once: false,
  fence: "mine",
  generation: 0,
  notBefore: 0,
  retry: false,
  tenant: undefined,
  aggregateId: null,
  occurredAt: "2026-01-01T00:00:00Z",
  correlationId: "c",
  traceParent: undefined,
  body: undefined,
  ...fields
})

const blockedBy = (by: "name" | "url"): Partial<DeliveryReport> => ({
  outcome: "rejected",
  class: "blocked",
  status: undefined,
  attempts: 0,
  error: new EgressBlocked({ host: "hooks.example.com", rule: "private", by })
})

const stale: Partial<DeliveryReport> = {
  class: "connection",
  status: undefined,
  error: requestError(
    HttpClientRequest.post("https://hooks.example.com/"),
    "Transport",
    { kind: "connection", code: undefined, neverLeft: false, stale: true },
    1
  )
}

const report = (fields: Partial<DeliveryReport> = {}): DeliveryReport => ({
  messageId: "msg_0",
  eventType: "t",
  endpointId: "a",
  url: endpoint.url,
  outcome: "failed",
  class: "http-status",
  status: 500,
  attempts: 1,
  duration: 12.6,
  correlationId: "c",
  error: undefined,
  retryAfter: undefined,
  directive: undefined,
  excerpt: undefined,
  ...fields
})

const ended = (fields: Partial<Settling.Ended> = {}): Settling.Ended => ({
  claimed: claimed(),
  report: report(),
  crashed: false,
  startedAt: 100,
  chance: 0,
  ...fields
})

const schedule = [0, 5000, 300_000]
const delivered = { outcome: "delivered", class: undefined, status: 204 } as const
const decide = (given: Partial<Settling.Ended>) => Settling.decide(ended(given), schedule, 1_000_000)

describe("what an attempt makes of its delivery", () => {
  it.each<[string, Partial<Settling.Ended>, Partial<Settling.Settlement>]>([
    ["a success", { report: report(delivered) }, { state: "delivered", reason: undefined }],
    ["a failure", {}, { state: "pending", step: 1, dueAt: 1_005_000 }],
    ["the failure after it", { claimed: claimed({ step: 1 }) }, { state: "pending", step: 2, dueAt: 1_300_000 }],
    ["the last failure", { claimed: claimed({ step: 2 }) }, { state: "exhausted", reason: "attempts" }],
    ["a failure of a schedule that was longer", { claimed: claimed({ step: 9 }) }, {
      state: "exhausted",
      reason: "attempts"
    }],
    ["a redirect", { report: report({ class: "redirect", status: 302 }) }, { state: "pending", step: 1 }],
    ["a 404", { report: report({ status: 404 }) }, { state: "pending", step: 1 }],
    ["a timeout", { report: report({ class: "timeout", status: undefined }) }, { state: "pending", step: 1 }],
    ["a longer Retry-After", { report: report({ retryAfter: 7000 }) }, { dueAt: 1_007_000 }],
    ["a shorter Retry-After", { report: report({ retryAfter: 3000 }) }, { dueAt: 1_005_000 }],
    ["a Retry-After, and chance", { report: report({ retryAfter: 5400 }), chance: 1 }, { dueAt: 1_005_500 }],
    ["a 410", { report: report({ class: "gone", status: 410 }) }, {
      state: "discarded",
      reason: "gone",
      disable: "gone"
    }],
    ["`disable`", { report: report({ directive: "disable" }) }, {
      state: "discarded",
      reason: "disabled",
      disable: "receiver"
    }],
    ["`abort-message`", { report: report({ directive: "abort-message" }) }, {
      state: "discarded",
      reason: "aborted",
      disable: undefined
    }],
    ["a blocked URL", { report: report({ outcome: "rejected", class: "blocked", status: undefined }) }, {
      state: "exhausted",
      reason: "rejected"
    }],
    ["a name that is blocked today", { report: report(blockedBy("name")) }, { state: "pending", step: 1 }],
    ["a kept connection that had been closed", { report: report(stale) }, {
      state: "pending",
      step: 1,
      dueAt: 1_000_000
    }],
    ["an address that is blocked", { report: report(blockedBy("url")) }, { state: "exhausted", reason: "rejected" }],
    ["a stop in mid attempt", {
      claimed: claimed({ step: 2 }),
      report: report({ class: "interrupted", status: undefined })
    }, { state: "pending", step: 2, dueAt: 0 }],
    ["a stop before the attempt", { claimed: claimed({ step: 2 }), report: undefined }, {
      state: "pending",
      step: 2,
      dueAt: 0
    }],
    ["too many lapses", { report: undefined, crashed: true }, { state: "exhausted", reason: "crashed" }],
    ["a failed replay of a delivered one", { claimed: claimed({ once: true }) }, {
      state: "delivered",
      reason: undefined
    }],
    ["one that was stopped", { claimed: claimed({ once: true }), report: undefined }, { state: "pending", dueAt: 0 }],
    ["one that found the endpoint gone", {
      claimed: claimed({ once: true }),
      report: report({ class: "gone", status: 410 })
    }, { state: "delivered", disable: "gone" }]
  ])("%s", (_, given, expected) => {
    expect(decide(given)).toMatchObject(expected)
  })

  it("the next attempt is never early, and at most a tenth late", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.double({ min: 0, max: 1, noNaN: true }),
      FastCheck.nat(1),
      FastCheck.option(FastCheck.nat(400_000), { nil: undefined }),
      FastCheck.nat(2 ** 41),
      (chance, step, retryAfter, now) => {
        const { dueAt } = Settling.decide(
          ended({ chance, claimed: claimed({ step }), report: report({ retryAfter }) }),
          schedule,
          now
        )
        const own = schedule[step + 1]!
        expect(dueAt - now).toBeGreaterThanOrEqual(Math.max(own, retryAfter ?? 0))
        expect(dueAt - now).toBeLessThanOrEqual(Math.max(own * 1.1 + 1, retryAfter ?? 0))
        expect(Number.isInteger(dueAt)).toBe(true)
      }
    ))
    expect(defaults.durableJitter).toBe(0.1)
  })
})

describe.each(backends)("settling on $name", (backend) => {
  const health = { circuit: Circuit.settings(), ...Settling.disabling }
  const folding = () => Folding.make(health)
  const settle = (batch: ReadonlyArray<Settling.Ended>) =>
    Effect.flatMap(OutboxSchema.OutboxSchema, (store) => Settling.settle(store, batch, schedule, folding()))
  const layer = Layer.orDie(Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), backend.layer))
  const leased = (
    fence: string,
    fields: object = {}
  ) => ({ lane: "leased", dueAt: 60_000, attempts: 0, step: 0, fence, ...fields } as const)

  it.effect("writes a batch at once; what has another fence by now stays as it is, and has no attempt", () =>
    Effect.gen(function*() {
      yield* leave([leased("mine"), leased("another"), leased("mine"), leased("mine", { lapses: 2 })])
      yield* TestClock.setTime(1000)
      const stolen = yield* row(2)
      const { events, lost, settled } = yield* settle([
        ended({ claimed: claimed({ id: 1 }), report: report(delivered) }),
        ended({ claimed: claimed({ id: 2 }), report: report({ class: "gone", status: 410 }) }),
        ended({ claimed: claimed({ id: 3 }) }),
        ended({ claimed: claimed({ id: 4, lapses: 2 }), report: undefined })
      ])
      expect(settled.map(({ ended }) => ended.claimed.id)).toEqual([1, 3, 4])
      expect(lost.map(({ claimed }) => claimed.id)).toEqual([2])
      // Not even the 410 counts: the attempt of who has the lease will say so.
      expect(events).toEqual([])
      expect(yield* row(1)).toMatchObject({ state: "delivered", fence: null, attempts: 1 })
      expect(yield* row(2)).toEqual(stolen)
      expect(yield* row(3)).toMatchObject({
        state: "pending",
        lane: "retry",
        fence: null,
        dueAt: 6000,
        step: 1,
        attempts: 1
      })
      expect(yield* row(4)).toMatchObject({
        state: "pending",
        lane: "leased",
        dueAt: 0,
        step: 0,
        attempts: 0,
        lapses: 1
      })
      expect(yield* count("webhook_attempts")).toBe(2)
    }).pipe(Effect.provide(layer)))

  it.effect("a blocked name takes a step of the schedule and no attempt; operators are told once", () =>
    Effect.gen(function*() {
      yield* leave([leased("mine"), leased("mine")])
      yield* TestClock.setTime(1000)
      const { events } = yield* settle(
        [1, 2].map((id) => ended({ claimed: claimed({ id }), report: report(blockedBy("name")) }))
      )
      expect(events).toEqual([{
        endpointId: "a",
        type: "endpoint.blocked",
        reason: expect.stringContaining("hooks.example.com") as string
      }])
      expect(yield* row(1)).toMatchObject({
        state: "pending",
        lane: "retry",
        step: 1,
        attempts: 0
      })
      expect(yield* count("webhook_attempts")).toBe(0)
    }).pipe(Effect.provide(layer)))

  it.effect("the same once more changes nothing: an answer to COMMIT may get lost", () =>
    Effect.gen(function*() {
      yield* leave([leased("mine")])
      const once = [ended()]
      yield* settle(once)
      const after = yield* row(1)
      expect((yield* settle(once)).lost).toHaveLength(1)
      expect(yield* row(1)).toEqual(after)
      expect(yield* count("webhook_attempts")).toBe(1)
    }).pipe(Effect.provide(layer)))

  it.effect("leaves the row of an endpoint without failures as it is, if it was written lately", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      const { sql, tables } = store
      const shared = folding()
      const successes = Effect.map(
        sql`SELECT last_success_at FROM ${tables.endpoints}`,
        ([row]) => Number(row?.["last_success_at"])
      )
      yield* leave([leased("mine"), leased("mine"), leased("mine")])
      const times = yield* Effect.forEach([10_000, 10_999, 11_000], (time, n) =>
        Effect.gen(function*() {
          yield* TestClock.setTime(time)
          const one = ended({ claimed: claimed({ id: n + 1 }), report: report(delivered) })
          yield* Settling.settle(store, [one], schedule, shared)
          return yield* successes
        }))
      expect(times).toEqual([10_000, 10_000, 11_000])
    }).pipe(Effect.provide(layer)))

  it.effect("renews only what is still its own", () =>
    Effect.gen(function*() {
      const store = yield* OutboxSchema.OutboxSchema
      yield* leave([leased("mine"), leased("another"), { lane: "retry", dueAt: 5, fence: "mine" }])
      yield* TestClock.setTime(30_000)
      yield* Settling.renew(store, [1, 2, 3].map((id) => claimed({ id })), 60_000)
      expect([(yield* row(1)).dueAt, (yield* row(2)).dueAt, (yield* row(3)).dueAt]).toEqual([90_000, 60_000, 5])
    }).pipe(Effect.provide(layer)))
})
