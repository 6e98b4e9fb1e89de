/**
 * One request to its answer, within its time: what the resilient client needs of the client below it. Made from any `HttpClient`, and, where that is our own over an
 * undici dispatcher, from the dispatcher itself (see `dispatcherTransport`).
 */
import type * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { constTrue } from "effect/Function"
import * as Option from "effect/Option"
import * as CorrelationId from "../../CorrelationId.js"
import type { Within } from "../../Surroundings.js"
import * as Body from "./body.js"
import { currentAttempt } from "./currentAttempt.js"
import * as Deadlines from "./deadlines.js"

/** The bounds of one exchange; times in milliseconds, sizes in bytes. */
export interface Terms {
  /** For the complete head, and for the body where the whole of it is wanted. */
  readonly time: number
  /** Most of a 2xx answer's body, which must come whole; `undefined`: what can be had of it. */
  readonly whole: number | undefined
  /** What is taken of a body that need not come whole: see `Body.capture`. */
  readonly capture: Body.Limits
  readonly clock: Clock.Clock
  /** Headers to be added to those of the request. */
  readonly headers: Readonly<Record<string, string>>
  /** What a client that isn't ours finds as `currentAttempt`, … */
  readonly attempt: number
  /** … as its correlation id, … */
  readonly correlationId: string
  /** … and around it. */
  readonly within: Within
  /** Told of the complete head at once: whatever happens afterwards, it has been an answer. */
  readonly onHead: (status: number, headers: Headers.Headers) => void
}

/** An answer. */
export interface Reply extends Body.Body {
  readonly status: number
  readonly headers: Headers.Headers
}

/** Ends without an answer: its time was over, or the body that must come whole is longer than it may be. */
export type Ended = "OutOfTime" | "TooLarge"

/** Sends a request and waits for its answer, once; interruptible, even where its caller isn't. */
export type Transport = (
  request: HttpClientRequest.HttpClientRequest,
  terms: Terms
) => Effect.Effect<Reply, Ended | HttpClientError.HttpClientError>

/** The transport of a client. */
export const of = (client: HttpClient.HttpClient): Transport => own.get(client) ?? ofClient(client)

/** Says that a client is but another face of a transport. */
export const register = (client: HttpClient.HttpClient, transport: Transport): HttpClient.HttpClient => {
  own.set(client, transport)
  return client
}

/** Whether a status tells of success. */
export const isOk = (status: number): boolean => status >= 200 && status < 300

/** The transport of a client that we know nothing of. */
export const ofClient = (client: HttpClient.HttpClient): Transport => (request, terms) =>
  Effect.interruptible(Effect.suspend(() => {
    const { clock } = terms
    const until = Deadlines.monotonic(clock) + terms.time
    /** Whose body still waits to be read. */
    let unread: HttpClientResponse.HttpClientResponse | undefined
    const answered = execute(client, request, terms).pipe(
      Effect.flatMap((response): Effect.Effect<Reply, Ended | HttpClientError.HttpClientError> => {
        unread = response
        if (terms.whole === undefined || !isOk(response.status)) {
          terms.onHead(response.status, response.headers)
          return Effect.succeed(toReply(response, noBody))
        }
        return Effect.flatMap(Body.buffer(response, terms.whole), (body) => {
          unread = undefined
          if (!body.complete) return Effect.fail("TooLarge" as const)
          terms.onHead(response.status, response.headers)
          return Effect.succeed(toReply(response, body))
        })
      })
    )
    return Deadlines.within(answered, terms.time, () => "OutOfTime" as const).pipe(
      Effect.flatMap((reply) => {
        const response = unread
        unread = undefined
        if (response === undefined) return Effect.succeed(reply)
        const time = Math.min(terms.capture.time, until - Deadlines.monotonic(clock))
        return Effect.map(Body.capture(response, { ...terms.capture, time }), (body) => toReply(response, body))
      }),
      Effect.ensuring(Effect.suspend(() => unread === undefined ? Effect.void : Body.discard(unread)))
    )
  }))

// --- internal

const own = new WeakMap<HttpClient.HttpClient, Transport>()

const noBody: Body.Body = { bytes: new Uint8Array(), complete: false }

const toReply = (response: HttpClientResponse.HttpClientResponse, body: Body.Body): Reply => ({
  status: response.status,
  headers: response.headers,
  ...body
})

const execute = (
  client: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest,
  { attempt, correlationId, headers, within }: Terms
): Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError> =>
  client.execute(HttpClientRequest.setHeaders(request, headers)).pipe(
    // The client would put the whole URL and all headers into a span of its own, and its texts into the log of a fiber that fails.
    Effect.locally(HttpClient.currentTracerDisabledWhen, constTrue),
    Effect.locally(currentAttempt, attempt),
    CorrelationId.withCorrelationId(correlationId),
    within,
    Effect.withUnhandledErrorLogLevel(Option.none()),
    // A client that filters statuses by itself gives the answer inside an error.
    Effect.catchTag(
      "ResponseError",
      (error) => error.reason === "StatusCode" ? Effect.succeed(error.response) : Effect.fail(error)
    )
  )
