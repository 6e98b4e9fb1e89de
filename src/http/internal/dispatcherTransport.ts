/** The transport over an undici dispatcher: its `dispatch`, which all its other calls are made of, without their promise, stream and `AbortController`. */
import * as Undici from "@effect/platform-node/Undici"
import * as Headers from "@effect/platform/Headers"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Effect from "effect/Effect"
import * as Body from "./body.js"
import * as Deadlines from "./deadlines.js"
import { Abandonable } from "./dispatching.js"
import { type Ended, isOk, type Reply, type Terms, type Transport } from "./transport.js"
import * as Urls from "./urls.js"

/** The transport; requests that it isn't made for (their body is a stream, say) take the `other` way. */
export const make = (dispatcher: Undici.Dispatcher, other: Transport): Transport => (request, terms) => {
  const target = Urls.parse(request.url)
  const { body } = request
  const bytes = body._tag === "Uint8Array" ? body.body : body._tag === "Empty" ? null : undefined
  if (target === undefined || bytes === undefined || request.urlParams.length > 0 || request.method === "HEAD") {
    return other(request, terms)
  }
  let exchange: Exchange | undefined
  const answered = Effect.async<Reply, Failure>((resume) => {
    exchange = new Exchange(request, terms, resume)
    exchange.begin(dispatcher, {
      origin: target.origin,
      path: target.path,
      method: request.method,
      headers: flat(request.headers, terms.headers),
      body: bytes,
      // Time is ours to keep.
      headersTimeout: 0,
      bodyTimeout: 0
    })
  })
  // An `async` with a finalizer of its own takes nine more steps of the fiber.
  return Effect.matchCauseEffect(Effect.interruptible(answered), {
    onFailure: (cause) => {
      exchange?.giveUp()
      return Effect.failCause(cause)
    },
    onSuccess: Effect.succeed
  })
}

// --- internal

/** Names and values by turns, which is how undici takes them in the shortest time (a spread of two such objects took 10 µs). */
const flat = (headers: Fields, added: Fields): Array<string> => {
  const fields: Array<string> = []
  for (const name of Object.keys(headers)) if (!(name in added)) fields.push(name, headers[name]!)
  for (const name of Object.keys(added)) fields.push(name, added[name]!)
  return fields
}

type Fields = Readonly<Record<string, string>>

type Failure = Ended | HttpClientError.HttpClientError

/** One request and its answer, as undici tells of it. */
class Exchange extends Abandonable implements Undici.Dispatcher.DispatchHandler {
  private readonly request: HttpClientRequest.HttpClientRequest
  private readonly terms: Terms
  private readonly resume: (effect: Effect.Effect<Reply, Failure>) => void
  private deadline: Deadlines.Deadline
  private readonly startedAt: number
  private head: Pick<Reply, "headers" | "status"> | undefined
  private sink: Body.Sink | undefined
  private most = 0
  private isOver = false
  private isComplete = false

  constructor(
    request: HttpClientRequest.HttpClientRequest,
    terms: Terms,
    resume: (effect: Effect.Effect<Reply, Failure>) => void
  ) {
    super()
    this.request = request
    this.terms = terms
    this.resume = resume
    this.startedAt = Deadlines.monotonic(terms.clock)
    this.deadline = Deadlines.set(terms.clock, terms.time, this.outOfTime)
  }

  begin(dispatcher: Undici.Dispatcher, options: Undici.Dispatcher.DispatchOptions): void {
    try {
      dispatcher.dispatch(options, this)
    } catch (cause) {
      this.onError(cause)
    }
  }

  /** Nobody waits any more. */
  giveUp(): void {
    if (this.isOver) return
    this.end()
    // The connection of a complete answer may have its next request by now.
    if (!this.isComplete) this.abandon()
  }

  onHeaders(status: number, raw: Array<Buffer>): boolean {
    // An interim answer.
    if (status < 200 || this.isOver) return true
    const headers = Headers.fromInput(Undici.util.parseHeaders(raw))
    this.head = { status, headers }
    const { capture, time, whole } = this.terms
    if (whole === undefined || !isOk(status)) {
      this.deadline.cancel()
      this.sink = new Body.Sink(capture.keepBytes)
      this.most = Body.mostOf(headers, capture.readBytes)
      this.terms.onHead(status, headers)
      // Mostly the body is there with the head, and is over before anybody could wait for it.
      queueMicrotask(() => {
        if (this.isOver || this.isComplete) return
        const left = time - (Deadlines.monotonic(this.terms.clock) - this.startedAt)
        this.deadline = Deadlines.set(this.terms.clock, Math.max(0, Math.min(capture.time, left)), this.outOfTime)
      })
    } else {
      this.sink = new Body.Sink(whole)
      this.most = Body.mostOf(headers, whole)
    }
    return true
  }

  onData(chunk: Buffer): boolean {
    if (!this.isOver && this.sink!.take(chunk) > this.most) this.settle(false)
    return !this.isOver
  }

  onComplete(): void {
    if (this.isOver) return
    this.isComplete = true
    this.deadline.cancel()
    // undici gives the connection back a turn after the body's end: a request made before that opens a second one. Its turn is asked for after this returns.
    queueMicrotask(() => {
      // eslint-disable-next-line no-restricted-globals
      setImmediate(() => this.settle(true))
    })
  }

  onError(cause: unknown): void {
    if (this.isOver) return
    if (this.head !== undefined && this.isAnswer()) return this.settle(false)
    this.end()
    this.resume(Effect.fail(new HttpClientError.RequestError({ request: this.request, reason: "Transport", cause })))
  }

  /** Gives the answer with what has come of its body; a connection with more of it is closed. */
  private settle(complete: boolean): void {
    if (this.isOver) return
    this.end()
    const { headers, status } = this.head!
    const body = this.sink!.body(complete)
    if (!complete) this.abandon()
    this.resume(
      this.isAnswer() || body.complete
        ? Effect.succeed({ status, headers, bytes: body.bytes, complete: body.complete })
        : Effect.fail("TooLarge")
    )
  }

  /** Whether the head is all that counts. */
  private isAnswer(): boolean {
    return this.terms.whole === undefined || !isOk(this.head!.status)
  }

  private readonly outOfTime = (): void => {
    if (this.isOver) return
    if (this.head !== undefined && this.isAnswer()) return this.settle(false)
    this.end()
    this.abandon()
    this.resume(Effect.fail("OutOfTime"))
  }

  private end(): void {
    this.isOver = true
    this.deadline.cancel()
  }
}
