/**
 * undici's pool, and four things of its clients mended. One whose exchange is aborted connects once more, for nothing, and keeps that connection for ever
 * (nodejs/undici#5845); one that is still connecting when its request is aborted goes on with it (#386); it doesn't say whether a connection broke that had been
 * kept from an earlier request; and of an answer's head it doesn't count the first line, whose reason phrase may be of any length, while of each field beyond what it
 * allows it makes an error (13 000 of them in one piece took 0.4 s).
 */
import * as Undici from "@effect/platform-node/Undici"
import * as Data from "effect/Data"
import * as http from "node:http"
import type * as net from "node:net"

/** A pool of connections to one origin: an agent's `factory`. `connect` of its options is told by `signal` when nobody waits for it any more. */
export const makePool = (origin: string | URL, options: object): Undici.Dispatcher =>
  new Undici.Pool(origin, { ...options, factory: (origin, options) => new Client(origin, options as Settings) })

/**
 * A kept connection turned out to be closed when a request was written to it, and not a byte of an answer came. The peer most likely never
 * saw the request; certain it is not.
 */
export class StaleConnection extends Data.TaggedError("StaleConnection")<{ readonly cause: Error }> {}

/** A handler whose request can be given up at any time: while it is connecting, or under way. */
export class Abandonable {
  private abort: ((reason: Error) => void) | undefined
  private isAbandoned = false
  /** Ends the connecting, while the request waits for that. */
  whileWaiting: (() => void) | undefined

  abandon(): void {
    this.isAbandoned = true
    this.whileWaiting?.()
    this.abort?.(new Abandoned())
  }

  /** It is over: nothing of it is kept. */
  forget(): void {
    this.abort = undefined
    this.whileWaiting = undefined
  }

  onConnect(abort: (reason?: Error) => void): void {
    this.abort = abort
    if (this.isAbandoned) abort(new Abandoned())
  }
}

/** What is asked of a connector. */
export interface ConnectOptions extends Undici.buildConnector.Options {
  readonly signal?: AbortSignal | undefined
}

// --- internal

interface Settings extends Undici.Client.Options {
  readonly connect: Undici.buildConnector.connector
}

/** The request was given up. Not one of undici's "informational" errors: those make it connect again. */
class Abandoned extends Data.TaggedError("Abandoned") {
  readonly code = "UND_ERR_ABORTED"
}

/** The connection of a client: a pool gives each one request at a time. */
class Line {
  socket: net.Socket | undefined
  /** Answers that came to their end on this socket. */
  answers = 0
  /** Bytes that undici has been given of an answer's head; `undefined`: none is waited for. */
  head: number | undefined
  /** And of the interim answers before it. */
  interim = 0
  /** Most bytes of an answer's body that undici is given at a time. */
  piece = Infinity
  /** Ends the connecting, while there is any. */
  abandon: (() => void) | undefined
  private readonly connector: Undici.buildConnector.connector
  private readonly maxHead: number

  constructor(connector: Undici.buildConnector.connector, maxHead: number) {
    this.connector = connector
    this.maxHead = maxHead
  }

  /** Nobody waits for the connection any more. */
  readonly aborted = (): void => {
    this.abandon?.()
  }

  readonly connect: Undici.buildConnector.connector = (options, callback) => {
    const controller = new AbortController()
    const finish: Undici.buildConnector.Callback = (...result) => {
      if (controller.signal.aborted) {
        result[1]?.destroy()
        return
      }
      this.abandon = undefined
      this.socket = result[1] ?? undefined
      this.answers = 0
      if (this.socket !== undefined) this.ration(this.socket)
      callback(...result)
    }
    this.abandon = () => {
      finish(new Abandoned(), null)
      controller.abort()
    }
    const request: ConnectOptions = { ...options, signal: controller.signal }
    this.connector(request, finish)
  }

  /** Breaks the connection where a head is longer than it may be. */
  limit(head: number): void {
    if (head > this.maxHead) this.socket?.destroy(new Undici.errors.HeadersOverflowError())
  }

  /** undici reads all that there is: from now on it gets no more of a head than that may have, and then the connection breaks. */
  private ration(socket: net.Socket): void {
    const read = socket.read.bind(socket)
    socket.read = (size?: number): unknown => {
      if (size !== undefined || socket.readableLength === 0) return read(size)
      if (socket.destroyed) return null
      if (this.head === undefined) return read(Math.min(socket.readableLength, this.piece))
      const some = Math.min(socket.readableLength, this.maxHead - this.head)
      if (some <= 0) {
        socket.destroy(new Undici.errors.HeadersOverflowError())
        return null
      }
      this.head += some
      return read(some)
    }
  }
}

class Client extends Undici.Client {
  private readonly line: Line

  constructor(origin: URL, options: Settings) {
    const line = new Line(options.connect, options.maxHeaderSize ?? http.maxHeaderSize)
    super(origin, { ...options, connect: line.connect })
    this.line = line
  }

  override dispatch(options: Undici.Dispatcher.DispatchOptions, handler: Undici.Dispatcher.DispatchHandler): boolean {
    const signal: unknown = Reflect.get(options, "signal")
    return super.dispatch(options, new Exchange(this.line, handler, signal instanceof AbortSignal ? signal : undefined))
  }
}

/** One request and its answer. Agents hand clients handlers of this older form, whatever they were given themselves. */
class Exchange implements Undici.Dispatcher.DispatchHandler {
  private readonly line: Line
  private readonly handler: Undici.Dispatcher.DispatchHandler
  private readonly signal: AbortSignal | undefined
  private state: "waiting" | "starting" | "sent" | "answered" | "over" = "waiting"
  private reason: Error | undefined

  constructor(line: Line, handler: Undici.Dispatcher.DispatchHandler, signal: AbortSignal | undefined) {
    this.line = line
    this.handler = handler
    this.signal = signal
    signal?.addEventListener("abort", line.aborted)
    if (handler instanceof Abandonable) handler.whileWaiting = line.aborted
  }

  onConnect(abort: (reason?: Error) => void): void {
    this.waited()
    this.state = "starting"
    this.handler.onConnect?.((reason) => {
      if (this.state === "over") return
      // Nothing has been written yet: undici drops the request.
      if (this.state === "starting") return abort(reason)
      this.reason = reason
      this.line.socket?.destroy(new Abandoned())
    })
    if (this.state !== "starting") return
    this.state = "sent"
    this.line.head = 0
    this.line.interim = 0
  }

  onResponseStarted(): void {
    if (this.state === "sent") this.state = "answered"
    this.handler.onResponseStarted?.()
  }

  onUpgrade(...upgrade: Parameters<NonNullable<Undici.Dispatcher.DispatchHandler["onUpgrade"]>>): void {
    this.handler.onUpgrade?.(...upgrade)
  }

  onHeaders(...head: Parameters<NonNullable<Undici.Dispatcher.DispatchHandler["onHeaders"]>>): boolean {
    const [status, fields, , phrase] = head
    if (status < 200) {
      this.line.interim += this.line.head ?? 0
      this.line.head = 0
      this.line.limit(this.line.interim / mostInterim)
    } else {
      this.line.head = undefined
      // Behind chunks there may be trailers, however many in one piece.
      this.line.piece = fields.some(isTransferEncoding) ? smallPiece : Infinity
    }
    this.line.limit(fields.reduce((sum, { length }) => sum + length, phrase.length))
    return this.line.socket?.destroyed === true ? false : this.handler.onHeaders?.(...head) ?? true
  }

  onData(chunk: Buffer): boolean {
    return this.handler.onData?.(chunk) ?? true
  }

  onComplete(trailers: Array<string> | null): void {
    this.state = "over"
    this.line.answers++
    this.handler.onComplete?.(trailers)
  }

  onError(error: Error): void {
    this.line.head = undefined
    const isStale = this.state === "sent" && this.line.answers > 0 && broken.has(Reflect.get(error, "code"))
    this.state = "over"
    this.waited()
    this.handler.onError?.(this.reason ?? (isStale ? new StaleConnection({ cause: error }) : error))
  }

  private waited(): void {
    this.signal?.removeEventListener("abort", this.line.aborted)
    if (this.handler instanceof Abandonable) this.handler.whileWaiting = undefined
  }
}

/** Names stand at even places. */
const isTransferEncoding = (field: Buffer, at: number): boolean =>
  at % 2 === 0 && field.length === 17 && field.toString("latin1").toLowerCase() === "transfer-encoding"

/** Interim answers before an answer, in heads of the greatest length. */
const mostInterim = 4

/** Bytes: some hundred trailers, whose errors take 15 ms. */
const smallPiece = 2048

const broken: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"])
