/**
 * The body of a request: read once and within a bound, and only then as JSON, strictly. What isn't read is thrown away within a bound, too.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import type * as http from "node:http"
import { formatPath, maxDepth } from "../../webhooks/internal/encodeTree.js"
import * as JsonLosses from "../../webhooks/internal/jsonLosses.js"
import { ApiError } from "../ApiError.js"

/** Most bytes of a body. */
export const maxBytes = 1_048_576

/** What is said of a body over `maxBytes`. */
export const tooLarge = new ApiError({
  status: 413,
  code: "body_too_large",
  message: "the body is larger than 1 MiB (1,048,576 bytes); send fewer events at once"
})

/**
 * Why a body isn't read, by what the request says of it. One that posts must say JSON, wanted or not: a form of another site can't, and what has neither
 * body nor type may be a program's.
 */
export const check = (request: HttpServerRequest.HttpServerRequest): ApiError | undefined => {
  const { "content-length": length = "0", "content-type": type, "transfer-encoding": chunked } = request.headers
  if (Number(length) > maxBytes) return tooLarge
  const isThere = type !== undefined || chunked !== undefined || Number(length) > 0
  return request.method === "POST" && isThere && !isJson(request) ? otherType : undefined
}

/** The body as a JSON value. The request must say that it is JSON; the text must be UTF-8, and nothing in it may get lost by being read. */
export const json = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<unknown, ApiError> =>
  Effect.gen(function*() {
    if (!isJson(request)) return yield* otherType
    const text = yield* decode(yield* read(request))
    // An event's data may be as deep as an event may be, within an event within an array.
    if (JsonLosses.isDeeperThan(text, maxDepth + 2)) {
      return yield* new ApiError({ status: 422, code: "too_deep", message: `nested deeper than ${maxDepth} levels` })
    }
    const value = yield* parse(text)
    const loss = JsonLosses.find(text)
    if (loss === undefined) return value
    return yield* new ApiError({
      status: 422,
      code: "ambiguous_json",
      message: loss.problem,
      path: formatPath("", loss.path).replace(/^\./, "")
    })
  })

/** Says that the body of a request is waited for: some clients ask before they send one. Not asked: nothing. */
export const onContinue = (request: http.IncomingMessage, proceed: () => void): void => {
  asking.set(request, proceed)
}

/**
 * Throws away what a request still sends, since its answer is there already. A little is waited for, and the connection goes on. Beyond that the
 * answer is the last one, and the connection closes when the sender has seen it: closed at once, it would take the answer with it.
 */
export const discard = (request: http.IncomingMessage, response: http.ServerResponse): void => {
  if (request.complete) return
  if (asking.has(request)) {
    // Whether the body comes after all can't be known, so neither can where the next request would begin.
    response.shouldKeepAlive = false
    return
  }
  const { socket } = request
  const length = Number(request.headers["content-length"] ?? Infinity)
  if (length > 2 * maxBytes) {
    response.shouldKeepAlive = false
    // Node.js closes both directions with the last answer.
    socket.destroySoon = () => void socket.end()
  }
  let left = Math.min(length, maxBytes * 2)
  request.on("data", (chunk: Buffer) => {
    left -= chunk.length
    if (left >= 0) return
    request.pause()
    if (response.writableFinished) socket.destroy()
    else response.once("finish", () => socket.destroy())
  }).resume()
}

// --- internal

const asking = new WeakMap<http.IncomingMessage, () => void>()

const otherType = new ApiError({
  status: 415,
  code: "unsupported_media_type",
  message: "the body must be JSON in UTF-8, not compressed, and say so: Content-Type: application/json"
})

const isJson = (request: HttpServerRequest.HttpServerRequest): boolean => {
  const [type, ...parameters] = (request.headers["content-type"] ?? "").toLowerCase().split(";").map((part) =>
    part.trim()
  )
  const utf8 = parameters.every((parameter) => parameter === "" || /^charset="?utf-?8"?$/.test(parameter))
  const encoding = request.headers["content-encoding"]
  return type === "application/json" && utf8 && (encoding === undefined || encoding.toLowerCase() === "identity")
}

const read = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<Uint8Array, ApiError> =>
  Effect.async((resume) => {
    const source = NodeHttpServerRequest.toIncomingMessage(request)
    // One buffer that grows: a list of chunks would let a sender of one-byte chunks cost a hundred times its bytes.
    let kept = Buffer.alloc(0)
    let size = 0
    const onData = (chunk: Buffer) => {
      const end = size + chunk.length
      if (end > maxBytes) return done(Effect.fail(tooLarge))
      if (end > kept.length) kept = Buffer.concat([kept], Math.min(maxBytes, Math.max(end, kept.length * 2)))
      kept.set(chunk, size)
      size = end
    }
    const onEnd = () => done(Effect.succeed(kept.subarray(0, size)))
    const onBroken = () => done(Effect.fail(brokenOff))
    const stop = () => source.off("data", onData).off("end", onEnd).off("error", onBroken).off("close", onBroken)
    const done = (result: Effect.Effect<Uint8Array, ApiError>) => {
      stop()
      source.pause()
      resume(result)
    }
    source.on("data", onData).on("end", onEnd).on("error", onBroken).on("close", onBroken)
    const proceed = asking.get(source)
    if (proceed !== undefined) {
      asking.delete(source)
      proceed()
    }
    return Effect.sync(stop)
  })

const brokenOff = new ApiError({
  status: 400,
  code: "incomplete_body",
  message: "the body broke off before its end"
})

const notJson = (problem: string): ApiError =>
  new ApiError({ status: 400, code: "invalid_json", message: `the body ${problem}` })

const decode = (bytes: Uint8Array): Effect.Effect<string, ApiError> =>
  bytes.length === 0
    ? notJson("is empty; JSON is expected")
    : Effect.try({ try: () => utf8.decode(bytes), catch: () => notJson("is not UTF-8") })

// Its message quotes the text.
const parse = (text: string): Effect.Effect<unknown, ApiError> =>
  Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: () => notJson(text.startsWith("\uFEFF") ? "begins with a byte order mark" : "is not valid JSON")
  })

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
