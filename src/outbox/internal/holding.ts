/**
 * The deliveries that a worker holds, from claim to settlement: their attempts, their leases, and what is written of them.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as FiberClock from "../../FiberClock.js"
import { monotonicNow } from "../../http/internal/monotonic.js"
import { turn } from "../../http/internal/turn.js"
import { uninterruptibleMask } from "../../Masking.js"
import * as Metrics from "../../Metrics.js"
import type { Endpoint } from "../../webhooks/Endpoint.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import * as Attempting from "./attempting.js"
import * as Batching from "./batching.js"
import type { Claimed } from "./claiming.js"
import * as Discarding from "./discarding.js"
import * as Folding from "./folding.js"
import * as Occupying from "./occupying.js"
import type { Want } from "./planning.js"
import * as Relaying from "./relaying.js"
import * as Settling from "./settling.js"
import type { Parts, Settings } from "./workerParts.js"

export interface Holding {
  /** Begins the attempts of what was claimed. */
  readonly begin: (claimed: ReadonlyArray<Claimed>) => Effect.Effect<void>
  /** Runs a claim, and begins what it gives; what it asks for has its slots until then. */
  readonly claim: (
    wants: ReadonlyArray<Want>,
    claim: Effect.Effect<ReadonlyArray<Claimed>, OutboxUnavailable>
  ) => Effect.Effect<ReadonlyArray<Claimed>, OutboxUnavailable>
  /** From now on, what has been delivered is settled and followed by what `follow` wants then, where that can be done in one go; `undefined`: no longer. */
  readonly relay: (follow: Follow | undefined) => void
  /** Ends when none such is under way. */
  readonly relayed: Effect.Effect<void>
  /** Keeps a slot for what may be claimed soon, if there is a free one; until it is given back. */
  readonly reserve: (endpoint: Endpoint) => boolean
  readonly unreserve: (endpoints: ReadonlyArray<Endpoint>) => Effect.Effect<void>
  /** Ends a delivery without an attempt: its leases have lapsed too often. */
  readonly giveUp: (claimed: Claimed) => Effect.Effect<void>
  /** Discards what is pending for endpoints that don't want to hear from us. */
  readonly discardFor: (endpointIds: ReadonlyArray<string>) => Effect.Effect<void, OutboxUnavailable>
  /** Slots that are taken: until the outcome is written, so that no more is sent again when the process is killed. */
  readonly count: () => number
  /**
   * Those of an endpoint that are under way, or have failed and are not settled yet; and of those that have been delivered and are not, whatever is more than its limit:
   * where results can't be written down, it must leave slots to others.
   */
  readonly countOf: (endpointId: string, limit: number) => number
  readonly retries: () => number
  readonly ids: () => ReadonlyArray<number>
  /** Ends when a slot is free that was not. */
  readonly freed: () => Effect.Effect<void>
  /** Those whose lease had lapsed. */
  readonly suspects: () => ReadonlyArray<Claimed>
  /** Ends when nothing is held but what has been for `time` milliseconds: what hangs is not waited for. */
  readonly quiet: (time: number) => Effect.Effect<void>
  /** Ends when this one is not held any more. */
  readonly ended: (id: number) => Effect.Effect<void>
  /** Writes what has waited for long enough of endpoints' successes. */
  readonly flush: Effect.Effect<void>
  /** Waits for what is under way, within the grace time, then stops it; gives back what was not settled. */
  readonly stop: Effect.Effect<void>
}

/** What may be claimed in so many slots as have come free; of these, so many were retries'. */
export type Follow = (
  freed: { readonly slots: number; readonly retries: number }
) => Effect.Effect<Relaying.Next | undefined>

export const make = (
  { health, sender, store }: Pick<Parts, "health" | "sender" | "store">,
  settings: Settings
): Effect.Effect<Holding> =>
  Effect.gen(function*() {
    // A scope of its own, closed by `stop`: what is handed in while the worker stops must still be written.
    const scope = yield* Scope.make()
    const folding = Folding.make(settings.health)
    const occupying = Occupying.make()
    const { ask, held, remove } = occupying
    let abandoned = false
    let stopping = false
    // Nothing begins any more.
    let halted = false
    let next = Deferred.unsafeMake<void>(FiberId.none)
    let nextFree = Deferred.unsafeMake<void>(FiberId.none)
    let follow: Follow | undefined
    let relaying = false
    let flushAt = 0
    let mayRelay = true
    // One at a time writes rows of endpoints.
    const folds = yield* Effect.makeSemaphore(1)
    const holds = yield* Effect.makeLatch(false)

    /** What is held, or what is done with it, is not what it was. */
    const changed = Effect.suspend(() => {
      const current = next
      next = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.zipRight(
        held.size === 0 ? holds.close : Effect.void,
        Effect.asVoid(Deferred.succeed(current, undefined))
      )
    })
    const free = Effect.suspend(() => {
      const current = nextFree
      nextFree = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.zipRight(changed, Effect.asVoid(Deferred.succeed(current, undefined)))
    })
    const idle: Effect.Effect<void> = Effect.suspend(() =>
      occupying.count() === 0 ? Effect.void : Effect.zipRight(Deferred.await(next), idle)
    )
    const ended = (id: number): Effect.Effect<void> =>
      Effect.suspend(() => held.has(id) ? Effect.zipRight(Deferred.await(next), ended(id)) : Effect.void)
    const quiet = (time: number): Effect.Effect<void> =>
      Effect.flatMap(monotonicNow, (now) => {
        const latest = Math.max(...[...held.values()].map(({ since }) => since))
        return latest + time <= now ? Effect.void : Effect.zipRight(
          Effect.raceFirst(Deferred.await(next), Effect.sleep(Duration.millis(latest + time - now))),
          quiet(time)
        )
      })

    /** Writes a batch down; and claims as many in its stead, if there is more to do and nothing to judge. */
    const write = (batch: ReadonlyArray<Pending>): Effect.Effect<ReadonlyArray<void>, OutboxUnavailable> =>
      folds.withPermits(1)(Effect.flatMap(store.now, (now) => {
        const asked = follow
        if (asked === undefined || !isPlain(batch, now)) return settle(batch)
        const retries = batch.filter(({ claimed }) => claimed.retry).length
        return Effect.flatMap(asked({ slots: batch.length, retries }), (next) =>
          // It may have been called off meanwhile.
          next === undefined || follow !== asked || stopping
            ? settle(batch)
            // Whatever it is that fails: results are to be written without what comes after.
            : Effect.catchAll(relay(batch, next), () => settle(batch)))
      }))

    const isPlain = (batch: ReadonlyArray<Pending>, now: number): boolean =>
      mayRelay &&
      Relaying.isPlain(batch, folding, now, occupying.count() < settings.concurrency ? undefined : longestUnseen) &&
      // What has been claimed again, before its last end was told, has the slot for itself.
      batch.every(({ claimed, contended }) => contended !== true && held.get(claimed.id)?.claimed === claimed)

    const relay = (
      batch: ReadonlyArray<Pending>,
      next: Relaying.Next
    ): Effect.Effect<ReadonlyArray<void>, OutboxUnavailable> =>
      Effect.suspend(() => {
        const asked = slotsOf(next.wants)
        ask(next.wants, 1)
        relaying = true
        const end = () => {
          ask(next.wants, -1)
          relaying = false
        }
        return Effect.flatMap(
          Effect.tapErrorCause(
            Relaying.relay(store, batch, next, folding),
            () => Effect.zipRight(Effect.sync(end), changed)
          ),
          (relayed) => {
            const left = new Set(relayed.left)
            const slots = batch.length - left.size
            return Effect.all([
              // At once: between the two the slots would be free.
              beginAfter(relayed.claimed.slice(0, slots), () => {
                end()
                mayRelay = relayed.again
                for (const ended of batch) if (!left.has(ended)) remove(ended.claimed)
                // What there is still, if anything, a look must say.
                if (relayed.claimed.length < asked) follow = undefined
              }),
              Effect.suspend(() => follow === undefined || occupying.count() < settings.concurrency ? free : changed),
              announce(relayed, batch.filter((ended) => !left.has(ended))),
              folding.flush(store, overdue(relayed)),
              // Whether they are lost, or somebody has locked them, shows who waits; and these keep their slots.
              Effect.forEach(relayed.left, (ended) => submit({ ...ended, contended: true }), { discard: true }),
              Effect.forEach(relayed.claimed.slice(slots), (claimed) => dismiss(claimed, false), { discard: true })
            ], { discard: true })
          }
        )
      }).pipe(Effect.as(batch.map(() => undefined)))

    /** Of a backlog each batch has some of many endpoints: their successes are written together, a few times a second, and not with the batch. */
    const overdue = ({ at, unwritten }: Relaying.Relayed<Pending>): ReadonlyArray<string> => {
      if (at < flushAt) return unwritten
      flushAt = at + flushPause
      return [...new Set([...unwritten, ...folding.waiting(at)])].sort()
    }

    /** Writes a batch down, for as long as it takes: what was delivered must not be sent again for want of a note. */
    const settle = (batch: ReadonlyArray<Pending>): Effect.Effect<ReadonlyArray<void>, OutboxUnavailable> => {
      const settled = Effect.tapError(
        Settling.settle(store, batch, settings.schedule, folding),
        (error) =>
          Effect.annotateLogs(Effect.logWarning("webhook_settle_failed"), {
            deliveries: batch.length,
            error: error.message
          })
      )
      const isWorth = (error: OutboxUnavailable) => !abandoned && passes(error)
      // The schedule is for who needs it: its driver takes 30 steps of the fiber.
      const again = Effect.catchAll(settled, (error) =>
        isWorth(error)
          ? Effect.zipRight(
            Effect.sleep(firstRetry),
            Effect.retry(settled, { while: isWorth, schedule: retrying })
          )
          : Effect.fail(error))
      return Effect.flatMap(again, (settled) =>
        Effect.zipRight(
          settled.lost.length === 0
            ? announce(settled, batch)
            : Effect.zipRight(lost(settled.lost), announce(settled, batch)),
          Effect.as(drop(batch), batch.map(() => undefined))
        ))
    }

    const drop = (batch: ReadonlyArray<Pick<Settling.Ended, "claimed">>): Effect.Effect<void> =>
      Effect.suspend(() => {
        for (const { claimed } of batch) remove(claimed)
        return free
      })

    /** Lets the leases lapse. The loop may have looked before they were taken: it looks again, so as to know when they do. */
    const letGo = (batch: ReadonlyArray<Pick<Settling.Ended, "claimed">>): Effect.Effect<void> =>
      Effect.zipRight(drop(batch), store.signal)

    const lost = (ended: ReadonlyArray<Settling.Ended>): Effect.Effect<void> =>
      Effect.forEach(ended, ({ claimed }) =>
        Effect.zipRight(
          Metric.increment(Metrics.leaseLosses),
          Effect.annotateLogs(Effect.logWarning("webhook_lease_lost"), idsOf(claimed))
        ), { discard: true })

    const announce = (
      { at, events, settled }: Pick<Settling.Settled, "at" | "events" | "settled">,
      batch: ReadonlyArray<Pending>
    ): Effect.Effect<void> =>
      Effect.withFiberRuntime((fiber) => {
        const now = FiberClock.monotonic(fiber)
        for (const { endedAt } of batch) Metrics.settled(fiber, now - endedAt)
        for (const { settlement: { state } } of settled) {
          if (state !== "pending") Metrics.deliveriesEntered(fiber, state, 1)
        }
        const told = settled.flatMap(({ ended: { claimed }, settlement: { reason, state } }) =>
          state === "discarded"
            ? [Effect.annotateLogs(Effect.logError("webhook_discarded"), { ...idsOf(claimed), reason })]
            : state === "exhausted"
            ? [health.publish({
              type: "delivery.exhausted",
              ...idsOf(claimed),
              at,
              ...(reason === undefined ? {} : { reason })
            })]
            : []
        )
        const published = events.map((event) => health.publish({ ...event, at }))
        // Its next time may come before the loop meant to look again; of an ordered endpoint, the next in line is due.
        const mayBeDue = settled.some(({ ended, settlement }) =>
          settlement.state === "pending" || ended.claimed.orderKey !== undefined
        )
        const signalled = mayBeDue || events.length > 0 ? [store.signal] : []
        const all = [...told, ...published, ...signalled]
        // Mostly all was delivered, and there is nothing more to be said.
        return all.length === 0 ? Effect.void : Effect.all(all, { discard: true })
      })

    // While PostgreSQL writes one half of the slots down, the other sends: so it gets half at a time, and the next before those that follow the last begin (beside the bare
    // loop 0.62, and 0.53 with all that there is). SQLite, which takes this process' time, does best with all at once.
    const isApart = store.dialect === "pg"
    const eager = isApart ? Math.ceil(settings.concurrency / 4) : Infinity
    const most = isApart ? Math.ceil(settings.concurrency / 2) : settings.claim
    const settling = yield* Scope.extend(Batching.make(write, most, (error) => !passes(error), { eager }), scope)

    /** What can't be written keeps its lease until that ends, and is then somebody's to try again. */
    const submit = (ended: Pending): Effect.Effect<void> =>
      settling.add(ended, (exit) =>
        Exit.isSuccess(exit) ? Effect.void : Effect.zipRight(
          // First, since a host's logger may fail.
          letGo([ended]),
          Cause.isDie(exit.cause) ? Effect.logError("webhook_worker_fault", exit.cause) : lost([ended])
        ))

    const run = (claimed: Claimed): Effect.Effect<void> =>
      Effect.catchAllCause(attempt(claimed), (cause) =>
        // A fault of ours: its lease is no longer renewed, so somebody will see that it lapsed.
        Effect.zipRight(Effect.logError("webhook_worker_fault", cause), letGo([{ claimed }])))

    // As `Effect.uninterruptible`: see `Masking`.
    const attempt = (claimed: Claimed): Effect.Effect<void> =>
      uninterruptibleMask(() =>
        Effect.flatMap(
          Attempting.attempt(store, sender, claimed),
          ({ report, startedAt }) =>
            Effect.withFiberRuntime((fiber) => {
              const endedAt = FiberClock.monotonic(fiber)
              const end = (chance: number) => submit({ claimed, report, crashed: false, startedAt, chance, endedAt })
              // After a failure the endpoint may not be sent to: that shows when it is written down.
              if (report?.outcome !== "delivered") return Effect.flatMap(Random.next, end)
              occupying.leave(claimed)
              // It has no next time.
              return end(0)
            })
        )
      )

    const begin = (claimed: ReadonlyArray<Claimed>): Effect.Effect<void> => beginAfter(claimed, () => undefined)

    /** Begins them right after `before`, with nothing in between. */
    const beginAfter = (claimed: ReadonlyArray<Claimed>, before: () => void): Effect.Effect<void> =>
      Effect.gen(function*() {
        const now = yield* monotonicNow
        before()
        // What is begun too late to be written keeps its lease until that ends.
        if (claimed.length === 0 || abandoned) return
        for (const one of claimed) occupying.add(one, now)
        yield* Effect.withFiberRuntime<void>((fiber) => {
          Metrics.claimed(fiber, claimed.length)
          return Effect.void
        })
        yield* holds.open
        const forked = Effect.forEach(claimed, fork, { discard: true })
        yield* isApart && settling.waiting() >= eager ? Effect.forkDaemon(Effect.zipRight(turn, forked)) : forked
      })

    const fork = (claimed: Claimed): Effect.Effect<void> =>
      Effect.suspend(() =>
        halted ? dismiss(claimed, false) : Effect.map(Effect.forkDaemon(run(claimed)), (fiber) => {
          const entry = held.get(claimed.id)
          if (entry?.claimed === claimed) entry.fiber = fiber
        })
      )

    /** Ends a delivery without an attempt. */
    const dismiss = (claimed: Claimed, crashed: boolean): Effect.Effect<void> =>
      Effect.flatMap(monotonicNow, (endedAt) =>
        submit({ claimed, report: undefined, crashed, startedAt: 0, chance: 0, endedAt }))

    const claim: Holding["claim"] = (wants, claim) =>
      Effect.uninterruptible(Effect.suspend(() => {
        const slots = slotsOf(wants)
        ask(wants, 1)
        occupying.reserve(slots)
        const end = () => {
          ask(wants, -1)
          occupying.reserve(-slots)
        }
        return Effect.tap(
          Effect.tapErrorCause(claim, () =>
            Effect.sync(end)),
          (claimed) => beginAfter(claimed, end)
        )
      }))

    const reserve = (endpoint: Endpoint): boolean => {
      const limit = endpoint.maxConcurrency ?? settings.endpointConcurrency
      const isFull = occupying.count() >= settings.concurrency || occupying.countOf(endpoint.id, limit) >= limit
      if (isFull || stopping) return false
      occupying.reserve(1)
      ask([{ endpoint, first: 1, retry: 0 }], 1)
      return true
    }

    const unreserve = (endpoints: ReadonlyArray<Endpoint>): Effect.Effect<void> =>
      Effect.suspend(() => {
        ask(endpoints.map((endpoint) => ({ endpoint, first: 1, retry: 0 })), -1)
        occupying.reserve(-endpoints.length)
        return free
      })

    const renew: Effect.Effect<void> = Effect.suspend(() =>
      Effect.catchAll(
        Settling.renew(store, [...held.values()].map(({ claimed }) => claimed), settings.lease),
        // The next beat comes before the lease ends.
        () => Effect.void
      )
    )
    const renewing = yield* Effect.forkDaemon(Effect.forever(
      Effect.zipRight(holds.await, Effect.zipRight(Effect.sleep(Duration.millis(settings.lease / 3)), renew))
    ))

    // A finalizer can't be interrupted, nor what it waits for unless it says so: then no time would end the wait.
    const within = <A>(wait: Effect.Effect<A>, time: Duration.Duration) =>
      Effect.timeoutOption(Effect.interruptible(wait), time)

    const discardFor = (ids: ReadonlyArray<string>): Effect.Effect<void, OutboxUnavailable> =>
      Effect.flatMap(Discarding.discardPending(store, ids), (count) =>
        count === 0
          ? Effect.void
          // All that there are, a thousand at a time.
          : Effect.withFiberRuntime((fiber) => {
            Metrics.deliveriesEntered(fiber, "discarded", count)
            return Effect.zipRight(turn, discardFor(ids))
          }))

    const stop = Effect.gen(function*() {
      stopping = true
      yield* within(idle, settings.grace)
      halted = true
      for (const { fiber } of held.values()) if (fiber !== undefined) yield* Fiber.interruptFork(fiber)
      yield* within(idle, handBackTime)
      abandoned = true
      yield* Fiber.interrupt(renewing)
      yield* within(
        Effect.disconnect(
          Effect.zipRight(Scope.close(scope, Exit.void), Effect.suspend(() => folding.flush(store, folding.waiting())))
        ),
        handBackTime
      )
    })

    const relayed: Effect.Effect<void> = Effect.suspend(() =>
      relaying ? Effect.zipRight(Deferred.await(next), relayed) : Effect.void
    )

    return {
      begin,
      claim,
      relay: (one) => {
        follow = one
      },
      relayed,
      reserve,
      unreserve,
      giveUp: (claimed) =>
        Effect.gen(function*() {
          const now = yield* monotonicNow
          occupying.add(claimed, now)
          yield* dismiss(claimed, true)
        }),
      discardFor,
      count: occupying.count,
      countOf: occupying.countOf,
      retries: occupying.retries,
      ids: () => [...held.keys()],
      freed: () => Deferred.await(nextFree),
      suspects: () => [...held.values()].flatMap(({ claimed }) => claimed.lapses > 0 ? [claimed] : []),
      quiet,
      ended,
      // Results that can't be written are tried again for as long as it takes: nobody waits for that.
      flush: Effect.flatMap(store.now, (now) => {
        const ids = folding.waiting(now)
        return ids.length === 0
          ? Effect.void
          : Effect.asVoid(folds.withPermitsIfAvailable(1)(folding.flush(store, ids)))
      }),
      stop
    }
  })

// --- internal

const slotsOf = (wants: ReadonlyArray<Want>): number => wants.reduce((sum, { first, retry }) => sum + first + retry, 0)

interface Pending extends Settling.Ended {
  /** Monotonic milliseconds. */
  readonly endedAt: number
  /** Somebody else had it when it was to be written. */
  readonly contended?: boolean
}

/** Milliseconds: how old what was seen of an endpoint may be in a backlog (a relay looks at its row again), and how far apart its successes are written together with others'. */
const longestUnseen = 60_000
const flushPause = 250

const idsOf = (claimed: Claimed) => ({
  endpointId: claimed.endpoint.id,
  deliveryId: `dlv_${claimed.id}`,
  messageId: claimed.messageId
})

/** Whether the database may yet take it as it is. */
const passes = ({ reason }: OutboxUnavailable): boolean => reason !== "constraint" && reason !== "other"

/** From 50 ms, doubling to 2 s, for as long as it is worth it. */
const firstRetry = Duration.millis(50)
const retrying = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("2 seconds"))

/** Time in which what was stopped is handed back, beyond the grace time. */
const handBackTime = Duration.seconds(3)
