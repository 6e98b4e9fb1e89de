/**
 * For tests, yours and ours: an `HttpClient` that answers by a script and records what it was asked. No network; time is the
 * `Clock`'s, so that a `TestClock` reaches every delay and timeout.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { HttpClient } from "@effect/platform"
 * import * as testing from "effect-webhooks/testing"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* HttpClient.HttpClient
 *   const first = yield* client.get("https://example.com/a")
 *   const second = yield* client.get("https://example.com/a")
 *   const fake = yield* testing.FakeHttpClient
 *   const requests = yield* fake.requests
 *   return [first.status, second.status, requests.length] // [503, 200, 2]
 * }).pipe(Effect.provide(testing.scriptedClient([503, 200])))
 * ```
 */
import type * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as ResilientHttpClient from "../http/ResilientHttpClient.js"

/** One answer. */
export interface Answer {
  /** A final HTTP status, 200 to 599. */
  readonly status: number
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly body?: string | Uint8Array | undefined
  /** Time before the head arrives; default none. */
  readonly delay?: Duration.DurationInput | undefined
}

/**
 * What the fake does with one request:
 * - a number: answers with that status and an empty body;
 * - an `Answer`;
 * - `"reset"`: the connection breaks after the request was written (`RequestError`, reason `Transport`, a cause with code `ECONNRESET`);
 * - `"refused"`: no connection comes about, so the request never left (`ECONNREFUSED`);
 * - `"timeout"`: never answers.
 */
export type Step = number | Answer | "reset" | "refused" | "timeout"

/**
 * Steps in the order of the requests; after the last one it repeats. Either one list for all requests, or a list a URL: a key is a
 * URL without its query, an origin, or `*` for all others, and each list advances by itself. An empty list answers 200.
 */
export type Script = ReadonlyArray<Step> | Readonly<Record<string, ReadonlyArray<Step>>>

/** What the fake was asked. */
export interface RecordedRequest {
  readonly method: string
  /** As it would have gone out, query included. */
  readonly url: string
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** The body read as UTF-8. */
  readonly text: string
  /** When the request was made: milliseconds of the `Clock`. */
  readonly at: number
  /** The attempt of the resilient client's call (1, 2, …); 0 when it was not the resilient client that asked. */
  readonly attempt: number
}

/** The fake behind the `HttpClient` of `scriptedClient`. */
export class FakeHttpClient extends Context.Tag("effect-webhooks/testing/FakeHttpClient")<FakeHttpClient, {
  /** The client itself. */
  readonly client: HttpClient.HttpClient
  /** The requests so far, oldest first: the last 10 000 of them. */
  readonly requests: Effect.Effect<ReadonlyArray<RecordedRequest>>
  /** How many requests there were in all. */
  readonly count: Effect.Effect<number>
  /** Replaces the script, from its beginning; what is recorded stays. */
  readonly play: (script: Script) => Effect.Effect<void>
}>() {}

/** A fake that answers by `script`. A request that no list of the script covers, or an impossible status, is a defect (`ScriptError`). */
export const make = (script: Script): Effect.Effect<FakeHttpClient["Type"]> =>
  Effect.sync(() => {
    const playing = Ref.unsafeMake<Playing>({ script, used: new Map() })
    const recorded = Ref.unsafeMake<Recorded>({ requests: Chunk.empty(), count: 0 })

    const client = HttpClient.make((request, url) =>
      Effect.gen(function*() {
        const at = yield* Clock.currentTimeMillis
        const attempt = yield* ResilientHttpClient.currentAttempt
        const body = yield* bytesOf(request)
        yield* Ref.update(recorded, ({ count, requests }) => ({
          count: count + 1,
          requests: Chunk.takeRight(
            Chunk.append(requests, {
              method: request.method,
              url: url.href,
              headers: { ...request.headers },
              body,
              text: new TextDecoder().decode(body),
              at,
              attempt
            }),
            mostRecorded
          )
        }))
        const step = yield* Ref.modify(playing, (state) => next(state, url))
        return yield* step === undefined
          ? Effect.die(
            new ScriptError({ message: `the script has no list for ${url.origin}${url.pathname}, nor one for *` })
          )
          : perform(request, step)
      })
    )

    return {
      client,
      requests: Effect.map(Ref.get(recorded), ({ requests }) => Chunk.toReadonlyArray(requests)),
      count: Effect.map(Ref.get(recorded), ({ count }) => count),
      play: (script) => Ref.set(playing, { script, used: new Map() })
    }
  })

/**
 * The fake as the program's `HttpClient`, and as `FakeHttpClient` for what it recorded. Put it under `ResilientHttpClient.layer`.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import * as ResilientHttpClient from "effect-webhooks/ResilientHttpClient"
 * import * as testing from "effect-webhooks/testing"
 *
 * const layer = Layer.provideMerge(
 *   ResilientHttpClient.layer({ retry: { jitter: 0 } }),
 *   testing.scriptedClient({
 *     "https://example.com/orders": [503, { status: 429, headers: { "retry-after": "10" } }, "reset", 200],
 *     "*": [200]
 *   })
 * )
 * ```
 */
export const scriptedClient = (script: Script): Layer.Layer<FakeHttpClient | HttpClient.HttpClient> =>
  Layer.effectContext(
    Effect.map(
      make(script),
      (fake) => Context.make(FakeHttpClient, fake).pipe(Context.add(HttpClient.HttpClient, fake.client))
    )
  )

/** A script that can't be played. */
export class ScriptError extends Data.TaggedError("ScriptError")<{ readonly message: string }> {}

// --- internal

const mostRecorded = 10_000

interface Playing {
  readonly script: Script
  /** Steps used, by list. */
  readonly used: ReadonlyMap<string, number>
}

interface Recorded {
  readonly requests: Chunk.Chunk<RecordedRequest>
  readonly count: number
}

/** The step for a request, `undefined` when no list covers it. */
const next = (state: Playing, url: URL): readonly [Step | undefined, Playing] => {
  const key = isList(state.script)
    ? "*"
    : [`${url.origin}${url.pathname}`, url.origin, "*"].find((key) => Object.hasOwn(state.script, key))
  const steps = isList(state.script) ? state.script : key === undefined ? undefined : state.script[key]
  if (key === undefined || steps === undefined) return [undefined, state]
  const used = state.used.get(key) ?? 0
  const step = steps[Math.min(used, steps.length - 1)] ?? 200
  return [step, { script: state.script, used: new Map(state.used).set(key, used + 1) }]
}

const isList = (script: Script): script is ReadonlyArray<Step> => Array.isArray(script)

const perform = (
  request: HttpClientRequest.HttpClientRequest,
  step: Step
): Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.RequestError> => {
  switch (step) {
    case "reset":
      return transport(request, "ECONNRESET", "read")
    case "refused":
      return transport(request, "ECONNREFUSED", "connect")
    case "timeout":
      return Effect.never
  }
  const { body, delay, headers, status }: Answer = typeof step === "number" ? { status: step } : step
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    return Effect.die(
      new ScriptError({ message: `a scripted status must be a whole number from 200 to 599, not ${status}` })
    )
  }
  const empty = body === undefined || status === 204 || status === 205 || status === 304
  const answer = Effect.sync(() =>
    HttpClientResponse.fromWeb(request, new Response(empty ? null : body, { status, headers: { ...headers } }))
  )
  // A sleep of nothing is a millisecond on a real clock.
  return delay === undefined ? answer : Effect.delay(answer, delay)
}

/** Fails as the clients of Node.js do: what they threw is the cause, with the code of the system. */
const transport = (
  request: HttpClientRequest.HttpClientRequest,
  code: string,
  syscall: string
): Effect.Effect<never, HttpClientError.RequestError> =>
  Effect.fail(
    new HttpClientError.RequestError({
      request,
      reason: "Transport",
      cause: Object.assign(new Error(`${syscall} ${code}`), { code, syscall })
    })
  )

const bytesOf = (
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<Uint8Array, HttpClientError.RequestError> => {
  const { body } = request
  switch (body._tag) {
    case "Empty":
      return Effect.succeed(new Uint8Array())
    case "Uint8Array":
      return Effect.succeed(body.body)
    case "Stream":
      return Stream.mapError(
        body.stream,
        (cause) => new HttpClientError.RequestError({ request, reason: "Encode", cause })
      ).pipe(
        Stream.runCollect,
        Effect.map((chunks) => Buffer.concat(Chunk.toReadonlyArray(chunks)))
      )
    case "Raw":
    case "FormData":
      return webBytes(request, body)
  }
}

const webBytes = (
  request: HttpClientRequest.HttpClientRequest,
  body: HttpBody.FormData | HttpBody.Raw
): Effect.Effect<Uint8Array, HttpClientError.RequestError> =>
  Effect.tryPromise({
    try: () =>
      new Response(body._tag === "FormData" ? body.formData : body.body as string | Uint8Array | Blob).arrayBuffer(),
    catch: (cause) => new HttpClientError.RequestError({ request, reason: "Encode", cause })
  }).pipe(Effect.map((buffer) => new Uint8Array(buffer)))
