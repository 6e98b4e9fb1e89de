/** Who has a delivery: leases, fences, what a worker that died has left, and how one stops. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Metrics from "../../src/Metrics.js"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import { backends, postgres } from "../support/backends.js"
import { count, enqueue } from "../support/outboxing.js"
import { logs, quiet } from "../support/recording.js"
import {
  type Call,
  calls,
  deliveries,
  eventually,
  fleet,
  leave,
  operatorEvents,
  pass,
  play,
  prepared,
  receiver,
  row,
  start,
  states,
  times,
  wake,
  working
} from "../support/working.js"

const second = 1000
const minute = 60 * second

/** Requests that take longer than any lease here. */
const patient = { attemptTimeout: "1 hour", deadline: "2 hours" } as const

describe("a lease", () => {
  it.effect("that was lost while the attempt was under way: its result changes nothing, and is counted", () => {
    const { layer, lines } = logs()
    return Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const losses = yield* Metric.value(Metrics.leaseLosses)
      yield* enqueue()
      yield* enqueue()
      yield* pass("1 second")
      yield* sql`UPDATE webhook_deliveries SET fence = 'another', due_at = 86400000, lapses = 1 WHERE id = 1`
      const before = yield* row(1)
      yield* pass("10 seconds")
      expect(yield* row(1)).toEqual(before)
      expect(before).toMatchObject({ state: "pending", lane: "leased", fence: "another", attempts: 0, step: 0 })
      expect((yield* Metric.value(Metrics.leaseLosses)).count - losses.count).toBe(1)
      expect(lines.filter(({ message }) => message === "webhook_lease_lost").map(({ annotations }) => annotations))
        .toMatchObject([{ deliveryId: "dlv_1", endpointId: "a" }])
      // Of the two results one is written: the other's.
      expect(yield* sql`SELECT delivery_id FROM webhook_attempts`).toEqual([{ delivery_id: 2 }])
      expect(yield* sql`SELECT consecutive_failures FROM webhook_endpoints`).toEqual([{ consecutive_failures: 1 }])
    }).pipe(Effect.provide(working({ steps: { a: [{ status: 500, delay: "5 seconds" }] } })), Effect.provide(layer))
  })

  it.effect("is renewed at a third of its time for as long as the request takes", () =>
    Effect.gen(function*() {
      yield* enqueue()
      yield* pass(0)
      for (let at = 20; at <= 600; at += 20) {
        yield* pass("20 seconds")
        expect((yield* row(1)).dueAt).toBe(at * second + minute)
      }
      yield* pass("1 minute")
      expect(yield* states).toEqual(["delivered"])
      expect(yield* times("a")).toEqual([0])
    }).pipe(
      Effect.provide(working({ client: patient, steps: { a: [{ status: 200, delay: "620 seconds" }] } })),
      quiet
    ))

  it.effect("so no second worker sends what takes longer than a lease", () =>
    Effect.gen(function*() {
      const [one, two] = yield* fleet(2, yield* postgres.database, {
        endpoints: { a: {}, b: {} },
        client: patient,
        worker: { lease: "6 seconds" }
      })
      yield* Effect.provide(enqueue({ type: "order.slow" }), one!)
      const requests = Effect.map(calls("a"), ({ length }) => length)
      yield* eventually(Effect.map(requests, (n) => n === 1))
      for (let at = 2; at <= 20; at += 2) {
        yield* TestClock.adjust("2 seconds")
        yield* eventually(Effect.map(Effect.provide(row(1), one!), ({ dueAt }) => dueAt >= (at + 6) * second))
        yield* Effect.forEach([one!, two!], (context) => Effect.provide(wake, context))
      }
      yield* TestClock.adjust("2 seconds")
      yield* eventually(
        Effect.map(Effect.provide(states, two!), (states) => states.every((state) => state === "delivered"))
      )
      expect(yield* requests).toBe(1)
    }).pipe(Effect.scoped, Effect.provide(receiver({ a: [{ status: 200, delay: "21 seconds" }] })), quiet))
})

describe("what a dead worker has left", () => {
  it.effect("waits for the end of the lease, and is then attempted alone", () =>
    Effect.gen(function*() {
      yield* leave([
        { lane: "leased", dueAt: 5000, fence: "dead" },
        { lane: "leased", dueAt: 5000, fence: "dead", endpoint: "b" }
      ])
      for (let n = 0; n < 4; n++) yield* enqueue()
      yield* pass("4999 millis")
      expect((yield* calls()).some(({ id }) => id.length < 8)).toBe(false)
      yield* pass("1 millis")
      // Something to be tempted by.
      for (let n = 0; n < 8; n++) {
        yield* enqueue()
        yield* pass("1 second")
      }
      yield* pass("1 minute")
      expect(new Set(yield* states)).toEqual(new Set(["delivered"]))
      const seen = yield* calls()
      const left = seen.filter(({ id }) => id === "msg_0" || id === "msg_1")
      expect(left).toHaveLength(2)
      for (const one of left) {
        expect(seen.filter((other) => other !== one && overlap(one, other))).toEqual([])
      }
      // Its lapse is forgotten when it has been settled.
      expect(yield* row(1)).toMatchObject({ lapses: 0, attempts: 2 })
    }).pipe(
      Effect.provide(
        working({
          endpoints: { a: {}, b: {} },
          steps: { a: [{ status: 200, delay: "400 millis" }], b: [{ status: 200, delay: "400 millis" }] }
        })
      ),
      quiet
    ))

  it.effect("has the worker to itself for half a second, and doesn't stop the others when it hangs", () =>
    Effect.gen(function*() {
      yield* leave([
        ...Array.from({ length: 3 }, () => ({ lane: "leased", fence: "dead" } as const)),
        // Of an endpoint that answers: it doesn't wait for those that hang.
        { lane: "leased", fence: "dead", endpoint: "b" }
      ])
      for (let n = 0; n < 40; n++) {
        yield* enqueue({ type: "order.created" })
        yield* pass("100 millis")
      }
      const seen = yield* calls()
      const left = seen.filter(({ id }) => /^msg_\d$/.test(id))
      // After each the others get as long as they had to wait.
      expect(left.map(({ at, endpoint }) => [endpoint, at])).toEqual([["a", 0], ["b", 1000], ["a", 1025], ["a", 2025]])
      const waits = seen.filter(({ id }) => !/^msg_\d$/.test(id)).map(({ at }, n) => at - n * 100)
      expect(waits).toHaveLength(40)
      expect(Math.max(...waits)).toBe(500)
      expect(waits.filter((wait) => wait > 0)).toHaveLength(15)
    }).pipe(
      Effect.provide(working({
        endpoints: { a: { events: ["none"] }, b: {} },
        client: patient,
        steps: { a: ["timeout"] }
      })),
      quiet
    ))

  it.effect("has longer to itself each time", () =>
    Effect.gen(function*() {
      yield* leave([{ lane: "leased", lapses: 2, fence: "dead" }])
      yield* enqueue({ type: "order.created" })
      yield* pass("10 seconds")
      expect(yield* times("b")).toEqual([2000])
    }).pipe(
      Effect.provide(working({
        endpoints: { a: { events: ["none"] }, b: {} },
        client: patient,
        steps: { a: ["timeout"] }
      })),
      quiet
    ))

  it.effect("has its last try when no other of them is under way, and none begins beside it", () =>
    Effect.gen(function*() {
      yield* leave([
        { lane: "leased", lapses: 3, fence: "dead" },
        { lane: "leased", lapses: 3, fence: "dead" },
        { lane: "leased", fence: "dead", endpoint: "b" }
      ])
      yield* pass("2 minutes")
      const seen = yield* calls()
      expect(seen.map(({ endpoint, id }) => [id, endpoint])).toEqual([["msg_2", "b"], ["msg_0", "a"], ["msg_1", "a"]])
      expect(seen.map(({ beside }) => beside.length)).toEqual([0, 0, 0])
      expect(yield* states).toEqual(["delivered", "delivered", "delivered"])
    }).pipe(
      Effect.provide(working({
        endpoints: { a: {}, b: {} },
        client: patient,
        steps: Object.fromEntries(["a", "b"].map((id) => [id, [{ status: 200, delay: "20 seconds" }]]))
      })),
      quiet
    ))

  it.effect("five times over is exhausted without a sixth attempt, and takes nothing with it", () =>
    Effect.gen(function*() {
      const events = yield* operatorEvents
      yield* leave([{ lane: "leased", lapses: 4, fence: "dead" }, { lane: "leased", lapses: 3, fence: "dead" }])
      yield* enqueue()
      yield* wake
      yield* pass("1 minute")
      expect(yield* states).toEqual(["exhausted:crashed", "delivered", "delivered"])
      expect((yield* calls()).map(({ id }) => id)).not.toContain("msg_0")
      expect(events.seen).toMatchObject([
        { type: "delivery.exhausted", deliveryId: "dlv_1", messageId: "msg_0", reason: "crashed" }
      ])
      // Nobody asked the endpoint anything.
      expect(yield* count("webhook_attempts")).toBe(2)
    }).pipe(Effect.provide(working()), quiet))

  it.effect("counts its lapses one by one", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* leave([{ lane: "leased", fence: "dead" }])
      for (const lapses of [1, 2, 3, 4]) {
        yield* sql`UPDATE webhook_deliveries SET due_at = 0 WHERE id = 1`
        // A worker that takes it and is gone: its scope is never closed.
        const scope = yield* Scope.make()
        yield* Scope.extend(start(), scope)
        yield* pass(0)
        expect(yield* row(1)).toMatchObject({ state: "pending", lane: "leased", lapses })
        yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* pass("1 minute")
        // It was stopped, and hands back as a lapsed one: whoever finds it counts the same lapse again.
        expect(yield* row(1)).toMatchObject({ state: "pending", lane: "leased", fence: null, lapses: lapses - 1 })
        yield* sql`UPDATE webhook_deliveries SET fence = 'dead', lapses = ${lapses} WHERE id = 1`
      }
      yield* sql`UPDATE webhook_deliveries SET due_at = 0 WHERE id = 1`
      yield* Effect.zipRight(start(), pass(0)).pipe(Effect.scoped)
      expect(yield* states).toEqual(["exhausted:crashed"])
    }).pipe(Effect.provide(prepared({ client: patient, steps: { a: ["timeout"] } })), quiet))
})

const overlap = (one: Call, other: Call): boolean =>
  one.at < (other.endedAt ?? Infinity) && other.at < (one.endedAt ?? Infinity)

describe("a worker that stops", () => {
  it.effect("lets attempts under way end within the grace time, and takes nothing new", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.extend(start(), scope)
      yield* enqueue()
      yield* pass("1 second")
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* enqueue()
      yield* wake
      yield* pass("4 seconds")
      expect(yield* Fiber.poll(closing)).toMatchObject({ _tag: "None" })
      yield* pass("1 second")
      expect(yield* Fiber.poll(closing)).toMatchObject({ _tag: "Some" })
      expect(yield* states).toEqual(["delivered", "pending"])
      yield* pass("1 hour")
      expect(yield* times("a")).toEqual([0])
      expect(yield* row(2)).toMatchObject({ lane: "first", fence: null, attempts: 0 })
    }).pipe(Effect.provide(prepared({ steps: { a: [{ status: 200, delay: "6 seconds" }] } })), quiet))

  it.effect("cuts what hangs when the grace time is over, and hands it back: due at once, its place in the schedule kept", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.extend(start({ grace: "3 seconds" }), scope)
      yield* enqueue()
      yield* pass("5 seconds")
      yield* enqueue()
      yield* pass("5 seconds")
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("2999 millis")
      expect(yield* Fiber.poll(closing)).toMatchObject({ _tag: "None" })
      yield* pass("1 millis")
      expect(yield* Fiber.poll(closing)).toMatchObject({ _tag: "Some" })
      expect((yield* calls()).map(({ endedAt }) => endedAt)).toEqual([0, 13_000, 13_000])
      const handedBack = { state: "pending", lane: "retry", fence: null, dueAt: 0, lapses: 0 }
      expect(yield* row(1)).toMatchObject({ ...handedBack, step: 1, attempts: 2 })
      expect(yield* row(2)).toMatchObject({ ...handedBack, step: 0, attempts: 1 })
      const { attempts } = yield* Deliveries.Deliveries
      expect((yield* attempts("dlv_1")).map(({ class: failure, number }) => [number, failure]))
        .toEqual([[1, "http-status"], [2, "interrupted"]])
      // Nobody is to blame.
      const { get } = yield* EndpointHealth.EndpointHealth
      expect((yield* get("a")).consecutiveFailures).toBe(1)
      // The next worker has them at once.
      yield* play({})
      const next = yield* Scope.make()
      yield* Scope.extend(start(), next)
      yield* pass(0)
      expect(yield* states).toEqual(["delivered", "delivered"])
      yield* Scope.close(next, Exit.void)
    }).pipe(Effect.provide(prepared({ client: patient, steps: { a: [500, "timeout"] } })), quiet))

  it.effect("hands back what has not been asked yet as if it had never been claimed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.extend(start({ grace: 0 }), scope)
      yield* Effect.replicateEffect(enqueue(), 3)
      yield* pass("1 second")
      yield* Effect.replicateEffect(enqueue(), 2)
      // Its slot comes at 1100: claimed ahead, and waiting.
      yield* pass("50 millis")
      expect((yield* deliveries).filter(({ leased }) => leased)).toHaveLength(1)
      expect(yield* times("paced")).toEqual([0, 550])
      yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* pass("1 second")
      expect(yield* times("paced")).toEqual([0, 550])
      expect(yield* row(3)).toMatchObject({
        state: "pending",
        lane: "first",
        fence: null,
        dueAt: 0,
        attempts: 0,
        step: 0
      })
      expect(yield* count("webhook_attempts")).toBe(2)
    }).pipe(Effect.provide(prepared({ endpoints: { paced: { rateLimit: 2 } } })), quiet))
})

describe.each(backends)("one delivery on $name", (backend) => {
  it.live("is never attempted twice at a time, whatever is asked meanwhile", () =>
    Effect.gen(function*() {
      const database = yield* backend.database
      const workers = yield* fleet(backend.name === "postgres" ? 2 : 1, database, {
        worker: {
          poll: "20 millis",
          lease: "30 seconds",
          schedule: Array.from({ length: 4 }, () => "5 millis"),
          breaker: { consecutiveFailures: Infinity, minimumThroughput: Infinity }
        }
      })
      const one = workers[0]!
      yield* Effect.provide(Effect.replicateEffect(enqueue(), 10), one)
      const { cancel, list, recover, replay } = yield* Effect.provide(Deliveries.Deliveries, one)
      for (let round = 0; round < 6; round++) {
        yield* Effect.forEach(Array.from({ length: 10 }, (_, n) => n), (n) => {
          const id = `dlv_${n + 1}`
          return n % 5 === round % 5 ? Effect.ignore(cancel(id)) : Effect.ignore(replay(id))
        }, { concurrency: 4 })
        yield* Effect.ignore(recover({ endpointId: "a", since: 0 }))
        yield* Effect.sleep(10)
      }
      yield* play({})
      yield* recover({ endpointId: "a", since: 0 })
      yield* eventually(Effect.map(list({ state: "pending" }), ({ items }) => items.length === 0))
      const seen = yield* calls()
      expect(seen.length).toBeGreaterThan(20)
      expect(seen.filter(({ beside, id }) => beside.some((other) => other.id === id))).toEqual([])
      // Each request has its row, and its number.
      const attempts = yield* Effect.provide(count("webhook_attempts"), one)
      expect(attempts).toBe(seen.length)
      expect(new Set(seen.map(({ attempt, id }) => `${id} ${attempt}`)).size).toBe(seen.length)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        receiver({ a: [{ status: 500, delay: 8 }, { status: 200, delay: 8 }, { status: 400, delay: 3 }] })
      ),
      quiet
    ))
})

it.effect("a replay of what is being attempted leaves it alone; a cancellation is refused", () =>
  Effect.gen(function*() {
    const { cancel, replay } = yield* Deliveries.Deliveries
    yield* enqueue()
    yield* pass("1 second")
    const before = yield* row(1)
    expect(yield* replay("dlv_1")).toMatchObject({ leased: true })
    expect(yield* Effect.flip(cancel("dlv_1"))).toMatchObject({ _tag: "DeliveryLeased" })
    expect(yield* row(1)).toEqual(before)
    yield* pass("1 minute")
    expect(yield* times("a")).toEqual([0])
    // Once delivered, one attempt more and no schedule behind it: it stays delivered.
    yield* play({ a: [500] })
    yield* replay("dlv_1")
    yield* pass("1 day")
    expect(yield* calls("a")).toHaveLength(2)
    expect(yield* states).toEqual(["delivered"])
  }).pipe(Effect.provide(working({ steps: { a: [{ status: 200, delay: "5 seconds" }] } })), quiet))
