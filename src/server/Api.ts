/**
 * The HTTP API as a description: paths, what goes in and out, errors. `ApiServer` serves it; `HttpApiClient.make(Api)` of @effect/platform makes a
 * client of it, and `OpenApi.fromApi(Api)` the document that is served at `/openapi.json`.
 */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { version } from "../webhooks/Version.js"
import * as ApiError from "./ApiError.js"
import * as S from "./ApiSchemas.js"

const errors = {
  conflict: ApiError.answering(409),
  fault: ApiError.answering(500),
  notFound: ApiError.answering(404),
  shape: ApiError.answering(422),
  tooLarge: ApiError.answering(413),
  type: ApiError.answering(415),
  unavailable: ApiError.answering(503)
}

const messagePath = Schema.Struct({ messageId: S.Name })
const deliveryPath = Schema.Struct({ deliveryId: S.DeliveryId })
const endpointPath = Schema.Struct({ endpointId: S.Name })

const describe = (summary: string, description?: string) => OpenApi.annotations({ summary, description })

/** `POST /v1/events`. */
const events = HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.post("enqueue", "/v1/events")
      .setHeaders(Schema.Struct({
        "idempotency-key": Schema.optional(Schema.String.pipe(Schema.pattern(/^[!-~]{1,255}$/)))
      }))
      .setPayload(S.EventsInput)
      .addSuccess(S.EnqueuedList, { status: 202 })
      .addError(errors.conflict)
      .addError(errors.tooLarge)
      .addError(errors.type)
      .addError(errors.shape)
      .annotateContext(describe(
        "Hand in events",
        "One event, or up to 1 000 in an array: all of them are stored or none. Answered once they have been committed.\n\n" +
          "Sent again with the same Idempotency-Key (1 to 255 visible ASCII characters) or the same event `id`, nothing more is stored and the " +
          "first message comes back with `duplicate: true`; with another type or content the answer is 409. The key of an array (at most 250 " +
          "characters) stands for the request: its n-th element, from 0, has the key `<key>#<n>`, so send the same elements in the same order again. " +
          "Each element is compared with what was stored under its own key: the first part of an array comes back as duplicates, a longer array stores " +
          "what it has more, and one with another element at a place is refused as a whole with 409."
      ))
  )
  .annotateContext(OpenApi.annotations({ description: "Events, on their way in." }))

const messages = HttpApiGroup.make("messages")
  .add(
    HttpApiEndpoint.get("show", "/v1/messages/:messageId")
      .setPath(messagePath)
      .addSuccess(S.Message)
      .addError(errors.notFound)
      .annotateContext(describe("Show a message", "What was stored of an event, and its deliveries."))
  )
  .annotateContext(OpenApi.annotations({ description: "Events that were stored." }))

const deliveries = HttpApiGroup.make("deliveries")
  .add(
    HttpApiEndpoint.get("list", "/v1/deliveries")
      .setUrlParams(Schema.Struct({
        state: Schema.optional(S.State),
        endpoint: Schema.optional(S.Name),
        type: Schema.optional(Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9_.-]{1,128}$/))),
        cursor: Schema.optional(Schema.String.pipe(Schema.pattern(/^[!-~]{1,256}$/))),
        limit: Schema.optional(
          Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 1000)).annotations({
            jsonSchema: { type: "integer", minimum: 1, maximum: 1000, default: 50 }
          })
        )
      }))
      .addSuccess(S.DeliveryPage)
      .addError(errors.shape)
      .annotateContext(describe("List deliveries", "Newest first; `next` is the `cursor` of the page that follows."))
  )
  .add(
    HttpApiEndpoint.get("show", "/v1/deliveries/:deliveryId")
      .setPath(deliveryPath)
      .addSuccess(S.DeliveryDetails)
      .addError(errors.notFound)
      .annotateContext(describe("Show a delivery", "With its attempts, in `history`."))
  )
  .add(
    HttpApiEndpoint.post("replay", "/v1/deliveries/:deliveryId/replay")
      .setPath(deliveryPath)
      .addSuccess(S.Delivery)
      .addError(errors.notFound)
      .addError(errors.conflict)
      .addError(errors.tooLarge)
      .addError(errors.type)
      .addError(errors.shape)
      .annotateContext(describe(
        "Send a delivery again",
        "The same message with the same `webhook-id`. A pending one is due at once, a delivered one gets one more attempt, the schedule of an " +
          "exhausted or discarded one starts again. 409: its endpoint is disabled."
      ))
  )
  .add(
    HttpApiEndpoint.post("cancel", "/v1/deliveries/:deliveryId/cancel")
      .setPath(deliveryPath)
      .addSuccess(S.Delivery)
      .addError(errors.notFound)
      .addError(errors.conflict)
      .addError(errors.tooLarge)
      .addError(errors.type)
      .addError(errors.shape)
      .annotateContext(describe(
        "Take a delivery back",
        "A pending one becomes discarded (`cancelled`). 409: it has ended, or an attempt is under way."
      ))
  )
  .annotateContext(OpenApi.annotations({ description: "One message to one endpoint." }))

const endpoints = HttpApiGroup.make("endpoints")
  .add(
    HttpApiEndpoint.get("list", "/v1/endpoints")
      .addSuccess(S.EndpointList)
      .annotateContext(describe("List endpoints", "The configured ones, and those that the database remembers."))
  )
  .add(
    HttpApiEndpoint.post("test", "/v1/endpoints/:endpointId/test")
      .setPath(endpointPath)
      .addSuccess(S.TestReport)
      .addError(errors.notFound)
      .addError(errors.tooLarge)
      .addError(errors.type)
      .annotateContext(describe(
        "Send a test event",
        "One request with a `webhook.test` event, at once; nothing is stored. How it fared is in `outcome`: the answer is 200 in any case."
      ))
  )
  .add(
    HttpApiEndpoint.post("enable", "/v1/endpoints/:endpointId/enable")
      .setPath(endpointPath)
      .addSuccess(S.Endpoint)
      .addError(errors.notFound)
      .addError(errors.tooLarge)
      .addError(errors.type)
      .addError(errors.shape)
      .annotateContext(describe("Enable an endpoint", "Its circuit, its pause and its failures are forgotten."))
  )
  .add(
    HttpApiEndpoint.post("disable", "/v1/endpoints/:endpointId/disable")
      .setPath(endpointPath)
      .setPayload(S.DisableInput)
      .addSuccess(S.Endpoint)
      .addError(errors.notFound)
      .addError(errors.tooLarge)
      .addError(errors.type)
      .addError(errors.shape)
      .annotateContext(describe("Disable an endpoint", "Its deliveries wait until it is enabled."))
  )
  .add(
    HttpApiEndpoint.post("recover", "/v1/endpoints/:endpointId/recover")
      .setPath(endpointPath)
      .setPayload(S.RecoverInput)
      .addSuccess(S.Recovery, { status: 202 })
      .addError(errors.notFound)
      .addError(errors.conflict)
      .addError(errors.tooLarge)
      .addError(errors.type)
      .addError(errors.shape)
      .annotateContext(describe(
        "Send failed deliveries again",
        "All exhausted and discarded deliveries of the endpoint that ended between `since` and `until`, but for those that were cancelled. It is durable: should the server stop, it " +
          "goes on where it was. A long one is answered before it is through (`done: false`)."
      ))
  )
  .annotateContext(OpenApi.annotations({ description: "Places that events are delivered to." }))

const stats = HttpApiGroup.make("stats")
  .add(
    HttpApiEndpoint.get("show", "/v1/stats")
      .addSuccess(S.Stats)
      .annotateContext(describe("Count deliveries", "By state and by endpoint."))
  )
  .annotateContext(OpenApi.annotations({ description: "Counts." }))

const health = HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("live", "/health/live")
      .addSuccess(S.Healthy)
      .annotateContext(describe("Whether the process answers"))
  )
  .add(
    HttpApiEndpoint.get("ready", "/health/ready")
      .addSuccess(S.Healthy)
      .annotateContext(describe("Whether the database answers", "503 if it doesn't within two seconds."))
  )
  .annotateContext(OpenApi.annotations({ description: "For load balancers and orchestrators. Needs no token." }))

/** The HTTP API. */
export const Api = HttpApi.make("effect-webhooks")
  .add(events)
  .add(messages)
  .add(deliveries)
  .add(endpoints)
  .add(stats)
  .add(health)
  .addError(errors.unavailable)
  .addError(errors.fault)
  .annotateContext(OpenApi.annotations({
    title: "effect-webhooks",
    version,
    description:
      "Hand in events, see what became of them, and step in. Times are RFC 3339, ids are opaque, a member that has nothing to say is " +
      "left out; new members may come, so ignore what you don't know. `X-Correlation-ID` is taken from the request, or made up, and is on every answer.",
    transform: (document) => complete(document)
  }))

// --- internal

type Document = Record<string, unknown>

/** What HttpApi can't say of itself: who must show a token, and which errors there really are. */
const complete = (document: Document): Document => {
  const { components, paths } = document as {
    readonly components: { readonly schemas: Document; readonly securitySchemes: Document }
    readonly paths: Record<string, Record<string, { security: unknown; responses: Record<string, unknown> }>>
  }
  components.securitySchemes["bearer"] = { type: "http", scheme: "bearer" }
  const refusal = (description: string) => ({
    description,
    content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } }
  })
  for (const [path, operations] of Object.entries(paths)) {
    const open = path.startsWith("/health/")
    for (const operation of Object.values(operations)) {
      operation.security = open ? [] : [{ bearer: [] }]
      // HttpApi answers what it can't decode with a 400 of its own; the server replaces it.
      operation.responses["400"] = refusal(ApiError.statuses[400])
      operation.responses["403"] = refusal(ApiError.statuses[403])
      for (const status of open ? [] : [401, 429] as const) {
        operation.responses[status] = refusal(ApiError.statuses[status])
      }
    }
  }
  delete components.schemas["HttpApiDecodeError"]
  delete components.schemas["Issue"]
  return { ...document, security: [{ bearer: [] }] }
}
