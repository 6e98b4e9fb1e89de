/**
 * What every request passes on its way in and every answer on its way out: correlation id, span, access, the bound on what is under way, and the one
 * shape that errors have.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as HttpTraceContext from "@effect/platform/HttpTraceContext"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as CorrelationId from "../../CorrelationId.js"
import { ApiError } from "../ApiError.js"
import type * as Access from "./access.js"
import * as Failures from "./failures.js"
import * as RequestBody from "./requestBody.js"
import * as Routes from "./routes.js"

export interface Options {
  /** Asked of all but `/health/*`. */
  readonly mayAsk: Access.Check
  /** Asked of all but `/health/*` without a `Host`. */
  readonly mayReach: Access.Check
  /** Requests under way at one time; `/health/*` apart. */
  readonly maxInFlight: number
  readonly correlationHeader: string
}

/** Puts the gate before an app; no failure of the app gets through it. */
export const make = (options: Options): Effect.Effect<(app: HttpApp.Default<Failures.Foreseen>) => HttpApp.Default> =>
  Effect.map(Effect.makeSemaphore(options.maxInFlight), (slots) => {
    const header = options.correlationHeader.toLowerCase()
    const bounded = slots.withPermitsIfAvailable(1)

    // Who asks comes first, whatever is asked for: a stranger must not learn from the answer what there is.
    const refuse = (
      request: HttpServerRequest.HttpServerRequest,
      target: Routes.Target | undefined,
      route: Routes.Route | undefined
    ): ApiError | undefined => {
      const asked = { headers: request.headers, host: target?.authority ?? hostOf(request) }
      // HTTP/1.0 knows no `Host`, and probes still speak it; every request of a page has one.
      const nameless = asked.host === "" && isHealth(route) && !hasHost(request)
      const foreign = nameless ? undefined : options.mayReach(asked)
      if (foreign !== undefined) return foreign
      const stranger = isHealth(route) ? undefined : options.mayAsk(asked)
      if (stranger !== undefined) return stranger
      if (target === undefined) return badTarget
      return Routes.check(route, request.method, target.query) ?? RequestBody.check(request)
    }

    const pass = (
      app: HttpApp.Default<Failures.Foreseen>,
      refused: ApiError | undefined,
      route: Routes.Route | undefined
    ): HttpApp.Default<Failures.Foreseen> => {
      if (refused !== undefined) return Effect.fail(refused)
      return isHealth(route) ? app : Effect.flatMap(
        bounded(app),
        Option.match({
          onNone: () => Effect.fail(tooMany),
          onSome: (response) => Effect.succeed(response)
        })
      )
    }

    return (app) =>
      Effect.flatMap(
        HttpServerRequest.HttpServerRequest,
        (request) =>
          Effect.flatMap(CorrelationId.accept(request.headers[header]), (correlationId) => {
            const target = Routes.parse(request.url)
            const route = target === undefined ? undefined : Routes.find(target.path)
            const refused = refuse(request, target, route)
            return pass(app, refused, route).pipe(
              Effect.catchAllCause(answer),
              Effect.tap((response) => told(request, route, response)),
              Effect.tap(() =>
                Effect.sync(() =>
                  RequestBody.discard(
                    NodeHttpServerRequest.toIncomingMessage(request),
                    NodeHttpServerRequest.toServerResponse(request)
                  )
                )
              ),
              Effect.map((response) =>
                HttpServerResponse.setHeaders(response, {
                  ...headersOf(route, response),
                  [options.correlationHeader]: correlationId
                })
              ),
              Effect.withSpan("ApiServer.request", {
                captureStackTrace: false,
                kind: "server",
                // A stranger could write into traces that aren't theirs, and have all of it sampled.
                parent: refused === undefined
                  ? Option.getOrUndefined(HttpTraceContext.fromHeaders(request.headers))
                  : undefined,
                // Neither path nor query: what is asked for may be anything.
                attributes: { "http.request.method": request.method, "http.route": route?.pattern ?? "unknown" }
              }),
              CorrelationId.withCorrelationId(correlationId)
            )
          })
      )
  })

/** An error as an answer. */
export const respond = (error: ApiError): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.unsafeJson(error.body, { status: error.status, headers: error.headers ?? {} })

// --- internal

const hasHost = (request: HttpServerRequest.HttpServerRequest): boolean =>
  NodeHttpServerRequest.toIncomingMessage(request).headersDistinct["host"] !== undefined

// Of several, one that comes later might count for whoever passed the request on.
const hostOf = (request: HttpServerRequest.HttpServerRequest): string => {
  const [host = "", ...more] = NodeHttpServerRequest.toIncomingMessage(request).headersDistinct["host"] ?? []
  return more.length === 0 ? host : ""
}

const isHealth = (route: Routes.Route | undefined): boolean => route?.pattern.startsWith("/health/") === true

const answer = (cause: Cause.Cause<unknown>): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  const error = Failures.fromCause(cause)
  return error !== undefined
    ? Effect.succeed(respond(error))
    : Effect.as(Effect.logError("http_fault", cause), respond(Failures.fault))
}

const told = (
  request: HttpServerRequest.HttpServerRequest,
  route: Routes.Route | undefined,
  response: HttpServerResponse.HttpServerResponse
): Effect.Effect<void> => {
  const log = response.status === 503 && !isHealth(route) ? Effect.logWarning : Effect.logDebug
  return Effect.zipRight(
    Effect.annotateCurrentSpan("http.response.status_code", response.status),
    Effect.annotateLogs(log("http_request"), {
      method: request.method,
      route: route?.pattern ?? "unknown",
      status: response.status
    })
  )
}

const common = {
  "cache-control": "no-store",
  "cross-origin-resource-policy": "same-origin",
  "x-content-type-options": "nosniff"
}

// The reference page brings all of its own scripts and styles within itself, and nothing else has any business there.
const page = {
  ...common,
  "content-security-policy":
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer"
}

// Not of a refusal, which must not show what was asked for.
const headersOf = (route: Routes.Route | undefined, { status }: HttpServerResponse.HttpServerResponse) =>
  route?.pattern === "/docs" && status === 200 ? page : common

const badTarget = new ApiError({
  status: 400,
  code: "bad_target",
  message: "the path is not one: it begins with a slash, and what is percent-encoded in it is UTF-8"
})

const tooMany = new ApiError({
  status: 429,
  code: "too_many_requests",
  message: "too many requests are under way; try again in a second",
  headers: { "retry-after": "1" }
})
