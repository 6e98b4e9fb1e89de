/**
 * Stores events so that an answer that got lost is found out, and lets an idle worker of this process begin with them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { monotonicNow } from "../../http/internal/monotonic.js"
import * as Masking from "../../Masking.js"
import { OutboxUnavailable } from "../OutboxError.js"
import * as Enqueueing from "./enqueueing.js"
import type * as Inserting from "./inserting.js"
import * as Reserving from "./reserving.js"
import type { Store } from "./store.js"

type Items = ReadonlyArray<Inserting.Prepared>

export interface Storing {
  /** All or none: in the caller's transaction, one of its own, or a statement that is one. Where `check` fails, nothing is stored. */
  readonly all: <E>(items: Items, check: Check<E>) => Effect.Effect<Results, E | OutboxUnavailable>
  /** Events that have nothing to do with each other, outside of any transaction: what became of each, in their order. */
  readonly each: (items: Items) => Effect.Effect<ReadonlyArray<Each>, OutboxUnavailable>
}

export type Results = ReadonlyArray<Enqueueing.Result>

export type Check<E> = (results: Results) => Effect.Effect<unknown, E>

/** What became of one event. */
export type Each = Either.Either<Enqueueing.Result, OutboxUnavailable>

/** What was handed in is stored before the scope closes. */
export const make = (store: Store, scope: Scope.Scope): Storing => {
  /** In a transaction of our own. `lost`: what came of an earlier try isn't known. */
  const alone = <E>(
    items: Items,
    check: Check<E>,
    reservation: Reserving.Reservation | undefined,
    lost?: Enqueueing.Before
  ): Effect.Effect<Results, E | OutboxUnavailable> => {
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
      const made = store.transaction(Effect.tap(run, check), { committed })
      before = { fence: kept?.fence ?? before?.fence }
      return made
    })
    const again = Effect.retry(once, {
      while: isUnreachable,
      schedule: lost === undefined ? reconnecting : reconnectingAgain
    })
    // The cast: `check` has no failures of SQL, which the transaction would have made ours. However it ends: nobody may be left to hear of a commit, or to be told of it.
    return Effect.ensuring(again, Effect.suspend(() => isBegun ? Effect.void : store.signal)) as Effect.Effect<
      Results,
      E | OutboxUnavailable
    >
  }

  /** In one statement; where what came of that isn't known, or it has to be tried again, as `alone` does it. */
  const atOnce = <A>(
    items: Items,
    reservation: Reserving.Reservation | undefined,
    strict: boolean,
    stored: (stored: Enqueueing.StoredNew) => Effect.Effect<A, OutboxUnavailable>,
    otherwise: (
      reservation: Reserving.Reservation | undefined,
      lost?: Enqueueing.Before
    ) => Effect.Effect<A, OutboxUnavailable>
  ) => {
    // Once on its way it can't be called back. As `Effect.uninterruptible`: see `Masking`.
    const once = Masking.uninterruptibleMask(() =>
      Effect.gen(function*() {
        const from = yield* monotonicNow
        const stored = yield* store.query(Enqueueing.runAtOnce(store, items, reservation, strict))
        const { claimed, fresh, isWaiting } = stored
        const isStale = claimed.length > 0 && (yield* monotonicNow) - from > stale
        if (reservation !== undefined && isStale) {
          yield* Effect.ignore(store.query(Enqueueing.unclaim(store, fresh, reservation.fence)))
        } else if (reservation !== undefined) yield* reservation.begin(claimed)
        if (isWaiting || isStale) yield* store.signal
        return stored
      })
    )
    return Effect.matchEffect(once, {
      onFailure: (error) =>
        error.reason === "busy" || (strict && error.reason === "constraint")
          ? otherwise(reservation)
          : error.reason === "unreachable"
          ? Effect.delay(otherwise(undefined, { fence: reservation?.fence }), reconnectTime)
          : Effect.fail(error),
      onSuccess: stored
    })
  }

  const each: Storing["each"] = (items) =>
    reserving(store, items, (reservation) => {
      const separately = (some: Items, kept?: Reserving.Reservation, lost?: Enqueueing.Before) =>
        Effect.map(alone(some, unchecked, kept, lost), (results) => results.map((result): Each => Either.right(result)))
      if (!Enqueueing.canRunAtOnce(store, items)) return separately(items, reservation)
      return atOnce(items, reservation, false, ({ fresh, known }) => {
        const results = new Map(
          fresh.map((item): [Inserting.Prepared, Each] => [item, Either.right(Enqueueing.resultOf(item))])
        )
        const asking = known.length === 0 ? Effect.succeed([]) : separately(known)
        // What fails here is no failure of those that have been stored.
        return Effect.map(Effect.either(asking), (told) => {
          for (const [index, item] of known.entries()) {
            results.set(item, Either.flatMap(told, (each) => each[index]!))
          }
          return items.map((item) => results.get(item)!)
        })
      }, (kept, lost) => separately(items, kept, lost))
    })

  const all = <E>(items: Items, check: Check<E>): Effect.Effect<Results, E | OutboxUnavailable> => {
    // What nobody can hand in a second time needs no check.
    if (items.every(({ digest }) => digest === "") && Enqueueing.canRunAtOnce(store, items)) {
      const stored = reserving(
        store,
        items,
        (reservation) =>
          atOnce(
            items,
            reservation,
            true,
            ({ known }) =>
              known.length === 0
                ? Effect.succeed(items.map(Enqueueing.resultOf))
                // None were: a rule of the host's passes over them.
                : alone(items, unchecked, reservation),
            (kept, lost) => alone(items, unchecked, kept, lost)
          )
      )
      // In a fiber of its own: who waits for it may go, the scope's end may not.
      return Effect.flatMap(
        Effect.uninterruptible(Effect.forkIn(Effect.withUnhandledErrorLogLevel(stored, Option.none()), scope)),
        Fiber.join
      )
    }
    return reserving(store, items, (reservation) => alone(items, check, reservation))
  }

  // The cast as above.
  const inside = <E>(items: Items, check: Check<E>) =>
    store.transaction(
      Effect.tap(Effect.map(Enqueueing.run(store, items, undefined, undefined), ({ results }) => results), check)
    ) as Effect.Effect<Results, E | OutboxUnavailable>

  return {
    all: (items, check) =>
      Effect.flatMap(store.inTransaction, (isInside) => isInside ? inside(items, check) : all(items, check)),
    each
  }
}

// --- internal

/**
 * Milliseconds that a statement may wait for others: after that its lease has begun too long ago, and what it knows of the endpoints may not be so any more, as
 * those are found out by a claim.
 */
const stale = 1000

const unchecked = () => Effect.void

/** With the slots that there are for these, which are given back. */
const reserving = <A, E>(
  store: Store,
  items: Items,
  use: (reservation: Reserving.Reservation | undefined) => Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Masking.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Reserving.reserve(store, pairsOf(items)),
      (reservation) =>
        reservation === undefined
          ? restore(use(undefined))
          : Masking.onExit(restore(use(reservation)), () => reservation.end)
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
