/** `POST /v1/events`: one event or many, all or none. */
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type EnqueueError, Outbox } from "../../outbox/Outbox.js"
import * as Message from "../../webhooks/Message.js"
import * as WebhookEvent from "../../webhooks/WebhookEvent.js"
import type { ApiError } from "../ApiError.js"
import type * as S from "../ApiSchemas.js"
import { fromService, refusal } from "./failures.js"
import { Readiness } from "./readiness.js"
import * as RequestBody from "./requestBody.js"
import * as Views from "./views.js"

/** Most events of a request. */
export const maxEvents = 1000

/** Most characters of the key of an array: `#999` must fit behind it. */
const maxArrayKey = 250

type Answer = Effect.Effect<typeof S.EnqueuedList.Type, ApiError>

/** Makes the handler. It succeeds once the events have been committed. */
export const enqueue: Effect.Effect<
  (request: HttpServerRequest.HttpServerRequest, key: string | undefined) => Answer,
  never,
  Outbox | Readiness
> = Effect.map(Effect.all([Outbox, Readiness]), ([outbox, { watch }]) => {
  const one = (input: unknown, key: string | undefined): Answer =>
    WebhookEvent.decodeInput(input).pipe(
      Effect.flatMap((event) => watch(outbox.enqueue(event, { idempotencyKey: key }))),
      Effect.mapBoth({
        onFailure: (error) => fromService(error),
        onSuccess: (enqueued) => ({ messages: [Views.enqueued(enqueued)] })
      })
    )

  const many = (inputs: ReadonlyArray<unknown>, key: string | undefined): Answer =>
    Effect.gen(function*() {
      if (inputs.length === 0 || inputs.length > maxEvents) {
        return yield* refusal(`an array holds 1 to ${maxEvents} events; send more in further requests`)
      }
      if (key !== undefined && key.length > maxArrayKey) {
        return yield* refusal(`must be at most ${maxArrayKey} characters for an array of events`, "Idempotency-Key")
      }
      const events = yield* Effect.forEach(inputs, (input, index) =>
        Effect.mapError(WebhookEvent.decodeInput(input), (error) => fromService(error, `[${index}]`)))
      const enqueued = yield* watch(outbox.enqueueAll(events.map((event, index) => ({
        event,
        idempotencyKey: key === undefined ? undefined : `${key}#${index}`
      })))).pipe(
        Effect.catchAll((error) =>
          Effect.flatMap(find(events, error), (index) =>
            fromService(
              error,
              Option.match(index, {
                onNone: () =>
                  "",
                onSome: (at) => `[${at}]`
              })
            ))
        )
      )
      return { messages: enqueued.map(Views.enqueued) }
    })

  return (request, key) =>
    Effect.flatMap(RequestBody.json(request), (body) => Array.isArray(body) ? many(body, key) : one(body, key))
})

// --- internal

/** Which of the events an error is about; of most the outbox doesn't say. */
const find = (
  events: ReadonlyArray<WebhookEvent.WebhookEvent>,
  error: EnqueueError
): Effect.Effect<Option.Option<number>> => {
  const first = (wrong: (event: WebhookEvent.WebhookEvent) => Effect.Effect<boolean>) =>
    Effect.findFirst(events.keys(), (index) => wrong(events[index]!))
  switch (error._tag) {
    case "PayloadTooLarge":
      return first((event) =>
        Effect.isFailure(Message.toMessage(event, [error.format ?? "event"], { maxBytes: error.limit }))
      )
    case "UnserializableEvent":
    case "InvalidEvent":
      return first((event) => Effect.isFailure(Message.toMessage(event, [])))
    case "OutboxUnavailable":
      return Effect.succeed(events.length === 1 ? Option.some(0) : Option.none())
    case "IdempotencyConflict":
      return Effect.succeed(Option.fromNullable(error.index))
    default:
      return Effect.succeed(Option.none())
  }
}
