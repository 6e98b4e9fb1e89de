/**
 * Whether an event would be taken now: what `/health/ready` says, at little cost. A database that answers may still have no room, and a small write may fit
 * where an event doesn't: so once an event found no room, and at first, it is asked to take as much as an event may be.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import { defaults } from "../../Defaults.js"
import { OutboxUnavailable } from "../../outbox/OutboxError.js"
import { OutboxSchema } from "../../outbox/Schema.js"

/** What is known of the room that the database has. */
export class Readiness extends Context.Tag("effect-webhooks/server/Readiness")<Readiness, {
  /** Learns from what becomes of an event. */
  readonly watch: <A, E, R>(enqueue: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Asks the database. */
  readonly check: Effect.Effect<void, OutboxUnavailable>
}>() {}

export const layer: Layer.Layer<Readiness, never, OutboxSchema> = Layer.effect(
  Readiness,
  Effect.map(OutboxSchema, (store) => {
    const { sql, tables } = store
    let hasRoom = false
    const learn = (room: boolean) =>
      Effect.sync(() => {
        hasRoom = room
      })
    // A write: where a server is read-only, nothing can be taken either.
    const small = store.transaction(sql`UPDATE ${tables.meta} SET value = value WHERE key = 'version'`)
    // Nothing that could be packed; and written for good before it goes, since what is taken back needs no room.
    const large = Effect.suspend(() =>
      store.transaction(sql`INSERT INTO ${tables.meta} (key, value)
        VALUES ('room', ${randomBytes(defaults.maxPayloadBytes / 2).toString("hex")})
        ON CONFLICT (key) DO UPDATE SET value = excluded.value`)
    ).pipe(
      Effect.zipRight(learn(true)),
      Effect.zipRight(store.transaction(sql`DELETE FROM ${tables.meta} WHERE key = 'room'`))
    )
    return {
      watch: (enqueue) =>
        Effect.tapError(
          enqueue,
          (error) => error instanceof OutboxUnavailable && error.reason === "disk-full" ? learn(false) : Effect.void
        ),
      check: Effect.asVoid(Effect.suspend(() => hasRoom ? small : large))
    }
  })
)
