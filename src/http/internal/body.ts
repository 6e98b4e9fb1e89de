/**
 * Reading what a stranger answers, within bounds. A body that is read to its end leaves its connection free for the next
 * request; one that isn't has its socket destroyed (ending the stream early aborts the exchange).
 */
import type * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { within } from "./deadlines.js"
import { turn } from "./turn.js"

/** Bytes of a body. */
export interface Body {
  readonly bytes: Uint8Array
  /** Whether `bytes` is all of it. */
  readonly complete: boolean
}

/** What is taken of a body: so many bytes are kept, so many read at most, for at most so many milliseconds. */
export interface Limits {
  readonly keepBytes: number
  readonly readBytes: number
  readonly time: number
}

/** Reads a body best-effort. Never fails. */
export const capture = (
  response: HttpClientResponse.HttpClientResponse,
  limits: Limits
): Effect.Effect<Body> =>
  Effect.suspend(() => {
    if (isBodiless(response)) return Effect.as(turn, noBody)
    const sink = new Sink(limits.keepBytes)
    return within(read(response, sink, limits.readBytes), Math.max(0, limits.time), () => "OutOfTime").pipe(
      Effect.orElseSucceed(() => false),
      Effect.map((complete) => sink.body(complete))
    )
  })

/** Reads a whole body, up to `maxBytes`; `complete` is false when it is longer. A body that breaks off fails. */
export const buffer = (
  response: HttpClientResponse.HttpClientResponse,
  maxBytes: number
): Effect.Effect<Body, HttpClientError.ResponseError> =>
  Effect.suspend(() => {
    if (isBodiless(response)) return Effect.as(turn, noBody)
    const sink = new Sink(maxBytes)
    return Effect.map(read(response, sink, maxBytes), (complete) => sink.body(complete))
  })

/** Lets go of a body that nobody will read: its socket is destroyed, unless it was over anyway. */
export const discard = (response: HttpClientResponse.HttpClientResponse): Effect.Effect<void> =>
  isBodiless(response)
    ? Effect.void
    : Effect.ignore(Effect.raceFirst(Effect.interruptible(unlogged(Stream.runDrain(response.stream))), turn))

/** Bytes to read of a body at most. One that is known not to fit would only keep the socket busy: one look, and no more. */
export const mostOf = (headers: Readonly<Record<string, string | undefined>>, maxBytes: number): number =>
  Number(headers["content-length"] ?? NaN) > maxBytes ? 0 : maxBytes

/** The chunks of a body, of which the first bytes are kept. */
export class Sink {
  private readonly chunks: Array<Uint8Array> = []
  private kept = 0
  private total = 0
  private readonly most: number

  constructor(most: number) {
    this.most = most
  }

  /** Takes a chunk and tells how many bytes have come in all. */
  take(chunk: Uint8Array): number {
    if (this.kept < this.most) {
      const part = chunk.subarray(0, this.most - this.kept)
      this.chunks.push(part)
      this.kept += part.length
    }
    return this.total += chunk.length
  }

  body(complete: boolean): Body {
    const bytes = this.chunks.length === 0 ? empty : Buffer.concat(this.chunks)
    return { bytes, complete: complete && this.total === this.kept }
  }
}

// --- internal

const empty = new Uint8Array()

const noBody: Body = { bytes: new Uint8Array(), complete: true }

/** An answer that can have no body (RFC 9110 §6.4.1): it is over with its head, and setting up a stream would cost more than all else. */
const isBodiless = (response: HttpClientResponse.HttpClientResponse): boolean =>
  response.status === 204 || response.status === 304 || response.headers["content-length"] === "0"

/** Whether the body ended within `maxBytes`. */
const read = (
  response: HttpClientResponse.HttpClientResponse,
  sink: Sink,
  maxBytes: number
): Effect.Effect<boolean, HttpClientError.ResponseError> => {
  const most = mostOf(response.headers, maxBytes)
  return response.stream.pipe(
    Stream.runFoldWhile(true, (fits) => fits, (_, chunk) => sink.take(chunk) <= most),
    unlogged,
    Effect.catchIf((error) => error.reason === "EmptyBody", () => Effect.succeed(true)),
    Effect.tap((complete) => complete ? turn : Effect.void)
  )
}

/** A stream is run by a fiber of its own, whose failure would be logged at level DEBUG: with the whole URL in it, and the texts of undici. */
const unlogged = Effect.withUnhandledErrorLogLevel(Option.none())
