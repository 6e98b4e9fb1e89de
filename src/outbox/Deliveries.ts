/**
 * The stored deliveries: what became of each, and what a person may do about it. Everything here reads or changes rows; requests are made by the
 * worker.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Record from "effect/Record"
import { Endpoints } from "../webhooks/Endpoints.js"
import {
  type DeliveryEnded,
  type DeliveryLeased,
  type DeliveryNotFound,
  EndpointDisabled,
  type InvalidCursor,
  type MessageNotFound,
  type RecoveryUnderWay
} from "./DeliveriesError.js"
import * as Changing from "./internal/changing.js"
import * as Counting from "./internal/counting.js"
import type { Attempt, Delivery } from "./internal/deliveryRows.js"
import * as Purging from "./internal/purging.js"
import * as Reading from "./internal/reading.js"
import * as Recovering from "./internal/recovering.js"
import { asId } from "./internal/storable.js"
import type { OutboxUnavailable } from "./OutboxError.js"
import { OutboxSchema } from "./Schema.js"

export {
  DeliveryEnded,
  DeliveryLeased,
  DeliveryNotFound,
  EndpointDisabled,
  InvalidCursor,
  MessageNotFound,
  RecoveryUnderWay
} from "./DeliveriesError.js"
export type { EndpointStats, Stats } from "./internal/counting.js"
export type { Attempt, Delivery, State } from "./internal/deliveryRows.js"
export type { Purged } from "./internal/purging.js"
export type { Filter, Page, StoredMessage } from "./internal/reading.js"

/** Where a page begins, and how long it is. */
export interface PageOptions {
  /** The `next` of the page before; absent: the newest. */
  readonly cursor?: string | undefined
  /** 1 to 1 000, and what is outside counts as the nearer of them; default 50. */
  readonly limit?: number | undefined
}

/** What is to be sent again. */
export interface RecoverOptions {
  readonly endpointId: string
  /** Deliveries that ended at this time or later: milliseconds since the epoch. */
  readonly since: number
  /** And at this time or earlier; default, and at most: now. */
  readonly until?: number | undefined
}

/** What has been kept for long enough. An infinite duration keeps for ever. */
export interface PurgeOptions {
  /** How long delivered ones are kept after their end, and messages that no endpoint wanted after they were stored. */
  readonly delivered: Duration.DurationInput
  /** How long exhausted and discarded ones are kept after their end. */
  readonly ended: Duration.DurationInput
  /** Deliveries (or messages) a transaction; default 1 000. */
  readonly batch?: number | undefined
}

/** Reads deliveries, and changes what is to become of them. */
export class Deliveries extends Context.Tag("effect-webhooks/Deliveries")<Deliveries, {
  /** A message with its bytes and its deliveries. */
  readonly message: (id: string) => Effect.Effect<Reading.StoredMessage, MessageNotFound | OutboxUnavailable>
  /** One delivery. */
  readonly get: (id: string) => Effect.Effect<Delivery, DeliveryNotFound | OutboxUnavailable>
  /** Deliveries, newest first, a page at a time; what is stored between two pages doesn't shift the later one. */
  readonly list: (
    filter?: Reading.Filter,
    page?: PageOptions
  ) => Effect.Effect<Reading.Page, InvalidCursor | OutboxUnavailable>
  /** The requests made for a delivery, oldest first. */
  readonly attempts: (
    deliveryId: string
  ) => Effect.Effect<ReadonlyArray<Attempt>, DeliveryNotFound | OutboxUnavailable>
  /** Counts by state and by endpoint. Takes time in proportion to what is stored: not for every request. */
  readonly stats: Effect.Effect<Counting.Stats, OutboxUnavailable>
  /**
   * Discards a pending delivery (reason `cancelled`); one that has been delivered and was to be sent once more is delivered as before. While an attempt is
   * under way it fails with `DeliveryLeased`: ask again.
   */
  readonly cancel: (
    id: string
  ) => Effect.Effect<Delivery, DeliveryEnded | DeliveryLeased | DeliveryNotFound | OutboxUnavailable>
  /**
   * Sends a delivery again: the same one, with the same `webhook-id` and bytes. A pending one is due now, and one that is being attempted stays as it is; a
   * delivered one gets one more attempt, whatever it comes to; an exhausted or discarded one begins its schedule anew. Never are two attempts of one
   * delivery under way at once.
   */
  readonly replay: (id: string) => Effect.Effect<Delivery, DeliveryNotFound | EndpointDisabled | OutboxUnavailable>
  /**
   * Replays all deliveries to an endpoint that ended exhausted or discarded in a range of time, each once, and tells how many. Those that were cancelled stay so.
   * Durable: stopped half way, it is ended by a worker, or by asking again with the same `since` (then up to the moment at which it first began). Another
   * range meanwhile is `RecoveryUnderWay`. Disabling the endpoint halts it until that is enabled.
   */
  readonly recover: (
    options: RecoverOptions
  ) => Effect.Effect<{ readonly recovered: number }, EndpointDisabled | OutboxUnavailable | RecoveryUnderWay>
  /** One step (500 deliveries) of each `recover` that was stopped half way; tells how many deliveries it made due. For workers. */
  readonly resumeRecoveries: Effect.Effect<number, OutboxUnavailable>
  /** Removes deliveries whose retention has passed, their attempts, and messages that have none left; tells how many of each. */
  readonly purge: (options: PurgeOptions) => Effect.Effect<Purging.Purged, OutboxUnavailable>
}>() {}

/** Over the tables and the endpoints that are configured. */
export const make: Effect.Effect<Deliveries["Type"], never, Endpoints | OutboxSchema> = Effect.gen(function*() {
  const store = yield* OutboxSchema
  const endpoints = yield* Endpoints

  const disabledByConfiguration = (id: string): Effect.Effect<string | undefined> =>
    Effect.map(
      endpoints.get(id),
      (found) => Option.isSome(found) && !found.value.enabled ? "by the configuration" : undefined
    )

  return {
    message: (id) => span("message", { "webhook.message.id": id }, Reading.message(store, id)),
    get: (id) => span("get", { "webhook.delivery.id": id }, Reading.delivery(store, id)),
    list: (filter = {}, page = {}) =>
      span("list", {}, Reading.list(store, filter, page.cursor, within(page.limit, defaultLimit, 1000))),
    attempts: (id) => span("attempts", { "webhook.delivery.id": id }, Reading.attempts(store, id)),
    stats: span("stats", {}, Counting.stats(store, (id) => Effect.map(endpoints.get(id), Option.isSome))),
    cancel: (id) => span("cancel", { "webhook.delivery.id": id }, Changing.cancel(store, id)),
    replay: (id) => span("replay", { "webhook.delivery.id": id }, Changing.replay(store, id, disabledByConfiguration)),
    recover: ({ endpointId, since, until }) =>
      Effect.flatMap(disabledByConfiguration(endpointId), (reason) =>
        reason === undefined
          ? Recovering.recover(store, { endpointId, since, until })
          : Effect.fail(new EndpointDisabled({ endpointId, reason }))).pipe(
          Effect.map((recovered) => ({ recovered })),
          (effect) => span("recover", { "webhook.endpoint.id": endpointId }, effect)
        ),
    resumeRecoveries: Recovering.resume(store),
    purge: (options) => span("purge", {}, purge(store, options))
  }
})

/** Over the tables and the endpoints that are configured. */
export const layer: Layer.Layer<Deliveries, never, Endpoints | OutboxSchema> = Layer.effect(Deliveries, make)

// --- internal

const defaultLimit = 50

const within = (value: number | undefined, standard: number, most: number): number =>
  value === undefined || Number.isNaN(value) ? standard : Math.max(1, Math.min(most, Math.floor(value)))

const span = <A, E>(
  name: string,
  ids: Readonly<Record<string, string>>,
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.withSpan(effect, `Deliveries.${name}`, { captureStackTrace: false, attributes: Record.map(ids, asId) })

const purge = (
  store: OutboxSchema["Type"],
  { batch, delivered, ended }: PurgeOptions
): Effect.Effect<Purging.Purged, OutboxUnavailable> =>
  Effect.gen(function*() {
    const now = yield* store.now
    const size = within(batch, 1000, 10_000)
    const sum = { messages: 0, deliveries: 0 }
    const add = (purged: Purging.Purged): void => {
      sum.messages += purged.messages
      sum.deliveries += purged.deliveries
    }
    const before = (retention: Duration.DurationInput): number => Math.floor(now - Duration.toMillis(retention))
    if (Number.isFinite(before(delivered))) {
      add(yield* Purging.purgeDeliveries(store, "delivered", before(delivered), size))
      add(yield* Purging.purgeUnrouted(store, before(delivered), size))
    }
    if (Number.isFinite(before(ended))) {
      add(yield* Purging.purgeDeliveries(store, "exhausted", before(ended), size))
      add(yield* Purging.purgeDeliveries(store, "discarded", before(ended), size))
    }
    return sum
  })
