/**
 * The direct path: one event to every endpoint that wants it, from within the program, with retries in memory. What must survive a
 * crash goes through the outbox instead.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as PubSub from "effect/PubSub"
import * as Ref from "effect/Ref"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { defaults } from "../Defaults.js"
import * as Client from "../http/ResilientHttpClient.js"
import { isInterrupted } from "../Masking.js"
import * as Spans from "../Spans.js"
import type { Endpoint } from "./Endpoint.js"
import * as Endpoints from "./Endpoints.js"
import * as Background from "./internal/background.js"
import { describeEvent } from "./internal/describeEvent.js"
import * as Sending from "./internal/sending.js"
import * as Subscription from "./internal/subscription.js"
import * as Message from "./Message.js"
import type { WebhookConfig } from "./WebhookConfig.js"
import * as WebhookEvent from "./WebhookEvent.js"
import * as WebhookSender from "./WebhookSender.js"

export { BackgroundQueueFull, DispatcherClosed } from "./internal/background.js"

/** What became of one event. */
export interface DispatchReport {
  readonly messageId: string
  readonly eventType: string
  readonly correlationId: string
  /** One for each endpoint that wanted the event, in the order of the configuration; none: nobody did. */
  readonly deliveries: ReadonlyArray<WebhookSender.DeliveryReport>
}

/** What is wrong with an event itself; nothing was sent. */
export type InvalidMessage = Message.PayloadTooLarge | WebhookEvent.InvalidEvent | WebhookEvent.UnserializableEvent

/** Delivers events to the endpoints that want them. */
export class WebhookDispatcher extends Context.Tag("effect-webhooks/WebhookDispatcher")<WebhookDispatcher, {
  /** Delivers one event to every endpoint that wants it and reports each delivery; an endpoint's failure is never in the error channel. */
  readonly dispatch: (event: WebhookEvent.WebhookEvent) => Effect.Effect<DispatchReport, InvalidMessage>
  /**
   * Takes an event and returns before it is delivered; the outcome is in the logs. At most `backgroundQueue` events are under way at a time: when that many
   * are, `whenFull: "wait"` (the default) waits for a place and `"refuse"` fails with `BackgroundQueueFull`. When the program
   * stops, events under way get `grace` to end; what was not delivered is logged, one line for each delivery.
   */
  readonly dispatchInBackground: (
    event: WebhookEvent.WebhookEvent,
    options?: { readonly whenFull?: "refuse" | "wait" | undefined }
  ) => Effect.Effect<void, Background.BackgroundQueueFull | Background.DispatcherClosed | InvalidMessage>
  /**
   * For an event bus: takes a `WebhookEvent` or a domain event (see `WebhookEvent.fromDomain`) as `dispatchInBackground` does, and never fails: an event that
   * can't be sent is logged as `webhook_failed`.
   */
  readonly handler: (event: object) => Effect.Effect<void>
}>() {}

/** All optional. */
export interface Options extends WebhookSender.Options {
  /**
   * Deliveries of one event that are under way at the same time, those that wait for a slot or a retry included; default 1 000. Requests in flight are
   * the client's to limit.
   */
  readonly concurrency?: number | undefined
  /** Events under way in the background; default 1 000. */
  readonly backgroundQueue?: number | undefined
  /** Time that events in the background get to end when the program stops; default 10 seconds. */
  readonly grace?: Duration.DurationInput | undefined
  /** Most bytes of an encoded event; default 256 KiB. */
  readonly maxPayloadBytes?: number | undefined
  /** CloudEvents `source` of this program; see `Message.MessageOptions`. */
  readonly source?: string | undefined
}

/** Makes the dispatcher; its background work ends with the scope. */
export const make = (
  options: Options = {}
): Effect.Effect<
  WebhookDispatcher["Type"],
  never,
  Endpoints.Endpoints | Scope.Scope | WebhookSender.WebhookSender
> =>
  Effect.gen(function*() {
    const endpoints = yield* Endpoints.Endpoints
    const sender = yield* WebhookSender.WebhookSender
    const background = yield* Background.make({
      grace: Duration.decode(options.grace ?? defaults.grace),
      limit: options.backgroundQueue ?? defaults.backgroundQueue
    })
    const concurrency = options.concurrency ?? defaults.fanOut
    const messageOptions = { maxBytes: options.maxPayloadBytes, source: options.source }

    /** The message and who gets it; fails if the event can't be encoded. */
    const prepare = (event: WebhookEvent.WebhookEvent): Effect.Effect<Prepared, InvalidMessage> =>
      Effect.flatMap(endpoints.matching(event), (wanting) =>
        Effect.map(
          Message.toMessage(event, wanting.map((endpoint) => endpoint.format), messageOptions),
          (message) => ({ message, wanting, begun: new Set<Endpoint>() })
        ))

    /** `stopped`: done where it is interrupted. */
    const run = (
      { begun, message, wanting }: Prepared,
      stopped: Effect.Effect<void>
    ): Effect.Effect<DispatchReport> => {
      const { correlationId, eventType, id: messageId } = message
      return Spans.around("WebhookDispatcher.dispatch", {
        attributes: { messageId, eventType, correlationId, endpoints: wanting.length }
      }, (parent, fiber, restore) => {
        const begin = (endpoint: Endpoint, options: WebhookSender.SendOptions) => {
          begun.add(endpoint)
          return Sending.send(sender, message, endpoint, options)
        }
        const [only, ...others] = wanting
        // Where there is but one, a fiber of its own would only cost.
        const deliveries: Effect.Effect<WebhookSender.DeliveryReport | Array<WebhookSender.DeliveryReport>> =
          only !== undefined && others.length === 0
            ? begin(only, { parent, restore })
            : restore(
              Effect.forEach(wanting, (endpoint) => Effect.suspend(() => begin(endpoint, { parent })), { concurrency })
            )
        return Effect.matchCauseEffect(deliveries, {
          onFailure: (cause) =>
            Effect.zipRight(Cause.isInterruptedOnly(cause) ? stopped : Effect.void, Effect.failCause(cause)),
          onSuccess: (ended) => {
            const report = Effect.succeed({ messageId, eventType, correlationId, deliveries: Arr.ensure(ended) })
            // Nobody gets the report of an interrupted one: its span says so.
            return isInterrupted(fiber) ? restore(report) : report
          }
        })
      })
    }

    const dispatchInBackground: WebhookDispatcher["Type"]["dispatchInBackground"] = (event, { whenFull } = {}) =>
      Effect.flatMap(
        prepare(event),
        (prepared) =>
          background.start(run(prepared, Effect.void), whenFull ?? "wait", Effect.suspend(() => logUnbegun(prepared)))
      )

    return {
      dispatch: (event) =>
        Effect.flatMap(prepare(event), (prepared) => run(prepared, Effect.suspend(() => logUnbegun(prepared)))),
      dispatchInBackground,
      handler: (event) =>
        Effect.flatMap(toEvent(event), (event) => dispatchInBackground(event)).pipe(
          Effect.catchAll((error) => logUnusable(event, error.message)),
          // A fault in a host's `Endpoints` must not end the subscription that called.
          Effect.catchAllCause((cause) => logUnusable(event, "an unexpected fault", cause))
        )
    }
  })

/** The dispatcher over the resilient client and the configuration: see `ResilientHttpClient.layer` and `WebhookConfig.layer`. */
export const layer = (
  options: Options = {}
): Layer.Layer<WebhookDispatcher, never, Client.ResilientHttpClient | WebhookConfig> =>
  Layer.provide(layerWithoutEndpoints(options), Endpoints.layer)

/** The same for a host that brings its own `Endpoints` (its customers' endpoints in a database, say). */
export const layerWithoutEndpoints = (
  options: Options = {}
): Layer.Layer<WebhookDispatcher, never, Client.ResilientHttpClient | Endpoints.Endpoints> =>
  Layer.provide(Layer.scoped(WebhookDispatcher, make(options)), WebhookSender.layer(options))

/**
 * Hands every element of a stream or a `PubSub` to `handler`, as a layer. A `PubSub` is subscribed to before the layer is built, so what is published
 * after that is not missed. When the program stops, what was taken from the source (of a `PubSub`: all that is in the subscription) is handed over
 * first, within 10 seconds; what could not be is logged, one line each.
 */
export const subscribe: {
  <A extends object>(source: PubSub.PubSub<A>): Layer.Layer<never, never, WebhookDispatcher>
  <A extends object, E, R>(source: Stream.Stream<A, E, R>): Layer.Layer<never, never, WebhookDispatcher | R>
} = <A extends object, E, R>(
  source: PubSub.PubSub<A> | Stream.Stream<A, E, R>
): Layer.Layer<never, never, WebhookDispatcher | R> =>
  Layer.scopedDiscard(
    Effect.flatMap(WebhookDispatcher, ({ handler }) =>
      Stream.StreamTypeId in source
        ? Subscription.ofStream(source, handler)
        : Subscription.ofPubSub(source, handler))
  )

/** What `layerTest` has recorded. */
export class DispatchedEvents
  extends Context.Tag("effect-webhooks/WebhookDispatcher/DispatchedEvents")<DispatchedEvents, {
    /** All events so far, in order, in whichever way they were handed over. */
    readonly events: Effect.Effect<ReadonlyArray<WebhookEvent.WebhookEvent>>
  }>()
{}

/** A dispatcher that sends nothing and records events: for a user's own tests. Its reports have no deliveries. */
export const layerTest: Layer.Layer<DispatchedEvents | WebhookDispatcher> = Layer.effectContext(
  Effect.map(Ref.make<ReadonlyArray<WebhookEvent.WebhookEvent>>([]), (recorded) => {
    const dispatch: WebhookDispatcher["Type"]["dispatch"] = (event) =>
      Effect.flatMap(
        Message.toMessage(event, ["event"]),
        (message) =>
          Effect.as(Ref.update(recorded, (events) => [...events, event]), {
            messageId: message.id,
            eventType: message.eventType,
            correlationId: message.correlationId,
            deliveries: []
          })
      )
    return Context.make(DispatchedEvents, { events: Ref.get(recorded) }).pipe(
      Context.add(WebhookDispatcher, {
        dispatch,
        dispatchInBackground: (event) => Effect.asVoid(dispatch(event)),
        handler: (event) =>
          Effect.flatMap(toEvent(event), dispatch).pipe(
            Effect.catchAll((error) => logUnusable(event, error.message)),
            Effect.asVoid
          )
      })
    )
  })
)

// --- internal

interface Prepared {
  readonly message: Message.Message
  readonly wanting: ReadonlyArray<Endpoint>
  /** Those whose delivery has begun: what becomes of it is its sender's to tell. */
  readonly begun: Set<Endpoint>
}

/** What a bus carries as an event: one of ours, made or written by hand, or a domain event. */
const toEvent = (
  event: object
): Effect.Effect<WebhookEvent.WebhookEvent, WebhookEvent.InvalidEvent | WebhookEvent.UnserializableEvent> =>
  Effect.suspend(() =>
    WebhookEvent.isWebhookEvent(event) || (!("_tag" in event) && "type" in event && "data" in event)
      ? WebhookEvent.make(event as WebhookEvent.WebhookEvent)
      : WebhookEvent.fromDomain(event)
  )

const logUnusable = (event: object, error: string, cause?: Cause.Cause<never>): Effect.Effect<void> =>
  Effect.annotateLogs(
    cause === undefined ? Effect.logError("webhook_failed") : Effect.logError("webhook_failed", cause),
    {
      ...describeEvent(event),
      outcome: "rejected",
      error
    }
  )

const logUnbegun = ({ begun, message, wanting }: Prepared): Effect.Effect<void> =>
  Effect.forEach(
    wanting,
    (endpoint) =>
      begun.has(endpoint) ? Effect.void : Effect.annotateLogs(Effect.logError("webhook_failed"), {
        messageId: message.id,
        eventType: message.eventType,
        endpointId: endpoint.id,
        correlationId: message.correlationId,
        url: Client.safeUrl(endpoint.url),
        attempts: 0,
        outcome: "failed",
        class: "interrupted"
      }),
    { discard: true }
  )
