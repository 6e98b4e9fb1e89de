/**
 * How each endpoint fares, as the whole fleet knows it: one row an endpoint, written by the workers. And what a person may do about it: disable, enable,
 * send a test.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Circuit from "../http/Circuit.js"
import * as ResilientHttpClient from "../http/ResilientHttpClient.js"
import type { Endpoint } from "../webhooks/Endpoint.js"
import { Endpoints } from "../webhooks/Endpoints.js"
import * as Message from "../webhooks/Message.js"
import * as WebhookEvent from "../webhooks/WebhookEvent.js"
import { type DeliveryReport, WebhookSender } from "../webhooks/WebhookSender.js"
import * as EndpointRows from "./internal/endpointRows.js"
import { asId, toStorable } from "./internal/storable.js"
import type { OutboxUnavailable } from "./OutboxError.js"
import { OutboxSchema } from "./Schema.js"

export { EndpointDisabled } from "./DeliveriesError.js"
export type { Disabled, DisabledBy } from "./internal/endpointRows.js"

/** How an endpoint fares. All times in milliseconds since the epoch. */
export interface Health {
  readonly id: string
  /** `Open`: nothing is sent until `opensAgainAt`; then one probe (`HalfOpen`) finds out whether it works again. */
  readonly circuit: Circuit.Circuit["_tag"]
  /** When an open circuit lets its probe through. */
  readonly opensAgainAt: number | undefined
  /** Until when it asked us to wait (`Retry-After`), if that is still to come. */
  readonly pausedUntil: number | undefined
  /**
   * Since when and why it gets nothing. By a 410 (`gone`) or `webhook-delivery: disable` (`receiver`): its deliveries are discarded. By an `operator`
   * or after five days of failures (`failing`): they wait.
   */
  readonly disabled: EndpointRows.Disabled | undefined
  /** Failures since the last success. */
  readonly consecutiveFailures: number
  readonly firstFailureAt: number | undefined
  readonly lastFailureAt: number | undefined
  /** To the second: of an endpoint without failures, successes are written once in that time. */
  readonly lastSuccessAt: number | undefined
  /** Whether this program knows it; one that it doesn't know gets nothing from here. */
  readonly configured: boolean
}

/** Something that an operator may want to know at once. */
export interface OperatorEvent {
  readonly type:
    | "delivery.exhausted"
    | "endpoint.blocked"
    | "endpoint.disabled"
    | "endpoint.enabled"
    | "endpoint.failing"
    | "endpoint.recovered"
  readonly endpointId: string
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly deliveryId?: string | undefined
  readonly messageId?: string | undefined
  /** In words, without secrets. */
  readonly reason?: string | undefined
}

/** How each endpoint fares, and what may be done about it. */
export class EndpointHealth extends Context.Tag("effect-webhooks/EndpointHealth")<EndpointHealth, {
  /** One endpoint: a configured one, or one of which something is stored. */
  readonly get: (id: string) => Effect.Effect<Health, EndpointNotFound | OutboxUnavailable>
  /** Every endpoint that is configured or of which something is stored, by id. */
  readonly list: Effect.Effect<ReadonlyArray<Health>, OutboxUnavailable>
  /**
   * Lets an endpoint's deliveries wait until it is enabled again; attempts under way end. `reason`: 1 000 characters at most are kept, without control characters. One that is
   * disabled already stays as it is.
   */
  readonly disable: (id: string, reason: string) => Effect.Effect<Health, EndpointNotFound | OutboxUnavailable>
  /** Enables an endpoint and forgets its failures, its pause and its open circuit: what waits is due at once. */
  readonly enable: (id: string) => Effect.Effect<Health, EndpointNotFound | OutboxUnavailable>
  /**
   * Sends a `webhook.test` event to a configured endpoint at once, in one attempt, whatever its state, and reports. Nothing is stored, and its health
   * isn't touched.
   */
  readonly test: (id: string) => Effect.Effect<DeliveryReport, EndpointNotFound>
  /** What happens, from the moment of subscription, in this process. A slow subscriber loses the oldest of 1 000. */
  readonly events: Stream.Stream<OperatorEvent>
  /** Tells of an event: to the subscribers, and in one log line of its name. */
  readonly publish: (event: OperatorEvent) => Effect.Effect<void>
}>() {}

/** Over the tables, the endpoints that are configured, and the sender. The events end with the scope. */
export const make: Effect.Effect<
  EndpointHealth["Type"],
  never,
  Endpoints | OutboxSchema | Scope.Scope | WebhookSender
> = Effect.gen(function*() {
  const store = yield* OutboxSchema
  const endpoints = yield* Endpoints
  const sender = yield* WebhookSender
  const events = yield* Effect.acquireRelease(PubSub.sliding<OperatorEvent>(1000), PubSub.shutdown)

  const tell = (event: OperatorEvent, level: Level): Effect.Effect<void> =>
    Effect.zipRight(log(event, level), Effect.asVoid(PubSub.publish(events, event)))

  const known = (id: string): Effect.Effect<Known, EndpointNotFound | OutboxUnavailable> =>
    Effect.flatMap(
      Effect.all([endpoints.get(id), EndpointRows.read(store, [id])]),
      ([found, rows]) => {
        const row = rows.get(id)
        const configured = Option.isSome(found)
        return configured || row !== undefined
          ? Effect.succeed({ row: row ?? EndpointRows.blank(id), configured })
          : Effect.fail(new EndpointNotFound({ id: asId(id) }))
      }
    )

  /** Changes a row under its lock. `f` gives the row as it came where there is nothing to change. */
  const change = (
    id: string,
    type: "endpoint.disabled" | "endpoint.enabled",
    f: (row: EndpointRows.EndpointRow, now: number) => EndpointRows.EndpointRow
  ): Effect.Effect<Health, EndpointNotFound | OutboxUnavailable> =>
    Effect.gen(function*() {
      const { configured } = yield* known(id)
      const [before, after, now] = yield* Effect.ensuring(
        store.transaction(Effect.gen(function*() {
          const now = yield* store.now
          const before = (yield* EndpointRows.lock(store, [id], now)).get(id) ?? EndpointRows.blank(id)
          const after = f(before, now)
          yield* EndpointRows.write(store, [after], now)
          // Woken for nothing, a worker finds nothing.
          yield* store.wake
          return [before, after, now] as const
        })),
        store.signal
      )
      if ((before.disabled === undefined) !== (after.disabled === undefined)) {
        // Whatever it is, somebody wanted it.
        yield* tell({ type, endpointId: id, at: now, reason: after.disabled?.reason }, Effect.logInfo)
      }
      return toHealth(after, configured, now)
    })

  return {
    events: Stream.fromPubSub(events),
    publish: (event) => tell(event, levels[event.type]),
    get: (id) => Effect.zipWith(known(id), store.now, ({ configured, row }, now) => toHealth(row, configured, now)),
    list: Effect.gen(function*() {
      const rows = new Map(yield* EndpointRows.readAll(store))
      const configured = new Set((yield* endpoints.list).map((endpoint) => endpoint.id))
      for (const id of configured) if (!rows.has(id)) rows.set(id, EndpointRows.blank(id))
      const now = yield* store.now
      return [...rows.values()].map((row) => toHealth(row, configured.has(row.id), now))
        .sort((left, right) => left.id < right.id ? -1 : 1)
    }),
    disable: (id, reason) =>
      span(
        "disable",
        id,
        change(id, "endpoint.disabled", (row, now) => ({
          ...row,
          disabled: row.disabled ?? { at: now, by: "operator", reason: toStorable(reason, longestReason) }
        }))
      ),
    enable: (id) =>
      span(
        "enable",
        id,
        change(id, "endpoint.enabled", (row) => ({
          ...row,
          circuit: Circuit.reset(row.circuit, settings),
          pausedUntil: undefined,
          disabled: undefined,
          consecutiveFailures: 0,
          firstFailureAt: undefined,
          lastFailureAt: undefined
        }))
      ),
    test: (id) =>
      span(
        "test",
        id,
        Effect.flatMap(
          endpoints.get(id),
          Option.match({
            onNone: () => Effect.fail(new EndpointNotFound({ id: asId(id) })),
            onSome: (endpoint) =>
              Effect.flatMap(
                testMessage(endpoint),
                (message) => ResilientHttpClient.withSingleAttempt(sender.send(message, endpoint), 1)
              )
          })
        )
      )
  }
})

/**
 * Over the tables, the endpoints that are configured, and the sender. Each build has events of its own, which a worker publishes to the one that it is built with:
 * to read them, provide this very value (not a second `Layer.fresh` or another `provide` in another build) to `DeliveryWorker.layer` and to who reads.
 */
export const layer: Layer.Layer<EndpointHealth, never, Endpoints | OutboxSchema | WebhookSender> = Layer.scoped(
  EndpointHealth,
  make
)

/** The endpoint is neither configured nor is anything of it stored (for `test`: not configured). */
export class EndpointNotFound
  extends Schema.TaggedError<EndpointNotFound>("effect-webhooks/EndpointNotFound")("EndpointNotFound", {
    id: Schema.String
  })
{
  override get message(): string {
    return `no endpoint ${
      /^[\w.-]{1,128}$/.test(this.id) ? this.id : "of such an id"
    } is known: check its id in the configuration`
  }
}

// --- internal

interface Known {
  readonly row: EndpointRows.EndpointRow
  readonly configured: boolean
}

const settings = Circuit.settings()

const longestReason = 1000

const span = <A, E>(name: string, endpointId: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.withSpan(effect, `EndpointHealth.${name}`, {
    captureStackTrace: false,
    attributes: { "webhook.endpoint.id": asId(endpointId) }
  })

const toHealth = (row: EndpointRows.EndpointRow, configured: boolean, now: number): Health => {
  const circuit = Circuit.advance(row.circuit, now, settings)
  return {
    id: row.id,
    circuit: circuit._tag,
    opensAgainAt: circuit._tag === "Open" ? circuit.until : undefined,
    pausedUntil: row.pausedUntil !== undefined && row.pausedUntil > now ? row.pausedUntil : undefined,
    disabled: row.disabled,
    consecutiveFailures: row.consecutiveFailures,
    firstFailureAt: row.firstFailureAt,
    lastFailureAt: row.lastFailureAt,
    lastSuccessAt: row.lastSuccessAt,
    configured
  }
}

type Level = (message: string) => Effect.Effect<void>

const log = ({ at: _, type, ...event }: OperatorEvent, level: Level): Effect.Effect<void> => {
  const annotations = Object.fromEntries(Object.entries(event).filter(([, value]) => value !== undefined))
  return Effect.annotateLogs(level(type), annotations)
}

const levels: Readonly<Record<OperatorEvent["type"], Level>> = {
  "delivery.exhausted": Effect.logError,
  "endpoint.blocked": Effect.logWarning,
  "endpoint.disabled": Effect.logError,
  "endpoint.enabled": Effect.logInfo,
  "endpoint.failing": Effect.logWarning,
  "endpoint.recovered": Effect.logInfo
}

const testMessage = (endpoint: Endpoint): Effect.Effect<Message.Message> =>
  WebhookEvent.make({
    type: "webhook.test",
    tenant: endpoint.tenant,
    data: { endpoint_id: endpoint.id, message: "A test: nothing has happened." }
  }).pipe(
    Effect.flatMap((event) => Message.toMessage(event, [endpoint.format])),
    Effect.orDie
  )
