import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as testing from "../../src/webhooks/testing.js"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"
import * as WebhookDispatcher from "../../src/webhooks/WebhookDispatcher.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { quiet, spans } from "../support/recording.js"

/** Reports of deliveries, and a dispatcher to one endpoint, which gets one request at a time. */
const recorded = (script: testing.Script) => {
  const deliveries: Array<WebhookSender.DeliveryReport> = []
  const attempts: Array<WebhookSender.AttemptReport> = []
  const config = WebhookConfig.layer({ a: [{ id: "a", url: "https://a.example.com/in", maxConcurrency: 1 }] })
  const options: WebhookSender.Options = {
    onDelivery: (report) => Effect.sync(() => deliveries.push(report)),
    onAttempt: (report) => Effect.sync(() => attempts.push(report))
  }
  const over = <R>(client: Layer.Layer<ResilientHttpClient.ResilientHttpClient, never, R>) =>
    WebhookDispatcher.layer(options).pipe(Layer.provide(client), Layer.provide(config))
  return {
    attempts,
    deliveries,
    config,
    over,
    layer: Layer.provideMerge(
      over(ResilientHttpClient.layer({ attemptTimeout: "1 hour", deadline: "2 hours" })),
      testing.scriptedClient(script)
    )
  }
}

const dispatch = Effect.flatMap(
  WebhookDispatcher.WebhookDispatcher,
  ({ dispatch }) => Effect.flatMap(WebhookEvent.make({ type: "a", data: 1 }), dispatch)
)

/** Interrupts a dispatch once it waits: it must be over at once. Gives how its span ended. */
const interrupted = Effect.gen(function*() {
  const { layer, recorded } = spans()
  const fiber = yield* Effect.forkDaemon(Effect.provide(dispatch, layer))
  yield* TestClock.adjust("10 seconds")
  expect(fiber.unsafePoll()).toBeNull()
  yield* Fiber.interruptFork(fiber)
  yield* TestClock.adjust(0)
  const exit = fiber.unsafePoll()
  expect(exit !== null && Exit.isInterrupted(exit)).toBe(true)
  const status = recorded.find(({ name }) => name === "WebhookDispatcher.dispatch")?.span.status
  expect(status?._tag === "Ended" && Exit.isInterrupted(status.exit)).toBe(true)
})

describe("a dispatch that is interrupted ends at once, and its report says so, while it waits for", () => {
  it.effect("a slot", () => {
    const { attempts, deliveries, layer } = recorded(["timeout"])
    return Effect.gen(function*() {
      const first = yield* Effect.forkDaemon(dispatch)
      yield* TestClock.adjust("1 second")
      yield* interrupted
      expect(deliveries).toMatchObject([{ class: "interrupted", attempts: 0 }])
      expect(attempts).toEqual([])
      yield* Fiber.interrupt(first)
    }).pipe(Effect.provide(layer), quiet)
  })

  it.effect("an answer", () => {
    const { attempts, deliveries, layer } = recorded(["timeout"])
    return Effect.gen(function*() {
      yield* interrupted
      yield* TestClock.adjust(0)
      expect(deliveries).toMatchObject([{ class: "interrupted", attempts: 1 }])
      expect(attempts).toMatchObject([{ class: "interrupted", attempt: 1 }])
    }).pipe(Effect.provide(layer), quiet)
  })

  it.effect("a retry, and the answer to it", () => {
    const { deliveries, layer } = recorded([{ status: 503, headers: { "retry-after": "60" } }, 503, "timeout"])
    return Effect.gen(function*() {
      yield* interrupted
      expect(deliveries).toMatchObject([{ class: "interrupted", attempts: 1 }])
      const { play } = yield* testing.FakeHttpClient
      yield* play([{ status: 503, headers: { "retry-after": "0" } }, "timeout"])
      yield* interrupted
      expect(deliveries.slice(1)).toMatchObject([{ class: "interrupted", attempts: 2 }])
    }).pipe(Effect.provide(layer), quiet)
  })

  const never = { executeHead: () => Effect.never }
  it.effect.each<
    [string, (ours: ResilientHttpClient.Service) => ResilientHttpClient.Service]
  >([
    ["a client of the host's", (ours) => ({ ...ours, ...never })],
    ["what a host has put in the place of our client's way to send", (ours) => Object.assign(ours, never)]
  ])("%s", ([, change]) => {
    const { deliveries, over } = recorded([])
    const ours = Layer.provide(ResilientHttpClient.layer(), testing.scriptedClient([]))
    const changed = Layer.effect(
      ResilientHttpClient.ResilientHttpClient,
      Effect.map(ResilientHttpClient.ResilientHttpClient, change)
    )
    return Effect.gen(function*() {
      yield* interrupted
      expect(deliveries).toMatchObject([{ class: "interrupted", attempts: 0 }])
    }).pipe(Effect.provide(over(Layer.provide(changed, ours))), quiet)
  })

  it.effect("a sender of the host's", () => {
    const { config } = recorded([])
    const dispatcher = Layer.scoped(WebhookDispatcher.WebhookDispatcher, WebhookDispatcher.make()).pipe(
      Layer.provide(Layer.succeed(WebhookSender.WebhookSender, { send: () => Effect.never })),
      Layer.provide(Endpoints.layer),
      Layer.provide(config)
    )
    return Effect.provide(interrupted, dispatcher).pipe(quiet)
  })
})

it.effect.each(["client", "sender"] as const)("a host's mask around our %s, options and all, is one", (what) => {
  const { config } = recorded([])
  const script = testing.scriptedClient([{ status: 503, headers: { "retry-after": "5" } }, 204])
  const client = Layer.provideMerge(ResilientHttpClient.layer(), script)
  const masked = what === "client"
    ? Layer.effect(
      ResilientHttpClient.ResilientHttpClient,
      Effect.map(ResilientHttpClient.ResilientHttpClient, (ours) => ({
        ...ours,
        executeHead: ((request, options) =>
          Effect.uninterruptible(ours.executeHead(request, options))) as typeof ours.executeHead
      }))
    ).pipe(Layer.provide(client), (client) => Layer.provide(WebhookSender.layer(), client))
    : Layer.effect(
      WebhookSender.WebhookSender,
      Effect.map(WebhookSender.WebhookSender, (ours): WebhookSender.WebhookSender["Type"] => ({
        send: (...args) => Effect.uninterruptible(ours.send(...args))
      }))
    ).pipe(Layer.provide(WebhookSender.layer()), Layer.provide(client))
  const dispatcher = Layer.scoped(WebhookDispatcher.WebhookDispatcher, WebhookDispatcher.make()).pipe(
    Layer.provide(masked),
    Layer.provide(Endpoints.layer),
    Layer.provide(config)
  )
  return Effect.gen(function*() {
    const fiber = yield* Effect.forkDaemon(dispatch)
    yield* TestClock.adjust("1 second")
    yield* Fiber.interruptFork(fiber)
    yield* TestClock.adjust("1 second")
    expect(fiber.unsafePoll()).toBeNull()
    yield* TestClock.adjust("1 minute")
    expect(fiber.unsafePoll()).not.toBeNull()
  }).pipe(Effect.provide(dispatcher), quiet)
})

it.effect("a mask's restore is put around retries once, however many: each time would leave something on the fiber's stack", () =>
  Effect.gen(function*() {
    const { executeHead } = yield* ResilientHttpClient.ResilientHttpClient
    let times = 0
    const options: ResilientHttpClient.ExecuteHeadOptions = {
      url: "https://a.example.com/",
      restore: (effect) => {
        times++
        return effect
      }
    }
    const request = Effect.succeed(HttpClientRequest.post(options.url, { headers: { "idempotency-key": "k" } }))
    const fiber = yield* Effect.fork(Effect.uninterruptible(executeHead(request, options)))
    yield* TestClock.adjust("1 minute")
    expect((yield* Fiber.join(fiber)).attempts).toBe(4)
    expect(times).toBe(1)
  }).pipe(
    Effect.provide(Layer.provide(ResilientHttpClient.layer(), testing.scriptedClient([503, 503, 503, 200]))),
    quiet
  ))

it.effect("a dispatch that is interrupted before its request is made makes none, and counts none", () => {
  const { attempts, deliveries, layer } = recorded([200])
  // As quick as this one is only by chance.
  const interrupting = spans((name) => {
    if (name === "ResilientHttpClient.attempt") {
      Option.getOrThrow(Fiber.getCurrentFiber()).unsafeInterruptAsFork(FiberId.none)
    }
  })
  return Effect.gen(function*() {
    const fiber = yield* Effect.forkDaemon(Effect.provide(dispatch, interrupting.layer))
    yield* TestClock.adjust("1 second")
    expect(Exit.isInterrupted(yield* Fiber.await(fiber))).toBe(true)
    expect(deliveries).toMatchObject([{ class: "interrupted", attempts: 0 }])
    expect(attempts).toEqual([])
    expect(yield* Effect.flatMap(testing.FakeHttpClient, ({ count }) => count)).toBe(0)
  }).pipe(Effect.provide(layer), quiet)
})
