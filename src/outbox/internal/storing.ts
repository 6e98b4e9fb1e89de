/**
 * Stores events so that an answer that got lost is found out, and lets an idle worker of this process begin with them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import { OutboxUnavailable } from "../OutboxError.js"
import * as Enqueueing from "./enqueueing.js"
import type * as Inserting from "./inserting.js"
import * as Reserving from "./reserving.js"
import type { Store } from "./store.js"

type Items = ReadonlyArray<Inserting.Prepared>

export interface Storing {
  /** All or none, in a transaction: the caller's, or one of its own. What `settle` fails with, stores nothing. */
  readonly all: <A, E>(
    items: Items,
    settle: (results: ReadonlyArray<Enqueueing.Result>) => Effect.Effect<A, E>
  ) => Effect.Effect<A, E | OutboxUnavailable>
  /** Events that have nothing to do with each other, outside of any transaction: what became of each, in their order. */
  readonly each: (items: Items) => Effect.Effect<ReadonlyArray<Each>, OutboxUnavailable>
}

/** What became of one event. */
export type Each = Either.Either<Enqueueing.Result, OutboxUnavailable>

export const make = (store: Store): Storing => {
  /** In a transaction of our own. `lost`: what came of an earlier try isn't known. */
  const alone = <A, E>(
    items: Items,
    settle: (results: ReadonlyArray<Enqueueing.Result>) => Effect.Effect<A, E>,
    reservation: Reserving.Reservation | undefined,
    lost?: Enqueueing.Before
  ): Effect.Effect<A, E | OutboxUnavailable> => {
    let before = lost
    let stored: Enqueueing.Stored | undefined
    // Whether all that was stored was committed as claimed, and has begun.
    let isBegun = false
    const once = Effect.suspend(() => {
      // Where the answer to a COMMIT was lost, the next run finds what this one has stored, tells it as its own, and leaves it to be found by a worker.
      const kept = before === undefined ? reservation : undefined
      const run = Effect.map(Enqueueing.run(store, items, kept, before), (one) => {
        stored = one
        return one.results
      })
      const committed = Effect.suspend(() => {
        isBegun = stored?.isWaiting === false
        return kept === undefined || stored === undefined ? Effect.void : kept.begin(stored.claimed)
      })
      const made = store.transaction(Effect.flatMap(run, settle), { committed })
      before = { fence: kept?.fence ?? before?.fence }
      return made
    })
    const again = Effect.retry(once, {
      while: isUnreachable,
      schedule: lost === undefined ? reconnecting : reconnectingAgain
    })
    // However it ends: nobody may be left to hear of a commit, or to be told of it.
    return Effect.ensuring(again, Effect.suspend(() => isBegun ? Effect.void : store.signal)) as Effect.Effect<
      A,
      E | OutboxUnavailable
    >
  }

  const eachAlone = (items: Items, reservation?: Reserving.Reservation, lost?: Enqueueing.Before) =>
    alone(items, (results) => Effect.succeed(results.map((result): Each => Either.right(result))), reservation, lost)

  const eachAtOnce = (items: Items, reservation: Reserving.Reservation | undefined) => {
    // Once on its way it can't be called back.
    const once = Effect.uninterruptible(Effect.tap(
      store.query(Enqueueing.runAtOnce(store, items, reservation)),
      ({ claimed, isWaiting }) =>
        Effect.zipRight(reservation?.begin(claimed) ?? Effect.void, isWaiting ? store.signal : Effect.void)
    ))
    return Effect.matchEffect(once, {
      onFailure: (error) =>
        error.reason === "busy"
          ? eachAlone(items, reservation)
          : error.reason === "unreachable"
          ? Effect.delay(eachAlone(items, undefined, { fence: reservation?.fence }), reconnectTime)
          : Effect.fail(error),
      onSuccess: ({ fresh, known }) => {
        const stored = fresh.map(Enqueueing.resultOf)
        if (known.length === 0) return Effect.succeed(stored.map((result): Each => Either.right(result)))
        const results = new Map(
          fresh.map((item, index): [Inserting.Prepared, Each] => [item, Either.right(stored[index]!)])
        )
        // What fails here is no failure of those that have been stored.
        return Effect.map(Effect.either(eachAlone(known)), (told) => {
          for (const [index, item] of known.entries()) {
            results.set(item, Either.flatMap(told, (each) => each[index]!))
          }
          return items.map((item) => results.get(item)!)
        })
      }
    })
  }

  const inside = <A, E>(
    items: Items,
    settle: (results: ReadonlyArray<Enqueueing.Result>) => Effect.Effect<A, E>
  ) =>
    store.transaction(
      Effect.flatMap(Enqueueing.run(store, items, undefined, undefined), ({ results }) => settle(results))
    ) as Effect.Effect<A, E | OutboxUnavailable>

  return {
    all: (items, settle) =>
      Effect.flatMap(store.inTransaction, (isInside) =>
        isInside
          ? inside(items, settle)
          : reserving(store, items, (reservation) => alone(items, settle, reservation))),
    each: (items) =>
      reserving(
        store,
        items,
        (reservation) =>
          Enqueueing.canRunAtOnce(store, items) ? eachAtOnce(items, reservation) : eachAlone(items, reservation)
      )
  }
}

// --- internal

/** With the slots that there are for these, which are given back. */
const reserving = <A, E>(
  store: Store,
  items: Items,
  use: (reservation: Reserving.Reservation | undefined) => Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Reserving.reserve(store, pairsOf(items)),
      (reservation) =>
        reservation === undefined
          ? restore(use(undefined))
          : Effect.ensuring(restore(use(reservation)), reservation.end)
    )
  )

const pairsOf = (items: Items): ReadonlyArray<Reserving.Pair> =>
  items.flatMap(({ message, wanting }) => wanting.map(({ id }) => ({ messageId: message.id, endpointId: id })))

const isUnreachable = (error: unknown): boolean => error instanceof OutboxUnavailable && error.reason === "unreachable"

const reconnectTime = Duration.millis(100)

/** Twice more. */
const reconnecting = Schedule.intersect(Schedule.exponential(reconnectTime, 3), Schedule.recurs(2))

/** Where that was the second time. */
const reconnectingAgain = Schedule.intersect(Schedule.spaced(Duration.times(reconnectTime, 3)), Schedule.recurs(1))
