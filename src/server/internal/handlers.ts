/** What each path of the API does: decode, ask the services, show what they say. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Deliveries } from "../../outbox/Deliveries.js"
import { EndpointHealth } from "../../outbox/EndpointHealth.js"
import { Endpoints } from "../../webhooks/Endpoints.js"
import { isRfc3339 } from "../../webhooks/internal/eventTime.js"
import { Api } from "../Api.js"
import { ApiError } from "../ApiError.js"
import * as S from "../ApiSchemas.js"
import { enqueue } from "./enqueuing.js"
import * as Failures from "./failures.js"
import * as Readiness from "./readiness.js"
import * as RequestBody from "./requestBody.js"
import { shared } from "./shared.js"
import * as Views from "./views.js"

const messages = HttpApiBuilder.group(
  Api,
  "messages",
  (handlers) =>
    Effect.map(
      Deliveries,
      (deliveries) => handlers.handle("show", ({ path }) => answered(deliveries.message(path.messageId), Views.message))
    )
)

const deliveries = HttpApiBuilder.group(Api, "deliveries", (handlers) =>
  Effect.map(Deliveries, (deliveries) =>
    handlers
      .handle("list", ({ urlParams: { cursor, endpoint, limit, state, type } }) =>
        answered(deliveries.list({ state, endpoint, type }, { cursor, limit }), ({ items, next }) => ({
          deliveries: items.map(Views.delivery),
          next
        })))
      .handle("show", ({ path: { deliveryId } }) =>
        answered(
          Effect.all([deliveries.get(deliveryId), deliveries.attempts(deliveryId)]),
          ([delivery, attempts]) => ({ ...Views.delivery(delivery), history: attempts.map(Views.attempt) })
        ))
      .handle("replay", ({ path }) => answered(deliveries.replay(path.deliveryId), Views.delivery))
      .handle("cancel", ({ path }) =>
        answered(deliveries.cancel(path.deliveryId), Views.delivery))))

const endpoints = HttpApiBuilder.group(Api, "endpoints", (handlers) =>
  Effect.gen(function*() {
    const deliveries = yield* Deliveries
    const endpoints = yield* Endpoints
    const health = yield* EndpointHealth
    const scope = yield* Effect.scope
    const shown = (one: Effect.Effect.Success<ReturnType<typeof health.enable>>) =>
      Effect.map(endpoints.get(one.id), (configured) => Views.endpoint(one, Option.getOrUndefined(configured)))
    return handlers
      .handle("list", () =>
        Effect.gen(function*() {
          const configured = new Map((yield* endpoints.list).map((endpoint) => [endpoint.id, endpoint]))
          return yield* answered(health.list, (all) => ({
            endpoints: all.map((one) => Views.endpoint(one, configured.get(one.id)))
          }))
        }))
      .handle("test", ({ path }) => answered(health.test(path.endpointId), Views.report))
      .handle("enable", ({ path }) => Effect.flatMap(answered(health.enable(path.endpointId)), shown))
      .handleRaw("disable", ({ path, request }) =>
        Effect.flatMap(body(request, S.DisableInput), ({ reason }) =>
          Effect.flatMap(answered(health.disable(path.endpointId, reason.trim())), shown)))
      .handleRaw("recover", ({ path: { endpointId }, request }) =>
        Effect.gen(function*() {
          const input = yield* body(request, S.RecoverInput)
          const since = yield* instant("since", input.since)
          const until = input.until === undefined ? undefined : yield* instant("until", input.until)
          if (until !== undefined && since > until) {
            return yield* Failures.refusal("lies after until", "since")
          }
          yield* answered(health.get(endpointId))
          // It outlives a client that doesn't wait; should the program stop, a worker goes on with it.
          const fiber = yield* Effect.forkIn(answered(deliveries.recover({ endpointId, since, until })), scope)
          const result = yield* Effect.timeoutOption(Fiber.join(fiber), patience)
          return Option.match(result, {
            onNone: () => ({ id: endpointId, done: false }),
            onSome: ({ recovered }) => ({ id: endpointId, done: true, recovered })
          })
        }))
  }))

const stats = HttpApiBuilder.group(
  Api,
  "stats",
  (handlers) =>
    Effect.map(Deliveries, (deliveries) => handlers.handle("show", () => answered(deliveries.stats, Views.stats)))
)

const health = (others: Effect.Effect<boolean>) =>
  HttpApiBuilder.group(Api, "health", (handlers) =>
    Effect.gen(function*() {
      const { check } = yield* Readiness.Readiness
      const statement = Effect.zipRight(
        check,
        Effect.filterOrFail(others, (ready) => ready, () => notReady)
      ).pipe(
        // What hangs is left behind: it may hang for as long as its socket does.
        Effect.disconnect,
        Effect.timeout("2 seconds"),
        Effect.mapBoth({ onFailure: () => notReady, onSuccess: () => ok })
      )
      // Whoever asks without a token asks the database at most this often.
      const ready = shared(statement, "500 millis")
      return handlers
        .handle("live", () => Effect.succeed(ok))
        .handle("ready", () => ready)
    }))

/** The whole API; `others`: whether what else makes it ready is. */
export const layer = (others: Effect.Effect<boolean>) =>
  Layer.mergeAll(
    HttpApiBuilder.group(
      Api,
      "events",
      (handlers) =>
        Effect.map(
          enqueue,
          (enqueue) =>
            handlers.handleRaw("enqueue", ({ headers, request }) => enqueue(request, headers["idempotency-key"]))
        )
    ),
    messages,
    deliveries,
    endpoints,
    stats,
    health(others)
  ).pipe(Layer.provide(Readiness.layer))

// --- internal

/** How long a recovery is waited for. */
const patience = "2 seconds"

const ok = { status: "ok" as const }

const notReady = new ApiError({
  status: 503,
  code: "not_ready",
  message: "not ready; try again later",
  headers: { "retry-after": "1" }
})

/** What a service says, as the API shows it. */
const answered: {
  <A, R>(effect: Effect.Effect<A, Failures.ServiceError, R>): Effect.Effect<A, ApiError, R>
  <A, B, R>(effect: Effect.Effect<A, Failures.ServiceError, R>, view: (value: A) => B): Effect.Effect<B, ApiError, R>
} = <A, R>(effect: Effect.Effect<A, Failures.ServiceError, R>, view: (value: A) => unknown = (value) => value) =>
  Effect.mapBoth(effect, { onFailure: (error) => Failures.fromService(error), onSuccess: view })

const body = <A, I>(
  request: HttpServerRequest.HttpServerRequest,
  schema: Schema.Schema<A, I>
): Effect.Effect<A, ApiError> =>
  Effect.flatMap(
    RequestBody.json(request),
    (json) =>
      Either.mapLeft(Schema.decodeUnknownEither(schema, { onExcessProperty: "error" })(json), Failures.fromParseError)
  )

const instant = (name: string, text: string): Effect.Effect<number, ApiError> =>
  // JavaScript knows no leap seconds.
  isRfc3339(text)
    ? Effect.succeed(DateTime.toEpochMillis(DateTime.unsafeMake(text.toUpperCase().replace(/:60(?=[.Z+-])/, ":59"))))
    : Effect.fail(Failures.shape(name))
