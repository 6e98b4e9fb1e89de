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
  return answered(
    dispatcher,
    new Exchange(request, terms, {
      origin: target.origin,
      path: target.path,
      method: request.method,
      headers: flat(request.headers, terms.headers),
      body: bytes,
      // Time is ours to keep.
      headersTimeout: 0,
      bodyTimeout: 0
    })
  )
}

// --- internal

/**
 * In a function of its own: `async` and `interruptible` keep what is in its scope until the next full collection (see `Masking`). An `async` with a finalizer of its
 * own would take nine more steps of the fiber.
 */
const answered = (dispatcher: Undici.Dispatcher, exchange: Exchange): Effect.Effect<Reply, Failure> =>
  Effect.matchCauseEffect(
    Effect.interruptible(Effect.async<Reply, Failure>((resume) => exchange.begin(dispatcher, resume))),
    {
      onFailure: (cause) => {
        exchange.giveUp()
        return Effect.failCause(cause)
      },
      onSuccess: Effect.succeed
    }
  )

/** Names and values by turns, which is how undici takes them in the shortest time (a spread of two such objects took 10 µs). */
const flat = (headers: Fields, added: Fields): Array<string> => {
  const fields: Array<string> = []
  for (const name of Object.keys(headers)) if (!(name in added)) fields.push(name, headers[name]!)
  for (const name of Object.keys(added)) fields.push(name, added[name]!)
  return fields
}

type Fields = Readonly<Record<string, string>>

type Failure = Ended | HttpClientError.HttpClientError

/** What an exchange is about, for as long as it is under way. */
interface Work {
  readonly request: HttpClientRequest.HttpClientRequest
  readonly terms: Terms
  readonly options: Undici.Dispatcher.DispatchOptions
}

/** One request and its answer, as undici tells of it. */
class Exchange extends Abandonable implements Undici.Dispatcher.DispatchHandler {
  /** `undefined`: it is over. */
  private work: Work | undefined
  private resume: ((effect: Effect.Effect<Reply, Failure>) => void) | undefined
  private deadline: Deadlines.Deadline | undefined
  private startedAt = 0
  private head: Pick<Reply, "headers" | "status"> | undefined
  private sink: Body.Sink | undefined
  private most = 0
  private isComplete = false

  constructor(
    request: HttpClientRequest.HttpClientRequest,
    terms: Terms,
    options: Undici.Dispatcher.DispatchOptions
  ) {
    super()
    this.work = { request, terms, options }
  }

  begin(dispatcher: Undici.Dispatcher, resume: (effect: Effect.Effect<Reply, Failure>) => void): void {
    const { work } = this
    if (work === undefined) return
    this.resume = resume
    this.startedAt = Deadlines.monotonic(work.terms.clock)
    this.limit(work.terms, work.terms.time)
    try {
      dispatcher.dispatch(work.options, this)
    } catch (cause) {
      this.onError(cause)
    }
  }

  /** Nobody waits any more. */
  giveUp(): void {
    if (this.work === undefined) return
    // The connection of a complete answer may have its next request by now.
    this.end(this.isComplete)
  }

  onHeaders(status: number, raw: Array<Buffer>): boolean {
    const { work } = this
    // An interim answer.
    if (status < 200 || work === undefined) return true
    const headers = Headers.fromInput(Undici.util.parseHeaders(raw))
    this.head = { status, headers }
    const { terms } = work
    const { capture, time, whole } = terms
    if (whole === undefined || !isOk(status)) {
      this.deadline?.cancel()
      this.sink = new Body.Sink(capture.keepBytes)
      this.most = Body.mostOf(headers, capture.readBytes)
      terms.onHead(status, headers)
      // Mostly the body is there with the head, and is over before anybody could wait for it.
      queueMicrotask(() => {
        if (this.work === undefined || this.isComplete) return
        const left = time - (Deadlines.monotonic(terms.clock) - this.startedAt)
        this.limit(terms, Math.max(0, Math.min(capture.time, left)))
      })
    } else {
      this.sink = new Body.Sink(whole)
      this.most = Body.mostOf(headers, whole)
    }
    return true
  }

  onData(chunk: Buffer): boolean {
    if (this.work !== undefined && this.sink!.take(chunk) > this.most) this.settle(this.work, false)
    return this.work !== undefined
  }

  onComplete(): void {
    if (this.work === undefined) return
    this.isComplete = true
    this.deadline?.cancel()
    // undici gives the connection back a turn after the body's end: a request made before that opens a second one. Its turn is asked for after this returns.
    queueMicrotask(() => {
      // eslint-disable-next-line no-restricted-globals -- a turn, and no time
      setImmediate(() => {
        if (this.work !== undefined) this.settle(this.work, true)
      })
    })
  }

  onError(cause: unknown): void {
    const { work } = this
    if (work === undefined) return
    if (this.isAnswered(work)) return this.settle(work, false)
    this.end(true)?.(
      Effect.fail(new HttpClientError.RequestError({ request: work.request, reason: "Transport", cause }))
    )
  }

  /** Gives the answer with what has come of its body; a connection with more of it is closed. */
  private settle({ terms }: Work, complete: boolean): void {
    const { headers, status } = this.head!
    const { bytes, complete: isWhole } = this.sink!.body(complete)
    const isAnswer = terms.whole === undefined || !isOk(status)
    this.end(complete)?.(
      isAnswer || isWhole ? Effect.succeed({ status, headers, bytes, complete: isWhole }) : Effect.fail("TooLarge")
    )
  }

  /** Whether there is a head, and that is all that counts. */
  private isAnswered({ terms }: Work): boolean {
    return this.head !== undefined && (terms.whole === undefined || !isOk(this.head.status))
  }

  private limit({ clock }: Terms, time: number): void {
    // No function of a property: see `answered`.
    this.deadline = Deadlines.set(clock, time, () => this.outOfTime())
  }

  private outOfTime(): void {
    const { work } = this
    if (work === undefined) return
    if (this.isAnswered(work)) return this.settle(work, false)
    this.end(false)?.(Effect.fail("OutOfTime"))
  }

  /** Takes leave of all that it is about; gives who waits for it. */
  private end(isIdle: boolean): Exchange["resume"] {
    const { resume } = this
    this.work = undefined
    this.deadline?.cancel()
    if (!isIdle) this.abandon()
    this.forget()
    this.resume = undefined
    this.deadline = undefined
    this.head = undefined
    this.sink = undefined
    return resume
  }
}
