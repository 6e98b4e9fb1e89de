/**
 * What a person may do to one delivery: send it again, or call it off. The row is locked first, and with it the order of its aggregate, so that a worker
 * and a person never both decide.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { DeliveryEnded, DeliveryLeased, DeliveryNotFound, EndpointDisabled } from "../DeliveriesError.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import {
  columns,
  type Delivery,
  type DeliveryRow,
  isLeased,
  parseDeliveryId,
  returning,
  type State,
  toDelivery
} from "./deliveryRows.js"
import * as EndpointRows from "./endpointRows.js"
import * as Ordering from "./ordering.js"
import { asId } from "./storable.js"
import type { Store } from "./store.js"

/** Calls a pending delivery off. */
export const cancel = (
  store: Store,
  id: string
): Effect.Effect<Delivery, DeliveryEnded | DeliveryLeased | DeliveryNotFound | OutboxUnavailable> =>
  change(store, id, (row, now) =>
    Effect.gen(function*() {
      if (row.state !== "pending") {
        return yield* new DeliveryEnded({ id, state: row.state as Exclude<State, "pending"> })
      }
      if (isLeased(row, now)) return yield* new DeliveryLeased({ id, until: Number(row.due_at) })
      // One more attempt of what has been delivered: it still has been. And without the fence of a lease that lapsed, a worker that wakes late can't settle it.
      const { execute, tables } = store
      return yield* execute<DeliveryRow>`UPDATE ${tables.deliveries}
        SET state = CASE WHEN once = 1 THEN 'delivered' ELSE 'discarded' END,
          reason = CASE WHEN once = 1 THEN NULL ELSE 'cancelled' END,
          ended_at = ${now}, lane = 'retry', held = 0, once = 0, fence = NULL
        WHERE id = ${Number(row.id)} ${returning(store)}`
    }))

/** Makes a delivery due now, whatever became of it; one that has ended begins anew. */
export const replay = (
  store: Store,
  id: string,
  /** Says why an endpoint is disabled by the configuration. */
  disabled: (endpointId: string) => Effect.Effect<string | undefined>
): Effect.Effect<Delivery, DeliveryNotFound | EndpointDisabled | OutboxUnavailable> =>
  change(store, id, (row, now) =>
    Effect.gen(function*() {
      const { execute, sql, tables } = store
      const endpointId = row.endpoint_id
      const configured = yield* disabled(endpointId)
      if (configured !== undefined) return yield* new EndpointDisabled({ endpointId, reason: configured })
      // Locked, so that one that is disabled at this moment either refuses this or discards it with its other pending deliveries.
      const endpoint = (yield* EndpointRows.lock(store, [endpointId], now)).get(endpointId)
      if (endpoint?.disabled !== undefined) {
        return yield* new EndpointDisabled({ endpointId, reason: endpoint.disabled.reason })
      }
      if (isLeased(row, now)) return [row]
      if (row.state === "pending") {
        // A lapsed lease is due already, and who takes it up must see that it lapsed.
        return yield* execute<DeliveryRow>`UPDATE ${tables.deliveries}
          SET due_at = CASE WHEN due_at < ${now} THEN due_at ELSE ${now} END
          WHERE id = ${Number(row.id)} ${returning(store)}`
      }
      // What has been delivered gets one more attempt, and no schedule to go on with if that fails.
      const delivered = row.state === "delivered"
      return yield* execute<DeliveryRow>`UPDATE ${tables.deliveries}
        SET state = 'pending', reason = NULL, ended_at = NULL, lane = 'retry', held = ${row.order_key === null ? 0 : 1},
          due_at = ${now}, fence = NULL, lapses = 0, once = ${delivered ? 1 : 0},
          step = ${delivered ? sql.literal("step") : 0}
        WHERE id = ${Number(row.id)} ${returning(store)}`
    }))

// --- internal

/** Finds and locks a delivery, runs the change and passes the turn of its aggregate on. */
const change = <E>(
  store: Store,
  id: string,
  f: (row: DeliveryRow, now: number) => Effect.Effect<ReadonlyArray<DeliveryRow>, E | SqlError>
): Effect.Effect<Delivery, Exclude<E, SqlError> | DeliveryNotFound | OutboxUnavailable> => {
  const number = parseDeliveryId(id)
  if (number === undefined) return Effect.fail(new DeliveryNotFound({ id: asId(id) }))
  const { dialect, execute, sql, tables } = store
  const select = sql`SELECT ${columns(store)} FROM ${tables.deliveries} AS d WHERE d.id = ${number}`
  const found = ([row]: ReadonlyArray<DeliveryRow>): Effect.Effect<DeliveryRow, DeliveryNotFound> =>
    row === undefined ? Effect.fail(new DeliveryNotFound({ id: asId(id) })) : Effect.succeed(row)
  const changed = store.transaction(Effect.gen(function*() {
    // Endpoint and aggregate of a delivery never change: they may be read before it is locked, and the order is locked before any row.
    const { endpoint_id: endpointId, order_key: orderKey } = yield* Effect.flatMap(
      execute<DeliveryRow>`${select}`,
      found
    )
    const pairs = orderKey === null ? [] : [{ endpointId, orderKey }]
    yield* Ordering.lock(store, pairs)
    const locked = execute<DeliveryRow>`${select} ${sql.literal(dialect === "pg" ? "FOR UPDATE OF d" : "")}`
    const row = yield* Effect.flatMap(locked, found)
    const now = yield* store.now
    const changed = yield* Effect.flatMap(f(row, now), found)
    yield* Ordering.release(store, pairs)
    yield* store.wake
    // Whose turn it is may have changed.
    const [after] = pairs.length === 0 ? [changed] : yield* execute<DeliveryRow>`${select}`
    return toDelivery(after ?? changed, now)
  }))
  return Effect.ensuring(changed, store.signal)
}
