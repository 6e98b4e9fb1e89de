import type { Statement } from "@effect/sql/Statement"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Deliveries } from "../../src/outbox/Deliveries.js"
import { OutboxUnavailable } from "../../src/outbox/OutboxError.js"
import { OutboxSchema } from "../../src/outbox/Schema.js"
import { expectError, secret, serve, type Serving } from "./serving.js"

const event = { type: "order.paid", data: { total: 42 } }
const instant = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** Ends a delivery as the worker would. */
const end = (api: Serving, id: string, state: "delivered" | "exhausted") =>
  Effect.gen(function*() {
    const { sql, tables } = yield* OutboxSchema
    const key = Number(id.slice(4))
    yield* sql`UPDATE ${tables.deliveries} SET state = ${state}, lane = 'retry', attempts = 1, last_status = 500, last_class = 'http-status',
      ended_at = 1769515200000 WHERE id = ${key}`
    yield* sql`INSERT INTO ${tables.attempts} (delivery_id, number, started_at, duration, outcome, class, status, excerpt)
      VALUES (${key}, 1, 1769515199000, 120, 'failed', 'http-status', 500, 'sorry')`
  }).pipe(Effect.provide(api.services), Effect.orDie)

describe("POST /v1/events", () => {
  it.scopedLive("stores one event and answers when it is stored", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const answer = yield* api.post("/v1/events", { ...event, id: "m1" })
      expect(answer.status).toBe(202)
      expect(answer.json).toEqual({ messages: [{ messageId: "m1", duplicate: false, deliveries: 2 }] })
      const again = yield* api.post("/v1/events", { ...event, id: "m1" })
      expect(again.json).toEqual({ messages: [{ messageId: "m1", duplicate: true, deliveries: 2 }] })
    }))

  it.scopedLive("compares each element of an array that comes again with the one at its place", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const elements = [1, 2, 3, 4].map((total) => ({ ...event, data: { total } }))
      const send = (some: ReadonlyArray<object>) => api.post("/v1/events", some, { "idempotency-key": "batch" })
      const duplicates = (
        { json }: { readonly json: { readonly messages: ReadonlyArray<{ readonly duplicate: boolean }> } }
      ) => json.messages.map(({ duplicate }) => duplicate)
      expect(duplicates(yield* send(elements.slice(0, 3)))).toEqual([false, false, false])
      expect(duplicates(yield* send(elements.slice(0, 2)))).toEqual([true, true])
      expect(duplicates(yield* send(elements))).toEqual([true, true, true, false])
      expectError(yield* send([...elements.slice(1), ...elements]), 409, "idempotency_conflict", "[0]")
      expect(duplicates(yield* send([...elements, ...elements.slice(0, 1)]))).toEqual([true, true, true, true, false])
    }))

  it.scopedLive("answers only after the commit", () =>
    Effect.gen(function*() {
      const reached = yield* Deferred.make<void>()
      const committed = yield* Deferred.make<void>()
      const api = yield* serve({}, {
        outbox: {
          enqueue: () =>
            Deferred.succeed(reached, undefined).pipe(
              Effect.zipRight(Deferred.await(committed)),
              Effect.as({ messageId: "m1", duplicate: false, deliveries: 0 })
            )
        }
      })
      const answer = yield* Effect.fork(api.post("/v1/events", event))
      yield* Deferred.await(reached)
      yield* Effect.sleep("50 millis")
      expect((yield* Fiber.poll(answer))._tag).toBe("None")
      yield* Deferred.succeed(committed, undefined)
      expect((yield* Fiber.join(answer)).status).toBe(202)
    }))

  it.scopedLive("stores many in their order, or none", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const answer = yield* api.post("/v1/events", [
        { ...event, id: "m1" },
        { type: "other", data: null, id: "m2" },
        { ...event, id: "m1" }
      ])
      expect(answer.status).toBe(202)
      expect(answer.json.messages).toEqual([
        { messageId: "m1", duplicate: false, deliveries: 2 },
        { messageId: "m2", duplicate: false, deliveries: 1 },
        { messageId: "m1", duplicate: true, deliveries: 2 }
      ])
      const conflict = yield* api.post("/v1/events", [{ ...event, id: "m3" }, { ...event, id: "m1", data: 2 }])
      expectError(conflict, 409, "idempotency_conflict", "[1].id")
      expectError(yield* api.ask("GET", "/v1/messages/m3"), 404, "message_not_found")
    }))

  it.scopedLive("names the element that is in conflict", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const one = { ...event, id: "m1" }
      const other = { ...event, id: "m1", data: 2 }
      // Of elements that share an id, the first may be the one that is stored …
      expectError(yield* api.post("/v1/events", [event, one, one, other]), 409, "idempotency_conflict", "[3].id")
      expect((yield* api.post("/v1/events", other)).status).toBe(202)
      // … and also the one that is not.
      expectError(yield* api.post("/v1/events", [event, other, one]), 409, "idempotency_conflict", "[2].id")
      expectError(yield* api.post("/v1/events", [event, one, other]), 409, "idempotency_conflict", "[1].id")
      const keyed = (body: unknown) => api.post("/v1/events", body, { "idempotency-key": "k1" })
      expect((yield* keyed([event, event, event])).status).toBe(202)
      const again = yield* keyed([event, event, { ...event, data: 2 }])
      expectError(again, 409, "idempotency_conflict", "[2]")
      expect(again.json.error.message).toContain("idempotency key")
    }))

  it.scopedLive("takes a thousand at once", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const answer = yield* api.post("/v1/events", Array.from({ length: 1000 }, () => event))
      expect([answer.status, answer.json.messages.length]).toEqual([202, 1000])
    }))

  it.scopedLive("knows an Idempotency-Key again: of an event, and of each element of an array", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const keyed = (key: string, body: unknown) =>
        Effect.map(
          api.post("/v1/events", body, { "idempotency-key": key }),
          ({ json }) => json.messages as Array<{ readonly messageId: string; readonly duplicate: boolean }>
        )
      const [one] = yield* keyed("k1", event)
      expect(yield* keyed("k1", event)).toEqual([{ ...one, duplicate: true }])
      const many = yield* keyed("k2", [event, event])
      expect(new Set([one, ...many].map((message) => message?.messageId)).size).toBe(3)
      expect(yield* keyed("k2", [event, event, event])).toMatchObject([
        { ...many[0], duplicate: true },
        { ...many[1], duplicate: true },
        { duplicate: false }
      ])
      expect(yield* keyed("k2#1", event)).toEqual([{ ...many[1], duplicate: true }])
    }))

  it.scopedLive("gives the message the event's correlation id before the request's, and that before a fresh one", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const stored = (id: string) =>
        Effect.map(api.ask("GET", `/v1/messages/${id}`), ({ json }) => json.correlationId as string)
      yield* api.post("/v1/events", { ...event, id: "m1", correlation_id: "of-the-event" }, {
        "x-correlation-id": "c1"
      })
      yield* api.post("/v1/events", { ...event, id: "m2" }, { "x-correlation-id": "of-the-request" })
      const { headers } = yield* api.post("/v1/events", { ...event, id: "m3" })
      expect(yield* stored("m1")).toBe("of-the-event")
      expect(yield* stored("m2")).toBe("of-the-request")
      expect(yield* stored("m3")).toBe(headers.get("x-correlation-id"))
    }))
})

describe("messages and deliveries", () => {
  it.scopedLive("are shown", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      yield* api.post("/v1/events", {
        ...event,
        id: "m1",
        tenant: "acme",
        aggregate_id: "o-1",
        occurred_at: "2026-01-27T12:00:00+01:00"
      }, { "idempotency-key": "k1", "x-correlation-id": "c1" })
      const { json, status } = yield* api.ask("GET", "/v1/messages/m1")
      const delivery = {
        messageId: "m1",
        eventType: "order.paid",
        state: "pending",
        attempts: 0,
        dueAt: expect.stringMatching(instant),
        leased: false,
        held: false,
        createdAt: expect.stringMatching(instant)
      }
      expect(status).toBe(200)
      expect(json).toEqual({
        id: "m1",
        eventType: "order.paid",
        tenant: "acme",
        aggregateId: "o-1",
        occurredAt: "2026-01-27T12:00:00+01:00",
        correlationId: "c1",
        idempotencyKey: "k1",
        createdAt: expect.stringMatching(instant),
        deliveries: [
          { ...delivery, id: "dlv_1", endpointId: "orders" },
          { ...delivery, id: "dlv_2", endpointId: "everything" }
        ],
        bodies: {
          event: "{\"aggregate_id\": \"o-1\", \"data\": {\"total\": 42}, \"event_type\": \"order.paid\", " +
            "\"occurred_at\": \"2026-01-27T12:00:00+01:00\"}"
        }
      })
      expect((yield* api.ask("GET", "/v1/deliveries/dlv_2")).json).toEqual({ ...json.deliveries[1], history: [] })
    }))

  it.scopedLive("are listed page by page, newest first, and filtered", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      yield* api.post("/v1/events", [event, event, { type: "other", data: 1 }])
      const ids = (query: string) =>
        Effect.map(api.ask("GET", `/v1/deliveries?${query}`), ({ json }) => ({
          ids: (json.deliveries as Array<{ readonly id: string }>).map(({ id }) => id),
          next: json.next as string | undefined
        }))
      const first = yield* ids("limit=3")
      expect(first.ids).toEqual(["dlv_5", "dlv_4", "dlv_3"])
      const second = yield* ids(`limit=3&cursor=${encodeURIComponent(first.next!)}`)
      expect(second).toEqual({ ids: ["dlv_2", "dlv_1"], next: undefined })
      expect((yield* ids("endpoint=orders")).ids).toEqual(["dlv_3", "dlv_1"])
      expect((yield* ids("type=other")).ids).toEqual(["dlv_5"])
      expect((yield* ids("state=delivered")).ids).toEqual([])
    }))

  it.scopedLive("are replayed, cancelled and recovered", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      yield* api.post("/v1/events", event)
      yield* end(api, "dlv_1", "exhausted")
      const shown = yield* api.ask("GET", "/v1/deliveries/dlv_1")
      expect(shown.json).toMatchObject({ state: "exhausted", lastStatus: 500, endedAt: "2026-01-27T12:00:00.000Z" })
      expect(shown.json.history).toEqual([{
        id: "att_1_1",
        deliveryId: "dlv_1",
        number: 1,
        startedAt: "2026-01-27T11:59:59.000Z",
        durationMs: 120,
        outcome: "failed",
        class: "http-status",
        status: 500,
        excerpt: "sorry"
      }])
      expect((yield* api.ask("POST", "/v1/deliveries/dlv_1/replay")).json).toMatchObject({
        id: "dlv_1",
        state: "pending"
      })

      const cancelled = yield* api.ask("POST", "/v1/deliveries/dlv_2/cancel")
      expect(cancelled.json).toMatchObject({ id: "dlv_2", state: "discarded", reason: "cancelled" })
      expectError(yield* api.ask("POST", "/v1/deliveries/dlv_2/cancel"), 409, "delivery_ended")

      const recovered = yield* api.post("/v1/endpoints/everything/recover", { since: "2026-01-27T12:00:00+01:00" })
      expect([recovered.status, recovered.json]).toEqual([202, { id: "everything", done: true, recovered: 0 }])
      // What was called off did not fail.
      expect((yield* api.ask("GET", "/v1/deliveries/dlv_2")).json).toMatchObject({ state: "discarded" })

      const stats = yield* api.ask("GET", "/v1/stats")
      expect(stats.json).toMatchObject({
        states: { pending: 1, delivered: 0, exhausted: 0, discarded: 1 },
        orphaned: 0,
        endpoints: [{ id: "orders", pending: 1, leased: 0 }]
      })
      expect(stats.json.oldestDueAt).toMatch(instant)
    }))

  it.scopedLive("are recovered in whole milliseconds, whatever the offset", () =>
    Effect.gen(function*() {
      const asked: Array<unknown> = []
      const api = yield* serve({}, {
        deliveries: {
          recover: (options) =>
            Effect.sync(() => {
              asked.push(options)
              return { recovered: 0 }
            })
        }
      })
      yield* api.post("/v1/endpoints/orders/recover", {
        since: "2026-01-27t12:00:00.5+01:00",
        until: "2026-12-31T23:59:60z"
      })
      expect(asked).toEqual([{ endpointId: "orders", since: 1769511600500, until: 1798761599000 }])
    }))
})

describe("endpoints", () => {
  it.scopedLive("are listed, without secrets, and enabled and disabled", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const list = yield* api.ask("GET", "/v1/endpoints")
      expect(list.json.endpoints.map(({ id }: { readonly id: string }) => id).sort()).toEqual(["everything", "orders"])
      expect(list.json.endpoints).toContainEqual({
        id: "orders",
        url: "https://hooks.example.com/orders",
        configured: true,
        enabled: true,
        circuit: "Closed",
        consecutiveFailures: 0
      })
      expect(list.text).not.toContain(secret)
      expect(list.text).not.toContain("password")

      const disabled = yield* api.post("/v1/endpoints/orders/disable", { reason: " being moved " })
      expect(disabled.status).toBe(200)
      expect(disabled.json).toMatchObject({
        id: "orders",
        enabled: false,
        disabled: { at: expect.stringMatching(instant), by: "operator", reason: "being moved" }
      })
      yield* api.post("/v1/events", event)
      yield* end(api, "dlv_1", "exhausted")
      expectError(yield* api.ask("POST", "/v1/deliveries/dlv_1/replay"), 409, "endpoint_disabled")
      const recover = yield* api.post("/v1/endpoints/orders/recover", { since: "2026-01-01T00:00:00Z" })
      expectError(recover, 409, "endpoint_disabled")

      const enabled = yield* api.ask("POST", "/v1/endpoints/orders/enable")
      expect([enabled.status, enabled.json.enabled, enabled.json.disabled]).toEqual([200, true, undefined])
    }))

  it.scopedLive("are tested", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const { json, status } = yield* api.ask("POST", "/v1/endpoints/orders/test", {
        headers: { "x-correlation-id": "c1" }
      })
      expect(status).toBe(200)
      expect(json).toEqual({
        id: json.messageId,
        messageId: expect.stringMatching(/^[A-Za-z0-9_-]{1,64}$/),
        eventType: "webhook.test",
        endpointId: "orders",
        url: "https://hooks.example.com/",
        outcome: "delivered",
        status: 204,
        attempts: 1,
        durationMs: 3,
        correlationId: "c1"
      })
    }))

  it.scopedLive("are recovered in the background where that takes long", () =>
    Effect.gen(function*() {
      const go = yield* Deferred.make<void>()
      const done = yield* Deferred.make<void>()
      const api = yield* serve({}, {
        deliveries: {
          recover: () =>
            Deferred.await(go).pipe(Effect.zipRight(Deferred.succeed(done, undefined)), Effect.as({ recovered: 1 }))
        }
      })
      const answer = yield* api.post("/v1/endpoints/orders/recover", { since: "2026-01-01T00:00:00Z" })
      expect([answer.status, answer.json]).toEqual([202, { id: "orders", done: false }])
      yield* Deferred.succeed(go, undefined)
      yield* Deferred.await(done)
    }))
})

describe("health", () => {
  it.scopedLive("asks the database, and says nothing else", () =>
    Effect.gen(function*() {
      let up = true
      const api = yield* serve({}, {
        schema: {
          transaction: (effect) =>
            Effect.suspend(() =>
              up
                ? Effect.orDie(effect as Effect.Effect<never>)
                : Effect.fail(new OutboxUnavailable({ reason: "unreachable", code: secret }))
            )
        }
      })
      const ready = api.ask("GET", "/health/ready")
      expect([(yield* ready).status, (yield* ready).json]).toEqual([200, { status: "ok" }])
      up = false
      yield* Effect.sleep("600 millis")
      const red = yield* ready
      expectError(red, 503, "not_ready")
      expect(red.headers.get("retry-after")).toBe("1")
      expect((yield* api.ask("GET", "/health/live")).json).toEqual({ status: "ok" })
      up = true
      yield* Effect.sleep("600 millis")
      expect((yield* ready).status).toBe(200)
    }))

  it.scopedLive("is red from an event that found no room until as much as an event may be finds some", () =>
    Effect.gen(function*() {
      let room = true
      const failure = Effect.fail(new OutboxUnavailable({ reason: "disk-full", code: secret }))
      const statements: Array<number> = []
      const api = yield* serve({}, {
        outbox: { enqueue: () => failure },
        schema: {
          transaction: (effect) =>
            Effect.suspend(() => {
              const { length } = JSON.stringify((effect as unknown as Statement<object>).compile()[1])
              statements.push(length)
              return room || length < 1000 ? Effect.orDie(effect as Effect.Effect<never>) : failure
            })
        }
      })
      const ready = Effect.map(
        Effect.zipRight(Effect.sleep("600 millis"), api.ask("GET", "/health/ready")),
        ({ status }) => status
      )
      // At first nobody knows.
      expect([yield* ready, yield* ready]).toEqual([200, 200])
      expect(statements.filter((length) => length > 262_144)).toHaveLength(1)
      room = false
      expect(yield* ready).toBe(200)
      expect((yield* api.post("/v1/events", event)).status).toBe(503)
      expect([yield* ready, yield* ready]).toEqual([503, 503])
      room = true
      expect([yield* ready, yield* ready]).toEqual([200, 200])
      expect(statements.at(-1)).toBeLessThan(1000)
    }))

  it.scopedLive("is red while what shares the process isn't ready", () =>
    Effect.gen(function*() {
      let working = false
      const api = yield* serve({ ready: Effect.sync(() => working) })
      expectError(yield* api.ask("GET", "/health/ready"), 503, "not_ready")
      working = true
      yield* Effect.sleep("600 millis")
      expect((yield* api.ask("GET", "/health/ready")).status).toBe(200)
    }))

  it.scopedLive("answers a probe that names no host, and nothing else does", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (const path of ["/health/live", "/health/ready"]) {
        expect(yield* api.raw(`GET ${path} HTTP/1.0\r\n\r\n`)).toMatch(/^HTTP\/1\.1 200 /)
        expect(yield* api.raw(`GET ${path} HTTP/1.0\r\nHost: a.example\r\n\r\n`)).toMatch(/^HTTP\/1\.1 403 /)
        expect(
          yield* api.raw(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nHost: a.example\r\nConnection: close\r\n\r\n`)
        )
          .toMatch(/^HTTP\/1\.1 403 /)
      }
      expect(yield* api.raw("GET /v1/stats HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1\.1 403 /)
    }))

  it.scopedLive("is red when the database doesn't answer", () =>
    Effect.gen(function*() {
      const api = yield* serve({}, { schema: { transaction: () => Effect.uninterruptible(Effect.never) } })
      const [one, two] = yield* Effect.all([api.ask("GET", "/health/ready"), api.ask("GET", "/health/ready")], {
        concurrency: 2
      })
      expectError(one, 503, "not_ready")
      expectError(two, 503, "not_ready")
    }))
})

describe("every answer", () => {
  it.scopedLive("has the correlation id that came, if it is one", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const back = (path: string, id: string) =>
        Effect.map(api.ask("GET", path, { headers: { "x-correlation-id": id } }), ({ headers }) =>
          headers.get("x-correlation-id"))
      for (const path of ["/v1/stats", "/nope", "/health/live", "/openapi.json", "/v1/deliveries/dlv_1"]) {
        expect(yield* back(path, "order:42")).toBe("order:42")
        expect(yield* back(path, `${secret} ${secret}`)).toMatch(/^cid_[A-Za-z0-9]{24}$/)
      }
      expect(api.logs.some((line) =>
        line.includes("correlationId=order:42")
      )).toBe(true)
      expect(api.logs.join()).not.toContain(secret)
    }))

  it.scopedLive("to HEAD is that to GET without its body", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (
        const path of [
          "/v1/stats",
          "/v1/deliveries?limit=5",
          "/health/live",
          "/health/ready",
          "/openapi.json",
          "/docs",
          "/v1/deliveries/dlv_1"
        ]
      ) {
        const get = yield* api.ask("GET", path)
        const head = yield* api.ask("HEAD", path)
        expect([path, head.status, head.text, head.headers.get("content-length")])
          .toEqual([path, get.status, "", get.headers.get("content-length")])
      }
      expect((yield* api.ask("HEAD", "/v1/deliveries?limit=0")).status).toBe(422)
    }))

  it.scopedLive("is not to be kept or guessed at", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (const path of ["/v1/stats", "/nope", "/docs"]) {
        const { headers } = yield* api.ask("GET", path)
        expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual(["no-store", "nosniff"])
      }
    }))
})

describe("the reference", () => {
  it.scopedLive("lists every path with its errors, and loads nothing from elsewhere", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const { json } = yield* api.ask("GET", "/openapi.json")
      expect(
        Object.entries(json.paths as Record<string, object>).map(([path, methods]) =>
          `${Object.keys(methods).join()} ${path}`
        )
      ).toEqual([
        "post /v1/events",
        "get /v1/messages/{messageId}",
        "get /v1/deliveries",
        "get /v1/deliveries/{deliveryId}",
        "post /v1/deliveries/{deliveryId}/replay",
        "post /v1/deliveries/{deliveryId}/cancel",
        "get /v1/endpoints",
        "post /v1/endpoints/{endpointId}/test",
        "post /v1/endpoints/{endpointId}/enable",
        "post /v1/endpoints/{endpointId}/disable",
        "post /v1/endpoints/{endpointId}/recover",
        "get /v1/stats",
        "get /health/live",
        "get /health/ready"
      ])
      expect(Object.keys(json.paths["/v1/events"].post.responses))
        .toEqual(["202", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"])
      expect(Object.keys(json.paths["/v1/deliveries/{deliveryId}/replay"].post.responses))
        .toEqual(["200", "400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503"])
      expect(Object.keys(json.paths["/health/live"].get.responses)).toEqual(["200", "400", "403", "500", "503"])
      expect(json.components.schemas.Error.properties.error.required).toEqual(["code", "message"])
      expect(Object.keys(json.components.schemas.Message.properties.bodies.properties))
        .toEqual(["event", "standard", "cloudevents"])
      expect(JSON.stringify(json)).not.toContain("HttpApiDecodeError")
      // Every reference leads somewhere.
      for (const [, name] of JSON.stringify(json).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
        expect(json.components.schemas[name!]).toBeDefined()
      }
      const docs = yield* api.ask("GET", "/docs")
      expect(docs.headers.get("content-type")).toContain("text/html")
      expect(docs.headers.get("content-security-policy")).toContain("default-src 'none'")
      expect(docs.text).not.toMatch(/<(?:script|link|img)[^>]+(?:src|href)=["']?(?:https?:)?\/\//)
    }))
})

it.scopedLive("a client that goes away takes its enqueue with it", () =>
  Effect.gen(function*() {
    const started = yield* Deferred.make<void>()
    const interrupted = yield* Deferred.make<void>()
    const api = yield* serve({}, {
      outbox: {
        enqueue: () =>
          Deferred.succeed(started, undefined).pipe(
            Effect.zipRight(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      }
    })
    const aborting = new AbortController()
    const fiber = yield* Effect.fork(Effect.exit(api.ask("POST", "/v1/events", {
      body: JSON.stringify(event),
      headers: { "content-type": "application/json" },
      signal: aborting.signal
    })))
    yield* Deferred.await(started)
    aborting.abort()
    yield* Deferred.await(interrupted)
    yield* Fiber.interrupt(fiber)
    const pending = yield* Effect.flatMap(Deliveries, (deliveries) => deliveries.list()).pipe(
      Effect.provide(api.services)
    )
    expect(pending.items).toEqual([])
  }))
