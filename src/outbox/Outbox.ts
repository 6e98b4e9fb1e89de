/**
 * The way into the durable path: an event becomes a message with its bytes and one delivery for each endpoint that wants it, stored in the
 * host's database and, where the caller has a transaction open, in that transaction. What is committed is delivered; what is rolled back never was.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { locallyAll } from "../Locally.js"
import * as Metrics from "../Metrics.js"
import * as Spans from "../Spans.js"
import { Endpoints } from "../webhooks/Endpoints.js"
import * as Message from "../webhooks/Message.js"
import { InvalidEvent, type UnserializableEvent, type WebhookEvent } from "../webhooks/WebhookEvent.js"
import * as Batching from "./internal/batching.js"
import type * as Enqueueing from "./internal/enqueueing.js"
import type * as Inserting from "./internal/inserting.js"
import * as Storing from "./internal/storing.js"
import { OutboxUnavailable } from "./OutboxError.js"
import { OutboxSchema } from "./Schema.js"

/** What became of an event that was handed in. */
export interface Enqueued {
  /** The message's id, `webhook-id` on the wire; of a duplicate, that of the first. */
  readonly messageId: string
  /** Whether it had been stored before: nothing was stored now. */
  readonly duplicate: boolean
  /** Deliveries that the message has: one for each endpoint that wanted it when it was first stored. */
  readonly deliveries: number
}

/** An event with a key of the caller's own. */
export interface Keyed {
  readonly event: WebhookEvent
  readonly idempotencyKey?: string | undefined
}

/** Why nothing was stored. */
export type EnqueueError =
  | IdempotencyConflict
  | InvalidEvent
  | InvalidIdempotencyKey
  | Message.PayloadTooLarge
  | OutboxUnavailable
  | UnserializableEvent

/** Stores events for delivery. */
export class Outbox extends Context.Tag("effect-webhooks/Outbox")<Outbox, {
  /**
   * Stores an event. Within `sql.withTransaction` it is part of that transaction, and its COMMIT is the host's: where it fails, @effect/sql ends the
   * effect with a defect. Don't fork it there: a fiber that outlives the transaction would store into whatever its connection does next. Otherwise it has
   * been committed when this succeeds; events that are handed in at the same time share a commit, and beyond 10 000 that wait `queue-full` is the answer.
   *
   * The same idempotency key, or the same `event.id`, again: nothing is stored and the first message's id comes back, as long as its row is
   * kept (see `Deliveries.purge`); with another type or content: `IdempotencyConflict`. A time that the event didn't come with is not content.
   */
  readonly enqueue: (
    event: WebhookEvent,
    options?: { readonly idempotencyKey?: string | undefined }
  ) => Effect.Effect<Enqueued, EnqueueError>
  /** Stores several events, all or none, in their order. */
  readonly enqueueAll: (
    events: Iterable<Keyed | WebhookEvent>
  ) => Effect.Effect<ReadonlyArray<Enqueued>, EnqueueError>
}>() {}

/** All optional. */
export interface Options {
  /** Most bytes of an encoded event; default 256 KiB. */
  readonly maxPayloadBytes?: number | undefined
  /** CloudEvents `source` of this program; see `Message.MessageOptions`. */
  readonly source?: string | undefined
}

/** Makes the outbox. What was handed in is stored before the scope closes. */
export const make = (
  options: Options = {}
): Effect.Effect<Outbox["Type"], never, Endpoints | OutboxSchema | Scope.Scope> =>
  Effect.gen(function*() {
    const store = yield* OutboxSchema
    const endpoints = yield* Endpoints

    const prepare = (
      { event, idempotencyKey }: Keyed,
      arrival: Arrival
    ): Effect.Effect<Inserting.Prepared, EnqueueError> => {
      if (idempotencyKey !== undefined && !/^[!-~]{1,255}$/.test(idempotencyKey)) {
        return Effect.fail(new InvalidIdempotencyKey())
      }
      // PostgreSQL can't hold these as text, and what one back end takes the other must take.
      if (/[\0\p{Cs}]/u.test(event.aggregateId ?? "")) {
        return Effect.fail(
          new InvalidEvent({
            path: "aggregate_id",
            problem: "contains NUL or half a character, which a database can't keep"
          })
        )
      }
      return Effect.flatMap(endpoints.matching(event), (wanting) => {
        // An event that nobody wants is kept, too: it may come a second time.
        const formats = wanting.length === 0 ? ["event" as const] : wanting.map((endpoint) => endpoint.format)
        const message = Message.toMessage(event, formats, {
          maxBytes: options.maxPayloadBytes,
          source: options.source
        })
        const digest = idempotencyKey === undefined && event.id === undefined ? noDigest : Message.digest(event)
        return Effect.zipWith(message, digest, (message, digest) => ({
          message,
          wanting,
          idempotencyKey,
          digest,
          ...arrival
        }))
      })
    }

    /** What is the same for all events that are handed in together. */
    const arrival: Effect.Effect<Arrival> = Effect.flatMap(store.now, (createdAt) =>
      Effect.map(Effect.option(Effect.currentSpan), (span) => ({
        createdAt,
        traceParent: Option.getOrUndefined(Option.filterMap(span, traceParentOf))
      })))

    const storing = Storing.make(store, yield* Effect.scope)
    const batching = yield* Batching.make(
      storing.each,
      maxBatch,
      // Something about one of them, a trigger of the host's say.
      ({ reason }: OutboxUnavailable) =>
        reason === "constraint" || reason === "other",
      // Somebody waits.
      { prompt: true }
    )

    const submit = (item: Inserting.Prepared): Effect.Effect<Enqueueing.Result, OutboxUnavailable> =>
      Effect.suspend(() =>
        batching.waiting() < maxWaiting
          ? Effect.flatten(batching.submit(item))
          : Effect.fail(new OutboxUnavailable({ reason: "queue-full" }))
      )

    const enqueue = (keyed: Keyed): Effect.Effect<Enqueued, EnqueueError> =>
      Effect.gen(function*() {
        const item = yield* prepare(keyed, yield* arrival)
        const [result] = (yield* store.inTransaction)
          ? yield* storing.all([item], (results) =>
            refuse(results, false))
          : [yield* submit(item)]
        yield* refuse([result!], false)
        const [enqueued] = yield* told([item], [result!])
        return enqueued!
      })

    return {
      enqueue: (event, keys) => traced(1, enqueue({ event, idempotencyKey: keys?.idempotencyKey })),
      enqueueAll: (events) =>
        Effect.suspend(() => {
          const keyed = [...events].map((one): Keyed => "event" in one ? one : { event: one })
          if (keyed.length === 0) return Effect.succeed([])
          return traced(
            keyed.length,
            Effect.gen(function*() {
              const at = yield* arrival
              const items = yield* Effect.forEach(keyed, (one) => prepare(one, at))
              return yield* told(items, yield* storing.all(items, (results) => refuse(results, true)))
            })
          )
        })
    }
  })

/** The outbox over the checked tables and the endpoints. */
export const layer = (options: Options = {}): Layer.Layer<Outbox, never, Endpoints | OutboxSchema> =>
  Layer.scoped(Outbox, make(options))

/** The idempotency key, or the event's id, belongs to another event; nothing was stored. */
export class IdempotencyConflict
  extends Schema.TaggedError<IdempotencyConflict>("effect-webhooks/IdempotencyConflict")("IdempotencyConflict", {
    /** The message that has the key or the id. */
    messageId: Schema.String,
    by: Schema.Literal("idempotencyKey", "id"),
    /** Which of the events that were handed to `enqueueAll`, from 0. */
    index: Schema.optional(Schema.Number)
  })
{
  override get message(): string {
    const what = this.by === "id" ? "the event's id" : "the idempotency key"
    return `${what} has been used before, for an event of another type or content (message ${this.messageId}); use a new one for a new event`
  }
}

/** The idempotency key is not one; nothing was stored. */
export class InvalidIdempotencyKey
  extends Schema.TaggedError<InvalidIdempotencyKey>("effect-webhooks/InvalidIdempotencyKey")(
    "InvalidIdempotencyKey",
    {}
  )
{
  override get message(): string {
    return "an idempotency key is 1 to 255 visible ASCII characters, without spaces"
  }
}

// --- internal

type Arrival = Pick<Inserting.Prepared, "createdAt" | "traceParent">

const noDigest = Effect.succeed("")

/** Messages that share a commit at most. */
const maxBatch = 200

/** Events that wait for their commit at most; more are refused. */
const maxWaiting = 10_000

/** Fails with the first conflict, which tells where it is only `among` several. */
const refuse = (results: Storing.Results, among: boolean): Effect.Effect<void, IdempotencyConflict> => {
  const index = results.findIndex(({ _tag }) => _tag === "Conflict")
  const conflict = results[index]
  return conflict?._tag !== "Conflict" ? Effect.void : Effect.fail(
    new IdempotencyConflict({
      messageId: conflict.messageId,
      by: conflict.by,
      index: among ? index : undefined
    })
  )
}

/** What is told of each, and counted, where there is no conflict. */
const told = (
  items: ReadonlyArray<Inserting.Prepared>,
  results: Storing.Results
): Effect.Effect<ReadonlyArray<Enqueued>> =>
  Effect.withFiberRuntime((fiber) => {
    const counts = { duplicate: 0, unrouted: 0, stored: 0, pending: 0 }
    const enqueued: Array<Enqueued> = []
    for (const [index, result] of results.entries()) {
      if (result._tag === "Conflict") continue
      const { deliveries, duplicate, messageId } = result
      enqueued.push({ messageId, duplicate, deliveries })
      counts[duplicate ? "duplicate" : items[index]!.wanting.length === 0 ? "unrouted" : "stored"]++
      if (!duplicate) counts.pending += deliveries
    }
    const { duplicate, pending, stored, unrouted } = counts
    Metrics.enqueued(fiber, { duplicate, stored, unrouted }, pending)
    return Effect.succeed(enqueued)
  })

/** Statements of the host's transaction, and what is stored, belong to the span. */
const traced = <A, E>(events: number, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Spans.around(
    "Outbox.enqueue",
    { attributes: { events } },
    (span, _, restore) => locallyAll(restore(effect), [Spans.under(span)])
  )

/** W3C Trace Context. */
const traceParentOf = (span: { readonly traceId: string; readonly spanId: string; readonly sampled: boolean }) =>
  span.traceId.length === 32
    ? Option.some(`00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`)
    : Option.none()
