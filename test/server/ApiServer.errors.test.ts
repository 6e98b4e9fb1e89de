import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import { OutboxUnavailable } from "../../src/outbox/OutboxError.js"
import { OutboxSchema } from "../../src/outbox/Schema.js"
import { expectError, type Fakes, secret, serve } from "./serving.js"

const event = { type: "order.paid", data: { total: 42 } }

describe("bodies", () => {
  it.scopedLive("that are not JSON are 400", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (const text of [`{"type": ${secret}`, "", "[", "\uFEFF{}", `${secret}`, "{}{}", "[1,]", "NaN"]) {
        expectError(yield* api.post("/v1/events", text), 400, "invalid_json")
      }
      const bytes = yield* api.ask("POST", "/v1/events", {
        body: new Uint8Array([0x22, 0xff, 0xfe, 0x22]),
        headers: { "content-type": "application/json" }
      })
      expectError(bytes, 400, "invalid_json")
      expectError(yield* api.post("/v1/endpoints/orders/disable", "{"), 400, "invalid_json")
    }))

  it.scopedLive("that are not what is asked for are 422, with the path", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const cases: ReadonlyArray<readonly [body: unknown, code: string, path: string | undefined]> = [
        [JSON.stringify(secret), "invalid", undefined],
        [null, "invalid", undefined],
        [{ data: 1 }, "invalid", "type"],
        [{ type: 7, data: 1 }, "invalid", "type"],
        [{ type: "a" }, "invalid", "data"],
        [{ ...event, id: `a.${secret}` }, "invalid", "id"],
        [{ ...event, occurred_at: secret }, "invalid", "occurred_at"],
        [{ ...event, aggregate_id: 7 }, "invalid", "aggregate_id"],
        [{ ...event, tennant: secret }, "invalid", "\"tennant\""],
        [[], "invalid", undefined],
        [Array.from({ length: 1001 }, () => event), "invalid", undefined],
        [[event, event, event, { type: "!", data: 1 }], "invalid", "[3].type"],
        [[event, [event]], "invalid", "[1]"],
        [[event, secret], "invalid", "[1]"]
      ]
      for (const [body, code, path] of cases) expectError(yield* api.post("/v1/events", body), 422, code, path)
    }))

  it.scopedLive("in which something would get lost are 422, with the path", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const cases: ReadonlyArray<readonly [body: string, code: string, path: string | undefined]> = [
        ["{\"type\":\"a\",\"data\":1,\"type\":\"b\"}", "ambiguous_json", "type"],
        ["[{\"type\":\"a\",\"data\":{\"x\":[1,{\"y\":1,\"y\":2}]}}]", "ambiguous_json", "[0].data.x[1].y"],
        ["{\"type\":\"a\",\"data\":12345678901234567890}", "ambiguous_json", "data"],
        ["{\"__proto__\":{\"type\":\"a\"},\"data\":1}", "invalid", "\"__proto__\""],
        [`{"type":"a","data":${"[".repeat(500_000)}`, "too_deep", undefined],
        [`{"type":"a","data":${"[".repeat(1001)}${"]".repeat(1001)}}`, "invalid", undefined]
      ]
      for (const [body, code, path] of cases) {
        const answer = yield* api.post("/v1/events", body)
        expectError(answer, 422, code, path ?? answer.json.error.path)
      }
      const kept = yield* api.post("/v1/events", "{\"type\":\"a\",\"id\":\"m1\",\"data\":{\"__proto__\":{\"x\":1}}}")
      expect(kept.status).toBe(202)
      expect((yield* api.ask("GET", "/v1/messages/m1")).text).toContain(
        "\\\"data\\\": {\\\"__proto__\\\": {\\\"x\\\": 1}}"
      )
    }))

  it.scopedLive("of another type are 415", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/jsonp",
        secret
      ]
      for (const type of types) {
        expectError(yield* api.post("/v1/events", event, { "content-type": type }), 415, "unsupported_media_type")
      }
      expectError(yield* api.ask("POST", "/v1/events", { body: new Uint8Array(3) }), 415, "unsupported_media_type")
      expectError(yield* api.post("/v1/events", event, { "content-encoding": "gzip" }), 415, "unsupported_media_type")
      const spelled = yield* api.post("/v1/events", event, { "content-type": "Application/JSON ; charset=\"UTF-8\"" })
      expect(spelled.status).toBe(202)
    }))

  it.scopedLive("with an event that is too large are 413, with its place", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const large = { type: "order.paid", data: "x".repeat(300_000) }
      expectError(yield* api.post("/v1/events", large), 413, "payload_too_large")
      expectError(yield* api.post("/v1/events", [event, event, large]), 413, "payload_too_large", "[2]")
      expect((yield* api.ask("GET", "/v1/deliveries")).json).toEqual({ deliveries: [] })
    }))

  it.scopedLive("are held to the shape of their path", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const disable = (body: unknown) => api.post("/v1/endpoints/orders/disable", body)
      const recover = (body: unknown) => api.post("/v1/endpoints/orders/recover", body)
      expectError(yield* disable({}), 422, "invalid", "reason")
      expectError(yield* disable([]), 422, "invalid")
      expectError(yield* disable({ reason: " " }), 422, "invalid", "reason")
      expectError(yield* disable({ reason: `${secret}\n` }), 422, "invalid", "reason")
      expectError(yield* disable({ reason: "x".repeat(501) }), 422, "invalid", "reason")
      expectError(yield* disable({ reason: "x", resaon: secret }), 422, "invalid", "resaon")
      // Names that every object answers to, too.
      for (const name of ["constructor", "toString", "hasOwnProperty"]) {
        expectError(yield* disable({ reason: "x", [name]: secret }), 422, "invalid", name)
      }
      expectError(yield* disable(`{"reason":"x","__proto__":{"reason":"${secret}"}}`), 422, "invalid", "__proto__")
      expectError(yield* disable("{\"__proto__\":{\"reason\":\"x\"}}"), 422, "invalid", "__proto__")
      expectError(yield* recover({}), 422, "invalid", "since")
      expectError(yield* recover({ since: 5 }), 422, "invalid", "since")
      expectError(yield* recover({ since: "2026-02-30T00:00:00Z" }), 422, "invalid", "since")
      expectError(yield* recover({ since: "2026-01-01T00:00:00Z", until: secret }), 422, "invalid", "until")
      expectError(
        yield* recover({ since: "2026-01-02T00:00:00Z", until: "2026-01-01T00:00:00Z" }),
        422,
        "invalid",
        "since"
      )
    }))
})

describe("targets", () => {
  it.scopedLive("that lead nowhere are 404", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (
        const path of [
          "/",
          "/v1",
          "/v2/events",
          `/${secret}`,
          "/v1/stats/",
          "//v1/stats",
          "/V1/stats",
          "/v1//stats",
          "/v1/deliveries/"
        ]
      ) {
        expectError(yield* api.ask("GET", path), 404, "not_found")
      }
      expectError(yield* api.ask("GET", `/v1/messages/${"x".repeat(5000)}`), 404, "not_found")
      expectError(yield* api.ask("GET", `/v1/messages/${secret}${"x".repeat(64)}`), 404, "message_not_found")
      expectError(yield* api.ask("GET", "/v1/messages/a%2Fb"), 404, "message_not_found")
      expectError(yield* api.ask("GET", `/v1/messages/${secret}`), 404, "message_not_found")
      expectError(yield* api.ask("GET", "/v1/deliveries/dlv_1"), 404, "delivery_not_found")
      expectError(yield* api.ask("GET", "/v1/deliveries/dlv_99999999999999999999"), 404, "delivery_not_found")
      expectError(yield* api.ask("POST", "/v1/deliveries/dlv_9223372036854775808/replay"), 404, "delivery_not_found")
      expectError(yield* api.ask("POST", "/v1/deliveries/1/cancel"), 404, "delivery_not_found")
      for (const verb of ["test", "enable"]) {
        expectError(yield* api.ask("POST", `/v1/endpoints/${secret}/${verb}`), 404, "endpoint_not_found")
      }
      expectError(yield* api.post(`/v1/endpoints/${secret}/disable`, { reason: "x" }), 404, "endpoint_not_found")
      expectError(
        yield* api.post("/v1/endpoints/nope/recover", { since: "2026-01-01T00:00:00Z" }),
        404,
        "endpoint_not_found"
      )
    }))

  it.scopedLive("that are not percent-encoded UTF-8 are 400", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (const path of ["/v1/messages/%zz", "/v1/messages/%ff", `/%/${secret}`]) {
        expectError(yield* api.ask("GET", path), 400, "bad_target")
      }
    }))

  it.scopedLive("that know other methods are 405 and say which", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const allow = (method: string, path: string) =>
        Effect.map(api.ask(method, path), (answer) => {
          expectError(answer, 405, "method_not_allowed")
          return answer.headers.get("allow")
        })
      expect(yield* allow("GET", "/v1/events")).toBe("POST")
      expect(yield* allow("DELETE", "/v1/deliveries/dlv_1")).toBe("GET, HEAD")
      expect(yield* allow("OPTIONS", "/v1/stats")).toBe("GET, HEAD")
      expect(yield* allow("GET", "/v1/deliveries/dlv_1/replay")).toBe("POST")
      expect(yield* allow("POST", "/health/live")).toBe("GET, HEAD")
      expect(yield* allow("PATCH", "/docs")).toBe("GET, HEAD")
      const head = yield* api.ask("HEAD", "/v1/events")
      expect([head.status, head.headers.get("allow"), head.text]).toEqual([405, "POST", ""])
    }))

  it.scopedLive("with queries that can't be right are 422", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const list = (query: string) => api.ask("GET", `/v1/deliveries?${query}`)
      for (const limit of ["0", "1001", "-1", "1.5", "1e9", "", "NaN", secret, "%zz"]) {
        expectError(yield* list(`limit=${limit}`), 422, "invalid", "limit")
      }
      expectError(yield* list("limit=1&limit=2"), 422, "invalid", "limit")
      expectError(yield* list("state=pending&state=delivered"), 422, "invalid", "state")
      expectError(yield* list(`state=${secret}`), 422, "invalid", "state")
      expectError(yield* list("endpoint=a.b"), 422, "invalid", "endpoint")
      expectError(yield* list("type=%00"), 422, "invalid", "type")
      expectError(yield* list(`cursor=${secret}`), 422, "invalid", "cursor")
      expectError(yield* list(`cursor=${"x".repeat(300)}`), 422, "invalid", "cursor")
      expectError(yield* list("stat=pending"), 422, "invalid", "stat")
      expectError(yield* list("__proto__=1"), 422, "invalid", "__proto__")
      expect((yield* list("limit=1000")).status).toBe(200)
      expect((yield* list("state=exhausted&endpoint=orders&type=order.paid&limit=1")).status).toBe(200)
    }))

  it.scopedLive("with a wrong Idempotency-Key are 422", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const keyed = (key: string, body: unknown = event) => api.post("/v1/events", body, { "idempotency-key": key })
      for (const key of ["", "two words", "x".repeat(256), "caf\u00e9"]) {
        expectError(yield* keyed(key), 422, "invalid", "Idempotency-Key")
      }
      expectError(yield* keyed("x".repeat(251), [event]), 422, "invalid", "Idempotency-Key")
      expect((yield* keyed("x".repeat(255))).status).toBe(202)
      expect((yield* keyed("x".repeat(250), [event])).status).toBe(202)
    }))
})

describe("what the services say", () => {
  const unavailable = (reason: OutboxUnavailable["reason"]) =>
    Effect.fail(new OutboxUnavailable({ reason, code: secret }))

  it.scopedLive("that the database does not take it is 503 with Retry-After, never 202", () =>
    Effect.gen(function*() {
      for (
        const reason of [
          "unreachable",
          "credentials",
          "disk-full",
          "read-only",
          "busy",
          "queue-full",
          "missing-tables",
          "corrupt",
          "other"
        ] as const
      ) {
        const down = unavailable(reason)
        const api = yield* serve({}, {
          outbox: { enqueue: () => down, enqueueAll: () => down },
          deliveries: { stats: down, list: () => down }
        })
        for (
          const answer of [
            yield* api.post("/v1/events", event),
            yield* api.post("/v1/events", [event]),
            yield* api.ask("GET", "/v1/stats"),
            yield* api.ask("GET", "/v1/deliveries")
          ]
        ) {
          expectError(answer, 503, "database_unavailable")
          expect(answer.headers.get("retry-after")).toBe("5")
        }
      }
    }))

  it.scopedLive("that a rule of the database is against it is 422, which asking again won't change", () =>
    Effect.gen(function*() {
      const against = unavailable("constraint")
      const api = yield* serve({}, {
        outbox: { enqueue: () => against, enqueueAll: () => against },
        deliveries: { replay: () => against }
      })
      const cases: ReadonlyArray<readonly [path: string, body: unknown, at: string | undefined]> = [
        ["/v1/events", event, undefined],
        ["/v1/events", [event], "[0]"],
        ["/v1/events", [event, event], undefined],
        ["/v1/deliveries/dlv_1/replay", {}, undefined]
      ]
      for (const [path, body, at] of cases) {
        const answer = yield* api.post(path, body)
        expectError(answer, 422, "refused_by_database", at)
        expect(answer.headers.get("retry-after")).toBeNull()
      }
    }))

  it.scopedLive("of a trigger of the host's own is 422, and nothing of the array is stored", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      yield* Effect.gen(function*() {
        const { sql, tables } = yield* OutboxSchema
        yield* sql`CREATE TRIGGER no_refunds BEFORE INSERT ON ${tables.messages} WHEN NEW.event_type = 'refund'
          BEGIN SELECT RAISE(ABORT, ${sql.literal(`'${secret}'`)}); END`
      }).pipe(Effect.provide(api.services), Effect.orDie)
      const refund = { type: "refund", data: 1 }
      expectError(yield* api.post("/v1/events", refund), 422, "refused_by_database")
      expectError(yield* api.post("/v1/events", [refund]), 422, "refused_by_database", "[0]")
      expectError(yield* api.post("/v1/events", [{ ...event, id: "m1" }, refund]), 422, "refused_by_database")
      expectError(yield* api.ask("GET", "/v1/messages/m1"), 404, "message_not_found")
      expect((yield* api.post("/v1/events", event)).status).toBe(202)
    }))

  it.scopedLive("that it is in the way of something else is 409", () =>
    Effect.gen(function*() {
      const id = "dlv_1"
      const cases: ReadonlyArray<readonly [fakes: Fakes, path: string, code: string]> = [
        [
          { deliveries: { cancel: () => Effect.fail(new Deliveries.DeliveryEnded({ id, state: "delivered" })) } },
          "/v1/deliveries/dlv_1/cancel",
          "delivery_ended"
        ],
        [
          { deliveries: { cancel: () => Effect.fail(new Deliveries.DeliveryLeased({ id, until: 1 })) } },
          "/v1/deliveries/dlv_1/cancel",
          "delivery_leased"
        ],
        [
          {
            deliveries: {
              replay: () => Effect.fail(new EndpointHealth.EndpointDisabled({ endpointId: "orders", reason: secret }))
            }
          },
          "/v1/deliveries/dlv_1/replay",
          "endpoint_disabled"
        ],
        [
          {
            deliveries: {
              recover: () => Effect.fail(new Deliveries.RecoveryUnderWay({ endpointId: "orders", since: 1, until: 2 }))
            }
          },
          "/v1/endpoints/orders/recover",
          "recovery_under_way"
        ]
      ]
      for (const [fakes, path, code] of cases) {
        const api = yield* serve({}, fakes)
        expectError(yield* api.post(path, { since: "2026-01-01T00:00:00Z" }), 409, code)
      }
    }))

  it.scopedLive("of a key or an id that was used for something else is 409", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const keyed = (body: unknown) => api.post("/v1/events", body, { "idempotency-key": secret })
      expect((yield* keyed(event)).status).toBe(202)
      expectError(yield* keyed({ ...event, data: 2 }), 409, "idempotency_conflict", "Idempotency-Key")
      expect((yield* api.post("/v1/events", { ...event, id: secret })).status).toBe(202)
      expectError(yield* api.post("/v1/events", { ...event, id: secret, data: 2 }), 409, "idempotency_conflict", "id")
      const many = yield* api.post("/v1/events", [event, { ...event, id: secret, data: 2 }])
      expectError(many, 409, "idempotency_conflict", "[1].id")
      expect((yield* api.ask("GET", "/v1/deliveries")).json.deliveries).toHaveLength(4)
    }))

  it.scopedLive("that nobody foresaw is 500, with nothing of it but in the log", () =>
    Effect.gen(function*() {
      const die = Effect.die(new Error(`a defect with ${secret}`))
      const api = yield* serve({}, {
        outbox: { enqueue: () => die },
        deliveries: { stats: die }
      })
      const answer = yield* api.post("/v1/events", event, { "x-correlation-id": "of-the-caller" })
      expectError(answer, 500, "internal_error")
      expectError(yield* api.ask("GET", "/v1/stats"), 500, "internal_error")
      const fault = api.logs.find((line) => line.includes("http_fault"))
      expect(fault).toContain("a defect with")
      expect(fault).toContain("of-the-caller")
    }))
})
