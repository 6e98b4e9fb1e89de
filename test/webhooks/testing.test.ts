import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as testing from "../../src/webhooks/testing.js"
import { quiet } from "../support/recording.js"

const url = "https://example.com/a"

const get = (to = url) => Effect.flatMap(HttpClient.HttpClient, (client) => client.get(to))
const statuses = (n: number, to = url) =>
  Effect.forEach(Array.from({ length: n }), () => Effect.map(get(to), (response) => response.status))
const requests = Effect.flatMap(testing.FakeHttpClient, (fake) => fake.requests)

describe("testing.scriptedClient", () => {
  it.effect("answers in order, then repeats the last step", () =>
    Effect.gen(function*() {
      expect(yield* statuses(5)).toEqual([503, 429, 200, 200, 200])
    }).pipe(Effect.provide(testing.scriptedClient([503, 429, 200]))))

  it.effect("an empty script answers 200", () =>
    Effect.gen(function*() {
      expect(yield* statuses(2)).toEqual([200, 200])
    }).pipe(Effect.provide(testing.scriptedClient([]))))

  it.effect("status, headers, body, delay", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(get())
      yield* TestClock.adjust("4999 millis")
      expect((yield* Fiber.poll(fiber))._tag).toBe("None")
      yield* TestClock.adjust("1 millis")
      const response = yield* Fiber.join(fiber)
      expect([response.status, response.headers["retry-after"], yield* response.text]).toEqual([429, "10", "slow down"])
    }).pipe(Effect.provide(testing.scriptedClient([
      { status: 429, headers: { "Retry-After": "10" }, body: "slow down", delay: "5 seconds" }
    ]))))

  it.effect("statuses without a body", () =>
    Effect.gen(function*() {
      expect(yield* statuses(3)).toEqual([204, 205, 304])
    }).pipe(Effect.provide(testing.scriptedClient([204, { status: 205, body: "ignored" }, 304]))))

  it.effect("reset and refused fail as a transport does, with the system's codes", () =>
    Effect.gen(function*() {
      const errors = [yield* Effect.flip(get()), yield* Effect.flip(get())]
      expect(errors).toMatchObject([
        { _tag: "RequestError", reason: "Transport", cause: { code: "ECONNRESET", syscall: "read" } },
        { _tag: "RequestError", reason: "Transport", cause: { code: "ECONNREFUSED", syscall: "connect" } }
      ])
    }).pipe(Effect.provide(testing.scriptedClient(["reset", "refused"]))))

  it.effect("timeout never answers, and can be interrupted", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(get())
      yield* TestClock.adjust("1000 days")
      expect((yield* Fiber.poll(fiber))._tag).toBe("None")
      expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
    }).pipe(Effect.provide(testing.scriptedClient(["timeout"]))))

  it.effect("a list a URL: the URL without its query first, then the origin, then *", () =>
    Effect.gen(function*() {
      expect(yield* statuses(2, `${url}?x=1`)).toEqual([503, 201])
      expect(yield* statuses(2, "https://example.com/b")).toEqual([202, 203])
      expect(yield* statuses(2, "https://other.example/")).toEqual([404, 404])
      expect(yield* statuses(1)).toEqual([201])
    }).pipe(Effect.provide(testing.scriptedClient({
      [url]: [503, 201],
      "https://example.com": [202, 203],
      "*": [404]
    }))))

  it.effect("a request that nothing covers and an impossible status are defects that say so", () =>
    Effect.gen(function*() {
      const uncovered = yield* Effect.flip(Effect.sandbox(get("https://other.example/x?secret=1")))
      expect(Cause.squash(uncovered)).toMatchObject({
        _tag: "ScriptError",
        message: "the script has no list for https://other.example/x, nor one for *"
      })
      for (const _ of [100, 600, 200.5]) {
        expect(Cause.squash(yield* Effect.flip(Effect.sandbox(get())))).toMatchObject({
          message: expect.stringContaining("a whole number from 200 to 599")
        })
      }
    }).pipe(Effect.provide(testing.scriptedClient({ [url]: [100, 600, 200.5] }))))

  it.effect("records method, URL, headers, bytes, time, and the attempt of a resilient call", () =>
    Effect.gen(function*() {
      const client = yield* ResilientHttpClient.ResilientHttpClient
      const bytes = Uint8Array.of(0xff, 0xfe, 0, 0x80)
      const request = HttpClientRequest.put(`${url}?a=b`, { headers: { "X-Own": "1" } }).pipe(
        HttpClientRequest.bodyUint8Array(bytes)
      )
      const fiber = yield* Effect.fork(client.execute(request))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
      const made = yield* requests
      expect(made.map(({ at, attempt, method, url }) => ({ at, attempt, method, url }))).toEqual([
        { at: 0, attempt: 1, method: "PUT", url: `${url}?a=b` },
        { at: 1000, attempt: 2, method: "PUT", url: `${url}?a=b` }
      ])
      expect(made[0]!.headers["x-own"]).toBe("1")
      expect(made[0]!.body).toEqual(bytes)
      expect(yield* (yield* testing.FakeHttpClient).count).toBe(2)
    }).pipe(
      Effect.provide(Layer.provideMerge(
        ResilientHttpClient.layer({ retry: { jitter: 0 } }),
        testing.scriptedClient([503, 200])
      )),
      quiet
    ))

  it.effect("records bodies of every kind", () =>
    Effect.gen(function*() {
      const client = yield* HttpClient.HttpClient
      const form = new FormData()
      form.append("field", "in the form")
      for (
        const body of [
          HttpBody.empty,
          HttpBody.text("text"),
          HttpBody.unsafeJson({ a: 1 }),
          HttpBody.raw("raw"),
          HttpBody.stream(Stream.make(Uint8Array.of(97), Uint8Array.of(98))),
          HttpBody.formData(form)
        ]
      ) yield* client.execute(HttpClientRequest.setBody(HttpClientRequest.post(url), body))
      const texts = (yield* requests).map((request) => request.text)
      expect(texts.slice(0, 5)).toEqual(["", "text", "{\"a\":1}", "raw", "ab"])
      expect(texts[5]).toContain("in the form")
      expect((yield* requests)[0]!.attempt).toBe(0)
    }).pipe(Effect.provide(testing.scriptedClient([200]))))

  it.effect("play begins another script; what is recorded stays", () =>
    Effect.gen(function*() {
      const fake = yield* testing.FakeHttpClient
      expect(yield* statuses(2)).toEqual([503, 200])
      yield* fake.play([404, 200])
      expect(yield* statuses(2)).toEqual([404, 200])
      expect((yield* fake.requests).length).toBe(4)
    }).pipe(Effect.provide(testing.scriptedClient([503, 200]))))

  it.effect("keeps the last 10 000 requests and counts all", () =>
    Effect.gen(function*() {
      const fake = yield* testing.FakeHttpClient
      for (let i = 0; i < 10_003; i++) yield* fake.client.get(`https://example.com/${i}`)
      const kept = yield* fake.requests
      expect([kept.length, kept[0]!.url, yield* fake.count]).toEqual([10_000, "https://example.com/3", 10_003])
    }).pipe(Effect.provide(testing.scriptedClient([200]))))
})
