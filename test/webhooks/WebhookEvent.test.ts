import * as Legacy from "@effect/schema/Schema"
import { describe, expect, it } from "@effect/vitest"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { inspect } from "node:util"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"

const noon = new Date("2026-01-27T12:00:00Z")
const noonText = "2026-01-27T12:00:00+00:00"
const secret = "s3cret-value-of-a-customer"

const failure = <A>(effect: Effect.Effect<A, WebhookEvent.InvalidEvent | WebhookEvent.UnserializableEvent>) =>
  Effect.map(Effect.flip(effect), (error) => {
    expect(inspect(error, { depth: 10 }) + JSON.stringify(error) + error.message).not.toContain(secret)
    return [error._tag, error.path, error.problem]
  })

describe("make", () => {
  it.effect("gives defaults", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(noon.getTime())
      expect({ ...(yield* WebhookEvent.make({ type: "a", data: null })) }).toEqual({
        type: "a",
        tenant: undefined,
        aggregateId: null,
        occurredAt: noonText,
        data: null,
        id: undefined,
        correlationId: undefined
      })
    }))

  it.effect("writes the clock's time as it would the same time given as a date", () =>
    Effect.gen(function*() {
      for (
        const time of [0, 999, 1000, 1001, 1999, 1001, 59_999, 60_000, noon.getTime(), noon.getTime() + 7, 4e12 + 70]
      ) {
        yield* TestClock.setTime(time)
        const { occurredAt } = yield* WebhookEvent.make({ type: "a", data: null })
        expect(occurredAt).toBe(
          (yield* WebhookEvent.make({ type: "a", data: null, occurredAt: new Date(time) })).occurredAt
        )
      }
    }))

  it.effect.each(
    [
      [noon, noonText],
      [new Date("2026-01-27T12:00:00.123Z"), "2026-01-27T12:00:00.123000+00:00"],
      [new Date("2026-01-27T12:00:00.120Z"), "2026-01-27T12:00:00.120000+00:00"],
      [DateTime.unsafeMake(noon), noonText],
      [DateTime.unsafeMakeZoned(noon, { timeZone: "Europe/Berlin" }), "2026-01-27T13:00:00+01:00"],
      [DateTime.unsafeMakeZoned(noon, { timeZone: -12_600_000 }), "2026-01-27T08:30:00-03:30"]
    ] as const
  )(
    "writes %s as Python's isoformat does",
    ([occurredAt, text]) =>
      Effect.map(WebhookEvent.make({ type: "a", data: 1, occurredAt }), (event) => expect(event.occurredAt).toBe(text))
  )

  it.effect.each([
    "2026-01-27T12:00:00Z",
    "2026-01-27T12:00:00.5+05:30",
    "2026-01-27t12:00:00z",
    "2026-01-27T12:00:00-00:00",
    "2024-02-29T00:00:00.123456789Z",
    "2000-02-29T23:59:59+23:59",
    "2016-12-31T23:59:60Z",
    "2017-01-01T05:29:60+05:30",
    "2016-12-31T15:59:60-08:00"
  ])(
    "keeps %s",
    (occurredAt) =>
      Effect.map(
        WebhookEvent.make({ type: "a", data: 1, occurredAt }),
        (event) => expect(event.occurredAt).toBe(occurredAt)
      )
  )

  it.effect.each([
    "",
    "now",
    "2026-01-27",
    "2026-01-27T12:00:00",
    "2026-01-27 12:00:00Z",
    "2026-01-27T12:00Z",
    "2026-1-27T12:00:00Z",
    "2026-02-29T12:00:00Z",
    "2100-02-29T12:00:00Z",
    "2026-04-31T12:00:00Z",
    "2026-00-10T12:00:00Z",
    "2026-13-10T12:00:00Z",
    "2026-01-27T24:00:00Z",
    "2026-01-27T12:60:00Z",
    "2026-01-27T12:00:61Z",
    "2026-01-27T12:00:60Z",
    "2016-12-31T07:59:60-08:00",
    "2026-01-27T12:00:00.Z",
    "2026-01-27T12:00:00+24:00",
    "2026-01-27T12:00:00+01:60",
    "2026-01-27T12:00:00+0100",
    " 2026-01-27T12:00:00Z",
    "2026-01-27T12:00:00Z\n",
    "٢٠٢٦-01-27T12:00:00Z",
    new Date(NaN),
    new Date(8.64e15)
  ])(
    "refuses the time %s",
    (occurredAt) =>
      Effect.map(failure(WebhookEvent.make({ type: "a", data: 1, occurredAt })), (error) =>
        expect(error).toEqual([
          "InvalidEvent",
          "occurredAt",
          "must be an RFC 3339 time with its offset, such as 2026-01-27T12:00:00Z, a Date or a DateTime"
        ]))
  )

  it.effect.each([
    ["type", { type: "" }],
    ["type", { type: "a b" }],
    ["type", { type: "a\n" }],
    ["type", { type: "a".repeat(129) }],
    ["type", { type: "é" }],
    ["id", { id: "" }],
    ["id", { id: "a.b" }],
    ["id", { id: "a".repeat(65) }],
    ["id", { id: "a\n" }],
    ["tenant", { tenant: "" }],
    ["tenant", { tenant: "a\u0000" }],
    ["tenant", { tenant: "a\ud800" }],
    ["tenant", { tenant: "a".repeat(129) }],
    ["tenant", { tenant: " a" }],
    ["data", { data: undefined }]
  ])(
    "refuses %s %o",
    ([path, fields]) =>
      Effect.map(
        failure(WebhookEvent.make({ type: "a", data: 1, ...(fields as object) })),
        (error) => expect(error.slice(0, 2)).toEqual(["InvalidEvent", path])
      )
  )

  it.effect("takes what is just allowed", () =>
    WebhookEvent.make({
      type: "A-z_0.9".padEnd(128, "x"),
      id: "A-z_0".padEnd(64, "x"),
      tenant: "ü",
      aggregateId: "",
      data: 0
    }))

  it.effect("replaces a correlation id that could do harm", () =>
    Effect.gen(function*() {
      const kept = yield* WebhookEvent.make({ type: "a", data: 1, correlationId: "req:1.2_3-4" })
      const fresh = yield* WebhookEvent.make({ type: "a", data: 1, correlationId: "a\r\nx: y" })
      expect(kept.correlationId).toBe("req:1.2_3-4")
      expect(fresh.correlationId).toMatch(/^cid_[A-Za-z0-9]{24}$/)
    }))

  it.effect("is known again, a copy is not", () =>
    Effect.gen(function*() {
      const event = yield* WebhookEvent.make({ type: "a", data: 1 })
      expect([event, { ...event }, null, {}].map(WebhookEvent.isWebhookEvent)).toEqual([true, false, false, false])
    }))
})

describe("fromDomain", () => {
  const Price = Schema.NumberFromString.pipe(Schema.positive())
  class OrderCreated extends Schema.TaggedClass<OrderCreated>()("order.created", {
    aggregateId: Schema.String,
    occurredAt: Schema.Date,
    shipAt: Schema.Date,
    items: Schema.Array(Schema.Struct({ price: Price })),
    note: Schema.optionalWith(Schema.String, { as: "Option" })
  }) {}

  it.effect("encodes a tagged class by its own schema", () =>
    Effect.gen(function*() {
      const event = new OrderCreated({
        aggregateId: "o-1",
        occurredAt: noon,
        shipAt: noon,
        items: [{ price: 5 }],
        note: Option.none()
      })
      const actual = yield* WebhookEvent.fromDomain(event, {
        id: "m",
        tenant: "t",
        correlationId: "c"
      })
      expect({ ...actual }).toEqual({
        type: "order.created",
        tenant: "t",
        aggregateId: "o-1",
        occurredAt: noonText,
        data: { shipAt: "2026-01-27T12:00:00.000Z", items: [{ price: "5" }] },
        id: "m",
        correlationId: "c"
      })
      expect(WebhookEvent.isWebhookEvent(actual)).toBe(true)
    }))

  it.effect("a class of @effect/schema likewise", () =>
    Effect.gen(function*() {
      class Shipped extends Legacy.TaggedClass<Shipped>()("Shipped", {
        aggregateId: Legacy.NumberFromString,
        occurredAt: Legacy.DateFromSelf,
        at: Legacy.Date,
        note: Legacy.OptionFromNullOr(Legacy.String)
      }) {}
      const note = Option.some("n")
      const event = yield* WebhookEvent.fromDomain(new Shipped({ aggregateId: 7, occurredAt: noon, at: noon, note }))
      expect(event).toMatchObject({ type: "Shipped", aggregateId: "7", occurredAt: noonText })
      expect(event.data).toEqual({ at: "2026-01-27T12:00:00.000Z", note: "n" })
    }))

  it.effect("takes fields out though the schema renames them", () =>
    Effect.gen(function*() {
      class Renamed extends Schema.Class<Renamed>("Renamed")({
        aggregateId: Schema.propertySignature(Schema.String).pipe(Schema.fromKey("aggregate_id")),
        occurredAt: Schema.propertySignature(Schema.DateTimeUtc).pipe(Schema.fromKey("occurred_at")),
        total: Schema.propertySignature(Schema.Number).pipe(Schema.fromKey("sum"))
      }) {}
      const event = yield* WebhookEvent.fromDomain(
        new Renamed({ aggregateId: "r", occurredAt: DateTime.unsafeMake(noon), total: 3 })
      )
      expect(event).toMatchObject({ type: "Renamed", aggregateId: "r", occurredAt: noonText })
      expect(event.data).toEqual({ sum: 3 })
    }))

  it.effect("any object that says what happened, to what and when", () =>
    Effect.gen(function*() {
      class Plain {
        readonly aggregateId = 12n
        readonly occurredAt = DateTime.unsafeMake(noon)
        readonly symbol = "BTC/USDT"
      }
      class Tagged extends Data.TaggedClass("data.tagged")<{ aggregateId: number; occurredAt: string; id: string }> {}
      const plain = yield* WebhookEvent.fromDomain(new Plain())
      const tagged = yield* WebhookEvent.fromDomain(
        new Tagged({ aggregateId: 5, occurredAt: "2026-01-27T12:00:00Z", id: "x" })
      )
      const literal = yield* WebhookEvent.fromDomain({
        _tag: "lit",
        occurredAt: noon,
        ...JSON.parse("{\"__proto__\":1}")
      })
      const untagged = yield* WebhookEvent.fromDomain({ occurredAt: noon, a: 1 }, { type: "given" })
      expect([plain.type, plain.aggregateId, plain.occurredAt, plain.data]).toEqual(["Plain", "12", noonText, {
        symbol: "BTC/USDT"
      }])
      expect([tagged.type, tagged.aggregateId, tagged.occurredAt, tagged.data]).toEqual([
        "data.tagged",
        "5",
        "2026-01-27T12:00:00Z",
        { id: "x" }
      ])
      expect([literal.type, literal.aggregateId, JSON.stringify(literal.data)]).toEqual([
        "lit",
        null,
        "{\"__proto__\":1}"
      ])
      expect([untagged.type, untagged.data]).toEqual(["given", { a: 1 }])
    }))

  it.effect("honours toJSON, and the schema that it is given", () =>
    Effect.gen(function*() {
      class Hidden {
        readonly #total = 3
        readonly occurredAt = noon
        toJSON() {
          return { total: this.#total, occurredAt: noonText }
        }
      }
      expect((yield* WebhookEvent.fromDomain(new Hidden())).data).toEqual({ total: 3 })
      const event = { _tag: "A", aggregateId: "1", occurredAt: noon, price: 5 } as const
      const schema = Schema.Struct({ aggregateId: Schema.String, occurredAt: Schema.DateFromSelf, price: Price })
      expect((yield* WebhookEvent.fromDomain(event, { schema })).data).toEqual({ price: "5" })
    }))

  it.effect("says what is missing", () =>
    Effect.gen(function*() {
      const of = (event: object) => failure(WebhookEvent.fromDomain(event))
      expect(yield* of({ occurredAt: noon })).toEqual([
        "InvalidEvent",
        "_tag",
        "is missing; give the event a _tag, make it an instance of a named class, or give a type"
      ])
      const time = ["InvalidEvent", "occurredAt", "must be when it happened: RFC 3339 text, a Date or a DateTime"]
      expect(yield* of({ _tag: "a" })).toEqual(time)
      expect(yield* of({ _tag: "a", occurredAt: noon.getTime() })).toEqual(time)
      expect(yield* of({ _tag: "a", occurredAt: noon, aggregateId: { secret } })).toEqual([
        "InvalidEvent",
        "aggregateId",
        "must be text, a number or a bigint, or absent"
      ])
      expect((yield* of({ _tag: "a b", occurredAt: noon })).slice(0, 2)).toEqual(["InvalidEvent", "type"])
      expect((yield* of([])).slice(0, 2)).toEqual(["InvalidEvent", "event"])
      expect((yield* of(null as never)).slice(0, 2)).toEqual(["InvalidEvent", "event"])
    }))

  it.effect("says where a schema can't encode, and never a value", () =>
    Effect.gen(function*() {
      const fields = { aggregateId: "o-1", occurredAt: noon, shipAt: noon, items: [{ price: 5 }], note: Option.none() }
      const broken = (change: object) =>
        failure(WebhookEvent.fromDomain(Object.assign(new OrderCreated(fields), change)))
      expect(yield* broken({ items: [{ price: 1 }, { price: secret }] })).toEqual([
        "UnserializableEvent",
        "data.items[1].price",
        "does not fit its schema, which expects a number"
      ])
      expect(yield* broken({ items: [{ price: -1 }] })).toEqual([
        "UnserializableEvent",
        "data.items[0].price",
        "does not fit its schema, which expects a positive number"
      ])
      expect((yield* broken({ aggregateId: 5 })).slice(0, 2)).toEqual(["UnserializableEvent", "aggregateId"])
    }))

  it.effect("a schema that throws, waits or needs a service is no defect", () =>
    Effect.gen(function*() {
      const event = (encode: () => Effect.Effect<string, ParseResult.ParseIssue, never>) =>
        new (class Odd extends Schema.TaggedClass<Odd>()("Odd", {
          occurredAt: Schema.DateFromSelf,
          value: Schema.transformOrFail(Schema.String, Schema.String, { decode: ParseResult.succeed, encode })
        }) {})({ occurredAt: noon, value: "v" })
      const dies = yield* failure(WebhookEvent.fromDomain(event(() => Effect.die("boom"))))
      expect(dies.slice(0, 2)).toEqual(["UnserializableEvent", "event"])
      const later = event(() => Effect.map(Effect.yieldNow(), () => "later"))
      expect((yield* WebhookEvent.fromDomain(later)).data).toEqual({ value: "later" })
      const getter = {
        _tag: "a",
        get occurredAt() {
          throw new Error("boom")
        }
      }
      expect((yield* failure(WebhookEvent.fromDomain(getter))).slice(0, 2)).toEqual(["UnserializableEvent", "event"])
    }))
})

describe("decodeInput", () => {
  it.effect("takes the wire form", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(noon.getTime())
      const least = yield* WebhookEvent.decodeInput({ type: "a", data: { x: 1 } })
      expect({ ...least }).toEqual({
        type: "a",
        tenant: undefined,
        aggregateId: null,
        occurredAt: noonText,
        data: { x: 1 },
        id: undefined,
        correlationId: undefined
      })
      const most = yield* WebhookEvent.decodeInput({
        type: "a",
        aggregate_id: "o-1",
        occurred_at: "2026-01-27T12:00:00Z",
        data: null,
        id: "m-1",
        tenant: "t",
        correlation_id: "c"
      })
      expect({ ...most }).toEqual({
        type: "a",
        tenant: "t",
        aggregateId: "o-1",
        occurredAt: "2026-01-27T12:00:00Z",
        data: null,
        id: "m-1",
        correlationId: "c"
      })
    }))

  it.effect.each([
    [null, "event", "must be a JSON object with \"type\" and \"data\""],
    [[], "event", "must be a JSON object with \"type\" and \"data\""],
    [secret, "event", "must be a JSON object with \"type\" and \"data\""],
    [{ data: 1 }, "type", "is missing; give 1 to 128 characters of A-Z a-z 0-9 _ . -"],
    [{ type: { secret }, data: 1 }, "type", "must be 1 to 128 characters of A-Z a-z 0-9 _ . -"],
    [{ type: "a" }, "data", "is missing; give null if there is nothing to say"],
    [
      { type: "a", data: 1, aggregateId: secret },
      "\"aggregateId\"",
      "is not a member of an event; did you mean \"aggregate_id\"?"
    ],
    [{ type: "a", data: 1, Type: "b" }, "\"Type\"", "is not a member of an event; did you mean \"type\"?"],
    [
      { type: "a", data: 1, "odd\u0000\u2028": secret },
      "\"odd\\u0000\\u2028\"",
      "is not a member of an event; the members are type, tenant, aggregate_id, occurred_at, data, id, correlation_id"
    ],
    [
      JSON.parse("{\"type\":\"a\",\"data\":1,\"__proto__\":{\"id\":\"x\"}}"),
      "\"__proto__\"",
      "is not a member of an event; the members are type, tenant, aggregate_id, occurred_at, data, id, correlation_id"
    ],
    [{ type: "a", data: 1, aggregate_id: 12345 }, "aggregate_id", "must be text or null; write a number as text"],
    [
      { type: "a", data: 1, occurred_at: null },
      "occurred_at",
      "must be an RFC 3339 time with its offset, such as 2026-01-27T12:00:00Z"
    ],
    [
      { type: "a", data: 1, occurred_at: secret },
      "occurred_at",
      "must be an RFC 3339 time with its offset, such as 2026-01-27T12:00:00Z"
    ],
    [
      { type: "a", data: 1, id: `${secret}.` },
      "id",
      "must be 1 to 64 characters of A-Z a-z 0-9 _ -; left out, one is generated"
    ],
    [
      { type: "a", data: 1, tenant: null },
      "tenant",
      "must be 1 to 128 characters, without control characters and without white space at its ends"
    ],
    [
      { type: "a", data: 1, id: null },
      "id",
      "must be 1 to 64 characters of A-Z a-z 0-9 _ -; left out, one is generated"
    ],
    [{ type: "a", data: 1, correlation_id: null }, "correlation_id", "must be text; left out, one is generated"],
    [{ type: "a", data: 1, correlation_id: 5 }, "correlation_id", "must be text; left out, one is generated"]
  ])(
    "refuses %j",
    ([json, path, problem]) =>
      Effect.map(
        failure(WebhookEvent.decodeInput(json)),
        (error) => expect(error).toEqual(["InvalidEvent", path, problem])
      )
  )

  it.effect("replaces a correlation id that could do harm", () =>
    Effect.map(
      WebhookEvent.decodeInput({ type: "a", data: 1, correlation_id: "a b" }),
      (event) => expect(event.correlationId).toMatch(/^cid_/)
    ))
})
