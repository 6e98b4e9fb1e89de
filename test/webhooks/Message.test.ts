import { describe, expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { MessageChannel } from "node:worker_threads"
import * as CorrelationId from "../../src/CorrelationId.js"
import type { Format } from "../../src/webhooks/Endpoint.js"
import { encodeCanonical } from "../../src/webhooks/internal/encodeCanonical.js"
import { copy } from "../../src/webhooks/internal/encodeTree.js"
import * as Message from "../../src/webhooks/Message.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"

const occurredAt = "2026-01-27T12:00:00+00:00"

const canonical = (value: unknown): string =>
  new TextDecoder().decode(encodeCanonical(Either.getOrThrow(copy(value, "data", Infinity))))

const toMessage = (
  input: Partial<WebhookEvent.Input>,
  formats: ReadonlyArray<Format> = ["event"],
  options?: Message.MessageOptions
) =>
  Effect.flatMap(
    WebhookEvent.make({ type: "OrderCreated", occurredAt, data: {}, ...input }),
    (event) => Message.toMessage(event, formats, options)
  )

const text = (message: Message.Message, format: Format): string =>
  new TextDecoder("utf-8", { fatal: true }).decode(message.encoded.get(format)!.bytes)

/** How the data of an event is refused. */
const refusal = (data: unknown) => Effect.map(Effect.flip(toMessage({ data }, [])), (error) => error.message)

const weird = FastCheck.array(
  FastCheck.constantFrom("\ud800", "\udbff", "\udc00", "\udfff", "\ue000", "\uffff", "a", "\u007f", "\n", "\"", "é"),
  { maxLength: 5 }
).map((units) => units.join(""))

const json: FastCheck.Arbitrary<unknown> = FastCheck.letrec((tie) => ({
  value: FastCheck.oneof(
    { maxDepth: 4 },
    FastCheck.constantFrom(null, true, false),
    FastCheck.double({ noNaN: true, noDefaultInfinity: true }),
    FastCheck.integer({ min: -99, max: 99 }).chain((n) => FastCheck.nat(40).map((e) => Number(`${n}e${e - 20}`))),
    FastCheck.maxSafeInteger(),
    weird,
    FastCheck.array(tie("value"), { maxLength: 4 }),
    FastCheck.array(
      FastCheck.tuple(FastCheck.oneof(weird, FastCheck.constantFrom("__proto__", "10", "9")), tie("value")),
      {
        maxLength: 4
      }
    ).map((entries) => Object.fromEntries(entries))
  )
})).value

describe("format event", () => {
  const corpus = JSON.parse(readFileSync("../shared/corpora/event-encoding.json", "utf8")) as ReadonlyArray<
    { readonly input: string; readonly encoded: string }
  >
  it.each(corpus)("encodes $input as Python does", ({ encoded, input }) => {
    expect(canonical(JSON.parse(input))).toBe(encoded)
  })

  it.each([
    ["[-0, 1e-05, 1.5e-05, 0.0001, 1e-7, 2.5e-10, 1e-300]", "[0, 1e-05, 1.5e-05, 0.0001, 1e-07, 2.5e-10, 1e-300]"],
    ["[1e16, 1e20, 1e21, 1.5e300, 1e-10]", "[10000000000000000, 100000000000000000000, 1e+21, 1.5e+300, 1e-10]"],
    [
      "{\"\\ud83d\\ude00\":1,\"\\uffff\":2,\"\\ud83d\":3,\"\\udc00\":4}",
      "{\"\\ud83d\": 3, \"\\udc00\": 4, \"\\uffff\": 2, \"\\ud83d\\ude00\": 1}"
    ],
    ["{\"\\ud83d\\ude00\":1,\"\\ud83d\\ue000\":2}", "{\"\\ud83d\\ue000\": 2, \"\\ud83d\\ude00\": 1}"],
    ["{\"__proto__\":{\"a\":1},\"b\":2}", "{\"__proto__\": {\"a\": 1}, \"b\": 2}"],
    ["\"\\b\\f\\r\\u001f\\u007f\\u0080\"", "\"\\b\\f\\r\\u001f\\u007f\\u0080\""]
  ])("encodes %s", (input, encoded) => {
    expect(canonical(JSON.parse(input))).toBe(encoded)
  })

  it("is read back as what it was, and is a fixed point in printable ASCII", () => {
    FastCheck.assert(
      FastCheck.property(json, (value) => {
        const encoded = canonical(value)
        // JSON has no negative zero.
        expect(JSON.parse(encoded)).toEqual(JSON.parse(JSON.stringify(value)))
        expect(canonical(JSON.parse(encoded))).toBe(encoded)
        expect(encoded).toMatch(/^[ -~]*$/)
      }),
      { numRuns: 500 }
    )
  })

  it.each(["plain, ", "\u00fc\n", "\ud83d\ude00"])(
    "encodes %j as the same at any length, and sorts any number of members",
    (part) => {
      for (const times of [1, 33, 34, 35, 99, 100, 101, 5000, 70_000]) {
        const one = canonical(part).slice(1, -1)
        expect(canonical({ b: [part.repeat(times), 1], a: part })).toBe(
          `{"a": "${one}", "b": ["${one.repeat(times)}", 1]}`
        )
      }
      for (const members of [2, 11, 12, 13, 40]) {
        const keys = Array.from({ length: members }, (_, n) => `${part}${String(n * 7 % members).padStart(2, "0")}`)
        const sorted = [...new Set(keys)].sort()
        expect(Object.keys(JSON.parse(canonical(Object.fromEntries(keys.map((key) => [key, 1])))))).toEqual(sorted)
      }
    }
  )

  it.effect("is the source document's", () =>
    Effect.gen(function*() {
      const message = yield* toMessage({ data: { b: "ü", a: [1] }, aggregateId: "o-1" })
      expect(text(message, "event")).toBe(
        "{\"aggregate_id\": \"o-1\", \"data\": {\"a\": [1], \"b\": \"\\u00fc\"}, \"event_type\": \"OrderCreated\", \"occurred_at\": \"2026-01-27T12:00:00+00:00\"}"
      )
      expect(message.encoded.get("event")!.contentType).toBe("application/json")
      expect(text(yield* toMessage({}), "event")).toContain("\"aggregate_id\": null")
    }))
})

describe("other formats", () => {
  it.effect("standard and cloudevents are plain JSON", () =>
    Effect.gen(function*() {
      const message = yield* toMessage({ id: "m-1", data: { b: "ü", a: 1 }, aggregateId: "o-1" }, [
        "standard",
        "cloudevents"
      ])
      expect(text(message, "standard")).toBe(
        "{\"type\":\"OrderCreated\",\"timestamp\":\"2026-01-27T12:00:00+00:00\",\"data\":{\"b\":\"ü\",\"a\":1}}"
      )
      expect(JSON.parse(text(message, "cloudevents"))).toEqual({
        specversion: "1.0",
        id: "m-1",
        source: "/effect-webhooks",
        type: "OrderCreated",
        subject: "o-1",
        time: occurredAt,
        datacontenttype: "application/json",
        data: { a: 1, b: "ü" }
      })
      expect([...message.encoded].map(([format, { contentType }]) => [format, contentType])).toEqual([
        ["standard", "application/json"],
        ["cloudevents", "application/cloudevents+json"]
      ])
    }))

  it.effect("a cloud event has no empty subject, and the source that the program says", () =>
    Effect.gen(function*() {
      for (const aggregateId of [null, ""]) {
        const message = yield* toMessage({ aggregateId }, ["cloudevents"], { source: "https://shop.example/orders" })
        const event = JSON.parse(text(message, "cloudevents"))
        expect(event).not.toHaveProperty("subject")
        expect(event.source).toBe("https://shop.example/orders")
      }
      const error = yield* Effect.flip(toMessage({}, ["cloudevents"], { source: "a b" }))
      expect(error.message).toBe("source: must be a URI reference, ASCII without spaces")
    }))

  it.effect("all of them carry a key __proto__", () =>
    Effect.gen(function*() {
      const message = yield* toMessage({ data: JSON.parse("{\"__proto__\":{\"x\":1}}") }, [
        "event",
        "standard",
        "cloudevents"
      ])
      expect(text(message, "event")).toContain("\"data\": {\"__proto__\": {\"x\": 1}}")
      expect(text(message, "standard")).toContain("\"data\":{\"__proto__\":{\"x\":1}}")
      expect(text(message, "cloudevents")).toContain("\"data\":{\"__proto__\":{\"x\":1}}")
    }))
})

it("a document that is handed over to another thread takes no other with it", () => {
  const [kept, given] = [encodeCanonical({ kept: 1 }), encodeCanonical({ given: 1 })]
  const { port1, port2 } = new MessageChannel()
  try {
    port1.postMessage(given, [given.buffer as ArrayBuffer])
  } catch {
    // Later versions of Node.js refuse it.
  }
  port1.close()
  port2.close()
  expect(new TextDecoder().decode(kept)).toBe("{\"kept\": 1}")
  expect(new TextDecoder().decode(encodeCanonical({ next: 1 }))).toBe("{\"next\": 1}")
})

it("documents that lie in one memory leave each other alone, and a long one has its own", () => {
  const texts = Array.from({ length: 3000 }, (_, n) => "a\"é".repeat((n * 7919) % 700) + String(n))
  const encoded = [...texts, "x".repeat(20_000)].map((text) => encodeCanonical({ text }))
  expect(encoded.slice(0, -1).map((bytes) => (JSON.parse(new TextDecoder().decode(bytes)) as { text: string }).text))
    .toEqual(texts)
  const memory = new Set(encoded.map(({ buffer }) => buffer))
  expect(memory.size).toBeLessThan(encoded.length)
  for (const { buffer, length } of encoded) expect(buffer.byteLength).toBeLessThanOrEqual(Math.max(8192, length))
})

describe("what JSON can't hold", () => {
  const cycle: { items: Array<unknown> } = { items: [1] }
  cycle.items.push({ back: cycle.items })
  it.effect.each([
    [
      "a bigint",
      { items: [0, 0, 0, { price: 1n }] },
      "data.items[3].price: a bigint; make it a string, or a number if it is a safe integer"
    ],
    ["a function", { f: () => 1 }, "data.f: a function; only data can be sent"],
    ["a symbol", { s: Symbol("x") }, "data.s: a symbol; make it a string"],
    ["a cycle", cycle, "data.items[1].back: a cycle back to data.items"],
    ["NaN", [NaN], "data[0]: NaN; JSON has no such number, null is a way to say \"unknown\""],
    ["Infinity", { n: -Infinity }, "data.n: -Infinity; JSON has no such number, null is a way to say \"unknown\""],
    ["undefined in an array", [undefined], "data[0]: undefined within an array; use null, or leave it out"],

    ["a hole", [1, , 2], "data[1]: an empty array slot; use null"],
    ["a Map", { m: new Map([[1, 2]]) }, "data.m: a Map; make it an object, Object.fromEntries(map)"],
    ["a Set", new Set([1]), "data: a Set; make it an array, [...set]"],
    ["an Error", new Error("x"), "data: an Error; send its name or message"],
    ["a Promise", { p: Promise.resolve() }, "data.p: a Promise; await it first"],
    ["bytes", { b: new Uint8Array(2) }, "data.b: a Uint8Array; encode the bytes as text, base64 for one"],
    [
      "search parameters",
      new URLSearchParams("a=1"),
      "data: a URLSearchParams; make it an array, an object or a string"
    ],
    ["an invalid Date", { d: new Date(NaN) }, "data.d: an invalid Date"],
    [
      "a Redacted",
      { r: Redacted.make("s3cret") },
      "data.r: a Redacted; unwrap it if it is meant to be sent, else leave it out"
    ],
    ["a boxed bigint", Object(1n), "data: a bigint; make it a string, or a number if it is a safe integer"],
    ["toJSON to undefined", { toJSON: () => undefined }, "data: undefined; use null if there is nothing to send"],
    [
      "an odd key",
      { "a\u0000\n": { "x y": 1n } },
      "data[\"a\\u0000\\n\"][\"x y\"]: a bigint; make it a string, or a number if it is a safe integer"
    ]
  ])("%s", ([, data, message]) => Effect.map(refusal(data), (actual) => expect(actual).toBe(message)))

  it.effect("a cycle is found where it closes, however much beside it takes no bytes", () =>
    Effect.gen(function*() {
      let reads = 0
      const node = Object.defineProperty({} as { self?: unknown }, "read", {
        enumerable: true,
        get: () => {
          reads++
          return undefined
        }
      })
      node.self = node
      expect(yield* refusal(node)).toBe("data.self: a cycle back to data")
      expect(reads).toBe(1)
    }))

  it.effect("a getter or toJSON that throws, with its cause", () =>
    Effect.gen(function*() {
      const cause = new Error("boom")
      for (const key of ["toJSON", "getter"]) {
        const inner = key === "toJSON"
          ? {
            toJSON: () => {
              throw cause
            }
          }
          : Object.defineProperty({}, "x", {
            enumerable: true,
            get: () => {
              throw cause
            }
          })
        const error = yield* Effect.flip(toMessage({ data: { inner } }))
        expect(error).toMatchObject({
          _tag: "UnserializableEvent",
          path: key === "toJSON" ? "data.inner" : "data.inner.x",
          cause
        })
      }
    }))

  it.effect("is refused though no format was asked for, and nothing else is", () =>
    Effect.gen(function*() {
      const shared = { a: 1 }
      class Money {
        readonly amount = 5
        toJSON(key: string) {
          return { key, amount: this.amount, toJSON: undefined }
        }
      }
      const data = {
        kept: [shared, shared],
        date: new Date(0),
        gone: undefined,
        [Symbol.for("brand")]: 1n,
        money: new Money(),
        option: Option.some(1),
        boxed: [Object("s"), Object(1), Object(true)],
        nul: Object.create(null)
      }
      const message = yield* toMessage({ data })
      expect(JSON.parse(text(message, "event")).data).toEqual(JSON.parse(JSON.stringify(data)))
      expect(yield* refusal({ a: 1n })).toContain("data.a: a bigint")
    }))

  it.effect("toJSON is honoured once, as JSON.stringify does", () =>
    Effect.gen(function*() {
      const data = { toJSON: () => ({ once: true, toJSON: () => "twice" }) }
      expect(yield* refusal(data)).toBe("data.toJSON: a function; only data can be sent")
    }))

  it.effect("a document too deep is an error, not the end of the stack", () =>
    Effect.gen(function*() {
      const nested = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth))
      const message = yield* toMessage({ data: nested(1000) }, ["event", "standard", "cloudevents"])
      expect(text(message, "event")).toContain("[".repeat(1000))
      const path = (yield* refusal(nested(1001))).split(":")
      expect(path[1]).toBe(" nested deeper than 1000 levels")
      expect(path[0]).toMatch(/^data\[0\]\[0\].*\.\.\..*\[0\]$/)
      expect(path[0]!.length).toBe(183)
      expect(yield* refusal(nested(100_000))).toContain("nested deeper than 1000 levels")
      const endless = (): unknown => ({ toJSON: () => ({ next: endless() }) })
      expect(yield* refusal(endless())).toContain("nested deeper than 1000 levels")
    }))
})

describe("size", () => {
  it.effect("is limited to 256 KiB of the encoded bytes", () =>
    Effect.gen(function*() {
      const overhead = text(yield* toMessage({ data: "" }), "event").length
      const fits = yield* toMessage({ data: "x".repeat(262_144 - overhead) })
      expect(fits.encoded.get("event")!.bytes.length).toBe(262_144)
      const error = yield* Effect.flip(toMessage({ data: "x".repeat(262_145 - overhead) }))
      expect(error).toMatchObject({
        _tag: "PayloadTooLarge",
        eventType: "OrderCreated",
        format: "event",
        bytes: 262_145,
        limit: 262_144
      })
      expect(error.message).toBe(
        "event OrderCreated takes 262145 bytes in format \"event\" and 262144 are allowed; send a link in place of the content, or raise the limit (maxPayloadBytes; of toMessage itself, maxBytes)"
      )
    }))

  it.effect("is of bytes, not of characters, and configurable", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(toMessage({ data: "é".repeat(100) }, ["standard"], { maxBytes: 200 }))
      expect(error).toMatchObject({ _tag: "PayloadTooLarge", format: "standard" })
      yield* toMessage({ data: "é".repeat(200_000) }, ["standard"], { maxBytes: 1e6 })
    }))

  it.effect("ends the walk: what is shared over and over is never written out", () =>
    Effect.gen(function*() {
      let bomb: unknown = "boom"
      for (let depth = 0; depth < 60; depth++) bomb = [bomb, bomb]
      const error = yield* Effect.flip(toMessage({ data: bomb }))
      expect(error).toMatchObject({ _tag: "PayloadTooLarge", limit: 262_144 })
      expect(error).not.toHaveProperty("format")
      expect(error.message).toMatch(/^event OrderCreated takes at least \d+ bytes and 262144 are allowed/)
      const huge: Array<number> = []
      huge.length = 4_294_967_295
      expect(yield* Effect.flip(toMessage({ data: huge.fill(1, 0, 1) }))).toMatchObject({ path: "data[1]" })
    }))

  it("counts no more than any format takes", () => {
    FastCheck.assert(
      FastCheck.property(json, (value) => {
        const shortest = JSON.stringify(value).length
        expect(Either.isRight(copy(value, "data", shortest))).toBe(true)
      }),
      { numRuns: 500 }
    )
  })
})

describe("message", () => {
  it.effect("has the event's id, else a random one", () =>
    Effect.gen(function*() {
      expect((yield* toMessage({ id: "evt_1" })).id).toBe("evt_1")
      const ids = yield* Effect.replicateEffect(Effect.map(toMessage({}), ({ id }) => id), 10)
      expect(new Set(ids).size).toBe(10)
      for (const id of ids) expect(id).toMatch(/^msg_[A-Za-z0-9]{24}$/)
    }))

  it.effect("has the event's correlation id, else the fiber's, else a fresh one", () =>
    Effect.gen(function*() {
      const own = yield* toMessage({ correlationId: "c-1" }).pipe(CorrelationId.withCorrelationId("c-2"))
      const fiber = yield* toMessage({}).pipe(CorrelationId.withCorrelationId("c-2"))
      const fresh = yield* toMessage({})
      expect([own.correlationId, fiber.correlationId]).toEqual(["c-1", "c-2"])
      expect(fresh.correlationId).toMatch(/^cid_[A-Za-z0-9]{24}$/)
    }))

  it.effect("is encoded once a format", () =>
    Effect.gen(function*() {
      let reads = 0
      const data = {
        get x() {
          return ++reads
        }
      }
      const encode = vi.spyOn(TextEncoder.prototype, "encode")
      const message = yield* toMessage({ data }, ["event", "standard", "event", "cloudevents", "standard"])
      // Canonical JSON is written as bytes in the first place.
      expect([reads, encode.mock.calls.length]).toEqual([1, 2])
      encode.mockRestore()
      expect(message.encoded.size).toBe(3)
      expect((yield* toMessage({ data: {} }, [])).encoded.size).toBe(0)
    }))

  it.effect("checks an event that was put together by hand", () =>
    Effect.gen(function*() {
      const event = { type: "a", aggregateId: null, occurredAt, data: {} }
      expect((yield* Message.toMessage(event, [])).eventType).toBe("a")
      const error = yield* Effect.flip(Message.toMessage({ ...event, id: "a.b" }, []))
      expect(error).toMatchObject({ _tag: "InvalidEvent", path: "id" })
    }))
})

describe("digest", () => {
  const of = (input: Partial<WebhookEvent.Input> = {}) =>
    Effect.flatMap(WebhookEvent.make({ type: "a", data: { x: 1, y: 2 }, ...input }), (event) => Message.digest(event))

  it.effect("is the SHA-256 of the canonical content", () =>
    Effect.gen(function*() {
      const text =
        "{\"aggregate_id\": \"o-1\", \"data\": {\"x\": 1, \"y\": \"\\u00e9\"}, \"tenant\": \"t\", \"type\": \"a\"}"
      expect(yield* of({ tenant: "t", aggregateId: "o-1", data: { y: "é", x: 1 } }))
        .toBe(createHash("sha256").update(text).digest("hex"))
    }))

  it.effect("is of type, tenant, aggregate id, data and a time that was given; not of ids, nor of the order of keys", () =>
    Effect.gen(function*() {
      const plain = yield* of()
      for (const same of [{ data: { y: 2, x: 1 } }, { id: "evt_1" }, { correlationId: "c" }, { aggregateId: null }]) {
        expect(yield* of(same)).toBe(plain)
      }
      const others = yield* Effect.forEach(
        [
          { type: "b" },
          { tenant: "t" },
          { aggregateId: "a" },
          { data: { x: 1, y: 3 } },
          { occurredAt },
          { occurredAt: "2026-01-27T12:00:00Z" }
        ],
        of
      )
      expect(new Set([plain, ...others]).size).toBe(7)
    }))

  it.effect("a time that was filled in doesn't count, wherever the event came from", () =>
    Effect.gen(function*() {
      const first = yield* of()
      yield* TestClock.adjust("1 hour")
      expect(yield* of()).toBe(first)
      const input = { type: "a", data: { x: 1, y: 2 } }
      const decoded = yield* WebhookEvent.decodeInput(input)
      expect(decoded.occurredAt).toBe("1970-01-01T01:00:00+00:00")
      expect(yield* Message.digest(decoded)).toBe(first)
      expect(yield* Message.digest(yield* WebhookEvent.make(decoded))).toBe(first)
      const timed = yield* Message.digest(
        yield* WebhookEvent.decodeInput({ ...input, occurred_at: decoded.occurredAt })
      )
      expect(timed).not.toBe(first)
      const domain = { _tag: "a", occurredAt: decoded.occurredAt, x: 1, y: 2 }
      expect(yield* Message.digest(yield* WebhookEvent.fromDomain(domain))).toBe(timed)
      expect(yield* Message.digest({ ...decoded })).toBe(timed)
    }))

  it.effect("refuses what can't be encoded", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flip(of({ data: { x: 1n } }))).toMatchObject({ _tag: "UnserializableEvent", path: "data.x" })
      const event = yield* WebhookEvent.make({ type: "a", data: "x".repeat(200) })
      expect(yield* Effect.flip(Message.digest(event, { maxBytes: 100 }))).toMatchObject({
        _tag: "PayloadTooLarge",
        limit: 100
      })
      expect(yield* Effect.flip(Message.digest({ ...event, id: "a.b" }))).toMatchObject({ path: "id" })
    }))
})
