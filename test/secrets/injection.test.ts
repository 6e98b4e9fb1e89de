/** Characters that mean something to headers, logs and terminals: refused, or encoded, wherever they come in. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as DeliveryLines from "../../src/cli/DeliveryLines.js"
import * as DispatchLines from "../../src/cli/DispatchLines.js"
import { jsonText, visible } from "../../src/cli/Visible.js"
import * as CorrelationId from "../../src/CorrelationId.js"
import type { Attempt, Delivery, StoredMessage } from "../../src/outbox/Deliveries.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookDispatcher from "../../src/webhooks/WebhookDispatcher.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import { sqlite } from "../support/backends.js"
import { enqueue, outbox } from "../support/outboxing.js"
import { isForeign } from "./messages.js"
import { client, echo, local } from "./sending.js"
import { watch } from "./watching.js"

/** What acts on a terminal, hides, turns the direction of writing, ends a line or a header, or is no character at all. */
const acting = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u

const hostile: ReadonlyArray<string> = [
  "\r\n",
  "\r",
  "\n",
  "\u0000",
  "\t",
  "\u0007",
  "\u001b[31m",
  "\u001b]0;title\u0007",
  "\u007f",
  "\u0085",
  "\u009b31m",
  "\u00ad",
  "\u200b",
  "\u2028",
  "\u202e",
  "\u2066",
  "\ufeff",
  "\ud800",
  "\udc00",
  "\u{e0041}",
  "ü",
  "ключ",
  "🎉"
]

/** A text with something hostile in it, anywhere. */
const text = FastCheck.tuple(
  FastCheck.string({ maxLength: 12 }),
  FastCheck.constantFrom(...hostile),
  FastCheck.oneof(
    FastCheck.string({ maxLength: 12 }),
    FastCheck.constant("x".repeat(3000)),
    FastCheck.constant("\r\nX-Injected: 1")
  )
).map(([before, middle, after]) => before + middle + after)

/** What is said of a value that was refused; a line for each thing that is wrong with it. */
const said = (error: unknown): string =>
  typeof error === "object" && error !== null && "errors" in error && Array.isArray(error.errors)
    ? error.errors.map((one: { readonly path: string; readonly message: string }) => `${one.path}: ${one.message}`)
      .join(" ")
    : error instanceof Error
    ? error.message
    : String(error)

describe("refused, without being repeated:", () => {
  const refusals: ReadonlyArray<readonly [string, (value: string) => Effect.Effect<unknown, unknown>]> = [
    ["an event's type", (type) => WebhookEvent.make({ type, data: 1 })],
    ["an event's id", (id) => WebhookEvent.make({ type: "a", data: 1, id })],
    ["an event's time", (occurredAt) => WebhookEvent.make({ type: "a", data: 1, occurredAt })],
    ["an endpoint's id", (id) => Endpoint.make({ id, url: "https://hooks.example.com/" })],
    ["an endpoint's URL", (text) => Endpoint.make({ url: `https://hooks.example.com/${text}` })],
    ["an endpoint's event type", (type) => Endpoint.make({ url: "https://hooks.example.com/", events: [type] })],
    ["the name of a header", (name) => Endpoint.make({ url: "https://hooks.example.com/", headers: { [name]: "x" } })],
    ["a secret", (secret) => Endpoint.make({ url: "https://hooks.example.com/", secret: `whsec_${secret}` })]
  ]

  it.each(refusals)("%s", (what, make) => {
    FastCheck.assert(
      FastCheck.property(text, (value) => {
        // A URL may have letters of other alphabets in its path: those are encoded.
        const result = Effect.runSync(Effect.either(make(value)))
        if (what === "an endpoint's URL" && Either.isRight(result)) {
          expect((result.right as Endpoint.Endpoint).url).toMatch(/^[!-~]+$/)
          return
        }
        expect(Either.isLeft(result)).toBe(true)
        const error = said(Either.isLeft(result) ? result.left : "")
        expect(error).not.toMatch(acting)
        expect(error.length).toBeLessThan(2000)
        expect(isForeign(error)).toBe(false)
      }),
      { numRuns: 60 }
    )
  })

  it("a header's value that isn't ASCII or holds a control character", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.constantFrom(...hostile.filter((one) => one !== "\t")),
        FastCheck.string({ maxLength: 8 }),
        (bad, rest) => {
          const result = Effect.runSync(
            Effect.either(Endpoint.make({ url: "https://hooks.example.com/", headers: { "X-Key": `a${bad}${rest}b` } }))
          )
          expect(Either.isLeft(result)).toBe(true)
          expect(said(Either.isLeft(result) ? result.left : "")).not.toMatch(acting)
        }
      ),
      { numRuns: 60 }
    )
  })

  it.effect("an idempotency key", () =>
    Effect.gen(function*() {
      for (const bad of [...hostile, " ", "", "x".repeat(256)]) {
        const error = yield* Effect.flip(enqueue({}, `a${bad}b`.replace("ab", "")))
        expect(error).toMatchObject({ _tag: "InvalidIdempotencyKey" })
      }
    }).pipe(Effect.provide(outbox(sqlite))))
})

describe("on the wire", () => {
  it.scopedLive("a request has the headers that it is to have, whatever an event holds", () => {
    const to = watch()
    return Effect.gen(function*() {
      const peer = yield* echo()
      const endpoint = yield* Effect.orDie(Endpoint.make({
        id: "e",
        url: `${peer.url}/404`,
        events: ["*"],
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        headers: { "X-Key": "value" }
      }, { policy: local }))
      yield* Effect.gen(function*() {
        const { dispatch } = yield* WebhookDispatcher.WebhookDispatcher
        for (const format of hostile) {
          const correlationId = `a${format}\r\nX-Injected: 1`
          const event = yield* WebhookEvent.make({
            type: "order.created",
            aggregateId: !/\p{Cs}/u.test(format) ? `a${format}\r\nX-Injected: 1` : "a",
            tenant: undefined,
            data: { text: !/\p{Cs}/u.test(format) ? `${format}\r\nX-Injected: 1` : "a" },
            correlationId: CorrelationId.isValid(correlationId) ? correlationId : undefined
          })
          const [report] = (yield* dispatch(event)).deliveries
          expect(report).toMatchObject({ status: 404 })
          expect(report?.excerpt ?? "").not.toMatch(acting)
          expect(report?.correlationId).toMatch(/^[A-Za-z0-9_.:-]{1,128}$/)
        }
      }).pipe(
        Effect.provide(
          WebhookDispatcher.layerWithoutEndpoints().pipe(
            Layer.provide(Endpoints.layerOf([endpoint])),
            Layer.provide(client({ retry: { maxRetries: 0 }, breaker: { minimumThroughput: 1000 } }))
          )
        ),
        Effect.provide(to.layer)
      )
      for (const request of peer.received) {
        const [head = "", body = ""] = request.split(/\r\n\r\n([^]*)/)
        expect(head.split("\r\n").slice(1).map((line) => line.replace(/:.*/, "").toLowerCase()).sort()).toEqual([
          "accept-encoding",
          "connection",
          "content-length",
          "content-type",
          "host",
          "traceparent",
          "user-agent",
          "webhook-id",
          "webhook-signature",
          "webhook-timestamp",
          "x-correlation-id",
          "x-key",
          "x-webhook-signature"
        ])
        expect(head.replaceAll("\r\n", "")).toMatch(/^[ -~]*$/)
        expect(body).not.toBe("")
      }
      expect(peer.received).toHaveLength(hostile.length)
      // An event is a line, whatever the receiver says in its status, headers and body.
      expect(to.lines.filter((line) => acting.test(line))).toEqual([])
    })
  })
})

describe("on a terminal", () => {
  const delivery: Delivery = {
    id: "dlv_1",
    messageId: "msg_1",
    endpointId: "e",
    eventType: "a",
    state: "exhausted",
    reason: "attempts",
    attempts: 1,
    leased: false,
    held: false,
    dueAt: undefined,
    lastStatus: 500,
    lastClass: "http-status",
    createdAt: 0,
    endedAt: 0
  } as Delivery
  const free = (lines: ReadonlyArray<string>) => {
    for (const line of lines) expect(line).not.toMatch(acting)
  }

  it("nothing that a database, a receiver or an event holds acts, hides or breaks a line", () => {
    FastCheck.assert(
      FastCheck.property(text, (value) => {
        const named: Delivery = {
          ...delivery,
          messageId: value,
          endpointId: value,
          eventType: value,
          reason: value,
          lastClass: value as "dns",
          lastStatus: undefined
        }
        const attempt = {
          number: 1,
          startedAt: 0,
          duration: 1,
          outcome: value,
          class: value,
          status: undefined,
          excerpt: value
        } as unknown as Attempt
        free(DeliveryLines.deliveryTable([named], 0))
        free(DeliveryLines.deliveryDetails(named, [attempt], 0))
        free([DeliveryLines.deliveryLine(named, 0)])
        const message = {
          id: value,
          eventType: value,
          tenant: value,
          aggregateId: value,
          occurredAt: value,
          correlationId: value,
          idempotencyKey: value,
          createdAt: 0,
          deliveries: [named],
          bodies: new Map([["event", Buffer.from(value)]])
        } as unknown as StoredMessage
        free(DeliveryLines.messageDetails(message, 0))
        for (const json of [true, false]) {
          const unrouted = DispatchLines.render({ _tag: "Unrouted", messageId: value, eventType: value }, json)
          const invalid = DispatchLines.render({ _tag: "Invalid", line: 1, error: value }, json)
          free([unrouted, invalid].map((line) => line.replace(/\n$/, "")))
        }
        expect(visible(value)).not.toMatch(acting)
        expect(jsonText({ [value]: value })).not.toMatch(acting)
        // What is escaped in JSON is the same value.
        expect(JSON.parse(jsonText({ value })) as unknown).toEqual({ value })
      }),
      { numRuns: 150 }
    )
  })
})

describe("in a log", () => {
  it.effect("an unusable event is one line, without its text", () => {
    const lines: Array<string> = []
    const logger = Logger.replace(
      Logger.defaultLogger,
      Logger.map(Logger.logfmtLogger, (line) => {
        lines.push(line)
      })
    )
    return Effect.gen(function*() {
      const { handler } = yield* WebhookDispatcher.WebhookDispatcher
      for (const bad of hostile) {
        yield* handler({ type: `a${bad}b`, data: 1 })
        yield* handler({ eventType: `a${bad}b`, [`x${bad}`]: 1 })
        yield* handler(
          new (Object.defineProperty(
            class {
              readonly occurredAt = bad
            },
            "name",
            { value: `N${bad}` }
          ))()
        )
      }
      expect(lines.length).toBeGreaterThan(0)
      expect(lines.filter((line) => acting.test(line.replaceAll("\\n", "")))).toEqual([])
    }).pipe(
      Effect.provide(
        WebhookDispatcher.layerWithoutEndpoints().pipe(Layer.provide(Endpoints.layerOf([])), Layer.provide(client()))
      ),
      Effect.provide(logger)
    )
  })
})
