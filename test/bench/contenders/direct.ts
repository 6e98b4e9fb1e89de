/** Ways to deliver one event to one endpoint over HTTP: bare, from stock parts, with a well-known client or breaker, and through the library. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Cockatiel from "cockatiel"
import {
  EgressDispatcher,
  EgressPolicy,
  ResilientHttpClient,
  WebhookConfig,
  WebhookDispatcher,
  WebhookEvent
} from "effect-webhooks"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { got } from "got"
import { createHmac, randomUUID } from "node:crypto"
import { Agent, type Dispatcher } from "undici"
import type { Contender, Contenders } from "../contending.js"

export interface Setup {
  readonly url: string
  /** Characters of text in each event, beside ten items. */
  readonly characters: number
  /** Endpoints that get events by turns; one by default. */
  readonly endpoints?: number
}

/** In flight at a time: what the library gives one endpoint by default, and what all. */
const concurrencyOf = ({ endpoints = 1 }: Setup): number => Math.min(64, 10 * endpoints)

const secret = "bench-secret-of-more-than-sixteen-bytes"

const dataOf = ({ characters }: Setup) => ({
  items: Array.from({ length: 10 }, (_, n) => ({ sku: `sku-${n}`, price: n * 1.5 })),
  note: "x".repeat(characters)
})

/** `count` deliveries, some at a time. */
const loop = async (setup: Setup, count: number, one: () => Promise<unknown>): Promise<void> => {
  let left = count
  await Promise.all(Array.from({ length: concurrencyOf(setup) }, async () => {
    while (left-- > 0) await one()
  }))
}

/** The same by as many fibers. (`Effect.forEach` makes a fiber for each, and keeps them all.) */
const effectLoop = <E, R>(
  setup: Setup,
  count: number,
  one: Effect.Effect<unknown, E, R>
): Effect.Effect<void, E, R> => {
  let left = count
  const concurrency = concurrencyOf(setup)
  const some = Effect.whileLoop({ while: () => left-- > 0, body: () => one, step: () => undefined })
  return Effect.all(Array.from({ length: concurrency }, () => some), { concurrency, discard: true })
}

/** An event encoded and signed once: what every contender but the library does by hand. */
const signed = (data: unknown): { readonly body: Buffer; readonly headers: Record<string, string> } => {
  const body = Buffer.from(
    JSON.stringify({ event_type: "Bench", data, aggregate_id: null, occurred_at: new Date().toISOString() })
  )
  const id = `msg_${randomUUID()}`
  const timestamp = String(Math.floor(Date.now() / 1000))
  const signature = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest("base64")
  return {
    body,
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": `v1,${signature}`
    }
  }
}

const target = (url: string) => ({ origin: new URL(url).origin, path: new URL(url).pathname, method: "POST" } as const)

/** One after the other, over and over. */
const turns = <A>(all: ReadonlyArray<A>): () => A => {
  let n = 0
  return () => all[n++ % all.length]!
}

const failUnless2xx = (status: number): void => {
  if (status < 200 || status > 299) throw new Error(`status ${status}`)
}

/** undici's own `dispatch`, which all its other calls are made of. */
const dispatch = (agent: Agent, options: Dispatcher.DispatchOptions): Promise<void> =>
  new Promise((resolve, reject) => {
    let status = 0
    agent.dispatch(options, {
      onConnect() {},
      onHeaders(code) {
        status = code
        return true
      },
      onData: () => true,
      onComplete() {
        if (status >= 200 && status < 300) resolve()
        else reject(new Error(`status ${status}`))
      },
      onError: reject
    })
  })

const request = async (agent: Agent, options: Dispatcher.RequestOptions): Promise<void> => {
  const { body, statusCode } = await agent.request(options)
  await body.dump()
  failUnless2xx(statusCode)
}

const undici = (setup: Setup): Contender => {
  const agent = new Agent()
  const data = dataOf(setup)
  const next = turns(Array.from({ length: setup.endpoints ?? 1 }, (_, n) => target(`${setup.url}e${n}`)))
  return { run: (count) => loop(setup, count, () => dispatch(agent, { ...next(), ...signed(data) })) }
}

const undiciRequest = (setup: Setup): Contender => {
  const agent = new Agent()
  const data = dataOf(setup)
  const to = target(setup.url)
  return { run: (count) => loop(setup, count, () => request(agent, { ...to, ...signed(data) })) }
}

const cockatiel = (setup: Setup): Contender => {
  const agent = new Agent()
  const data = dataOf(setup)
  const to = target(setup.url)
  const policy = Cockatiel.wrap(
    Cockatiel.retry(Cockatiel.handleAll, { maxAttempts: 3, backoff: new Cockatiel.ExponentialBackoff() }),
    Cockatiel.circuitBreaker(Cockatiel.handleAll, {
      halfOpenAfter: 30_000,
      breaker: new Cockatiel.SamplingBreaker({ threshold: 0.5, duration: 30_000 })
    }),
    Cockatiel.timeout(10_000, Cockatiel.TimeoutStrategy.Aggressive)
  )
  return {
    run: (count) =>
      loop(setup, count, () => {
        const made = signed(data)
        return policy.execute(({ signal }) => request(agent, { ...to, ...made, signal }))
      })
  }
}

const gotLoop = (setup: Setup): Contender => {
  const data = dataOf(setup)
  const client = got.extend({ timeout: { request: 10_000 }, retry: { limit: 3, methods: ["POST"] } })
  return {
    run: (count) =>
      loop(setup, count, async () => {
        const { body, headers } = signed(data)
        failUnless2xx((await client.post(setup.url, { body, headers })).statusCode)
      })
  }
}

/** The platform's own parts: a client that fails on bad statuses, a timeout, retries. */
const stock = (setup: Setup): Contender => {
  const runtime = ManagedRuntime.make(NodeHttpClient.layerUndici)
  const data = dataOf(setup)
  const one = Effect.flatMap(HttpClient.HttpClient, (client) => {
    const { body, headers } = signed(data)
    return client.pipe(
      HttpClient.filterStatusOk,
      HttpClient.transformResponse(Effect.timeout("10 seconds")),
      HttpClient.retryTransient({ times: 3 })
    ).execute(HttpClientRequest.post(setup.url, { headers, body: HttpBody.uint8Array(body, "application/json") })).pipe(
      Effect.flatMap((response) => response.text)
    )
  })
  return {
    run: (count) => runtime.runPromise(effectLoop(setup, count, one)),
    close: () => runtime.dispose()
  }
}

/** The library with everything on: guard, breaker, budget, deadline, timeouts, both signatures, metrics, logs at warning. */
const library = (setup: Setup): Contender => {
  const loopback = "127.0.0.1"
  const types = Array.from({ length: setup.endpoints ?? 1 }, (_, n) => `Bench${n}`)
  const config = Object.fromEntries(types.map((type, n) => [type, [{ url: `${setup.url}e${n}`, secret }]]))
  const runtime = ManagedRuntime.make(
    WebhookDispatcher.layer().pipe(
      Layer.provide(ResilientHttpClient.layer()),
      Layer.provide(WebhookConfig.layer(config, { allow: loopback })),
      Layer.provide(EgressDispatcher.layerHttpClient()),
      Layer.provide(EgressPolicy.layer({ allow: Either.getOrThrow(EgressPolicy.parseRules(loopback)) }))
    )
  )
  const data = dataOf(setup)
  const next = turns(types)
  const one = Effect.flatMap(
    WebhookDispatcher.WebhookDispatcher,
    ({ dispatch }) =>
      Effect.flatMap(WebhookEvent.make({ type: next(), data }), dispatch).pipe(
        Effect.filterOrDieMessage(
          ({ deliveries }) => deliveries[0]?.outcome === "delivered",
          "a delivery of the benchmark failed"
        )
      )
  )
  return {
    run: (count) =>
      runtime.runPromise(
        Logger.withMinimumLogLevel(effectLoop(setup, count, one), LogLevel.Warning)
      ),
    close: () => runtime.dispose()
  }
}

export const contenders: Contenders<Setup> = {
  undici,
  "undici-request": undiciRequest,
  cockatiel,
  got: gotLoop,
  stock,
  "effect-webhooks": library
}
