/**
 * The worker's loop: look, claim, attempt, settle.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { defaults } from "../../Defaults.js"
import { monotonicNow } from "../../http/internal/monotonic.js"
import { turn } from "../../http/internal/turn.js"
import * as Metrics from "../../Metrics.js"
import { alphanumeric } from "../../SecureRandom.js"
import type { Endpoint } from "../../webhooks/Endpoint.js"
import type { OutboxUnavailable } from "../OutboxError.js"
import * as Claiming from "./claiming.js"
import * as Discarding from "./discarding.js"
import * as EndpointRows from "./endpointRows.js"
import * as Holding from "./holding.js"
import * as Looking from "./looking.js"
import * as Ordering from "./ordering.js"
import * as Planning from "./planning.js"
import * as Reserving from "./reserving.js"
import * as Rotation from "./rotation.js"
import type { Parts, Settings } from "./workerParts.js"

export interface Working {
  readonly ready: Effect.Effect<boolean>
  readonly inFlight: Effect.Effect<number>
}

/** Starts the loop in the scope. */
export const make = (parts: Parts, settings: Settings): Effect.Effect<Working, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { deliveries, endpoints, lock, store } = parts
    const runtime = yield* Effect.runtime()
    const startedAt = yield* monotonicNow
    let ready = true
    let superseded = false
    let lookedAt = startedAt
    let failures = 0
    let misses = 0
    let sweepAt = 0
    let position: Ordering.Position = {}
    const firstDelay = settings.schedule[0] ?? 0
    // Monotonic milliseconds.
    let aloneFrom = 0
    // Suspects that were asked for, and couldn't be had.
    let vain = 0
    let resyncAt = startedAt + minute
    let purgeAt = startedAt + minute
    // Whether the last look has left nothing that could go.
    let idle = false
    const holding = yield* Holding.make(parts, settings)
    const rotation = Rotation.make()
    const see = Looking.make(store, endpoints, firstDelay)

    /** One look: claims what may go now, and tells how long there is nothing to look for. */
    const look: Effect.Effect<Rest, OutboxUnavailable> = Effect.gen(function*() {
      if (!(yield* locked)) {
        holding.relay(undefined)
        return { time: settings.poll, short: false }
      }
      const now = yield* store.now
      yield* sweep(now)
      const { again: unseen, due: known, later } = yield* see(now)
      // What came meanwhile may be of an endpoint that this look left out.
      const longest = unseen === 0 ? settings.poll : Math.min(settings.poll, unseen)
      if (known.length === 0) {
        holding.relay(undefined)
        yield* Metrics.circuits([])
        return { time: Math.min(longest, Math.max(0, later - now)), short: false }
      }
      const rows = yield* EndpointRows.read(store, known.map(({ endpoint }) => endpoint.id), settings.health.circuit)
      yield* Metrics.circuits([...rows.values()].map(({ circuit }) => circuit._tag))
      yield* holding.discardFor([...rows.values()].filter(discards).map(({ id }) => id))
      const candidates = known.map((one) => ({ ...one, row: rows.get(one.endpoint.id) }))
      const plan = Planning.plan(candidates, load(now))
      // Whose lease has lapsed has to get a slot, which only a look finds.
      holding.relay(plan.lapsed ? undefined : following(candidates))
      if (plan.suspects.length > 0 && (yield* tryAlone(plan.suspects))) return again
      const suspectsIn = plan.suspects.length === 0 ? Infinity : Math.max(contended, aloneFrom - (yield* monotonicNow))
      const time = Math.min(longest, suspectsIn, Math.max(0, Math.min(plan.wakeAt, later) - now))
      const short = plan.short || vain > 0
      if (plan.wants.length === 0) return { time, short }
      rotation.ask(plan.wants)
      const claimed = yield* holding.claim(
        plan.wants,
        Effect.flatMap(lease, (lease) => Claiming.claim(store, plan.wants, lease))
      )
      if (claimed.length > 0) {
        misses = 0
        // Of those that are put off at first, a claim leaves some.
        if (firstDelay > 0 || !plan.complete || !Claiming.isAll(plan.wants, claimed)) return again
        // PostgreSQL's also passes over what somebody has locked, who may let go of it without a word.
        return { time: store.dialect === "pg" ? Math.min(time, passedOver) : time, short }
      }
      // Others are at what we saw: soon it will show what became of it.
      return { time: Math.min(longest, suspectsIn, contended * 2 ** Math.min(misses++, 6)), short }
    })

    const load = (now: number): Planning.Load => ({
      now,
      held: holding.count(),
      heldRetries: holding.retries(),
      heldOf: holding.countOf,
      concurrency: settings.concurrency,
      endpointConcurrency: settings.endpointConcurrency,
      claim: settings.claim,
      kept: settings.kept,
      rotation,
      circuit: settings.health.circuit
    })

    /** What is wanted in the stead of what has ended, of what a look has seen: who has something due, their rows are asked again, and the host for its endpoints here. */
    const following = (candidates: ReadonlyArray<Planning.Candidate>): Holding.Follow => ({ retries, slots }) =>
      Effect.gen(function*() {
        if (!(yield* Effect.orElseSucceed(lock.check, () => false))) return
        const loaded = load(yield* store.now)
        const { wants } = Planning.plan(candidates, {
          ...loaded,
          held: loaded.held - slots,
          heldRetries: loaded.heldRetries - retries,
          claim: Math.min(settings.claim, slots)
        })
        const free = wants.filter(({ guarded }) => !guarded)
        const current = askNow(Effect.forEach(free, ({ endpoint }) => endpoints.get(endpoint.id)))
        const asked = free.flatMap((want, index) => {
          const endpoint = Option.getOrUndefined(current?.[index] ?? Option.none())
          return endpoint?.enabled === true && endpoint.rateLimit === undefined ? [{ ...want, endpoint }] : []
        })
        if (asked.length === 0) return
        rotation.ask(asked)
        return { wants: asked, lease: yield* lease }
      })

    /** What a host's service answers, if it does so at once: results that are to be written don't wait for it, nor for its faults. */
    const askNow = <A>(effect: Effect.Effect<A>): A | undefined => {
      const exit = Runtime.runSyncExit(runtime)(effect)
      if (Exit.isSuccess(exit)) return exit.value
      const defect = Option.getOrUndefined(Cause.dieOption(exit.cause))
      if (Runtime.isAsyncFiberException(defect)) defect.fiber.unsafeInterruptAsFork(FiberId.none)
      return undefined
    }

    /** Whether this is still the one worker of an SQLite. */
    const locked = Effect.tap(lock.check, (ours) =>
      Effect.suspend(() => {
        const told = superseded || ours
        superseded = !ours
        return told ? Effect.void : Effect.logError("webhook_worker_superseded")
      }))

    /** Gives turns that got lost, of ordered endpoints: some at a time. */
    const sweep = (now: number): Effect.Effect<void, OutboxUnavailable> =>
      Effect.suspend(() => {
        if (now < sweepAt) return Effect.void
        sweepAt = now + sweepPause
        return Discarding.heldByGone(store).pipe(
          Effect.flatMap(holding.discardFor),
          Effect.zipRight(Ordering.sweep(store, position)),
          Effect.map((next) => {
            position = next
          })
        )
      })

    const lease = Effect.map(alphanumeric(16), (fence): Claiming.Lease => ({
      length: settings.lease,
      fence,
      circuit: settings.health.circuit,
      firstDelay
    }))

    /**
     * Tries one of those whose lease has lapsed. What kills a process mostly does so at once: so it begins alone, and has the worker to itself for a while, which
     * is longer each time; then the others go on beside it, for an endpoint that hangs must not stop them. On its last try nothing else is under way that
     * has lapsed before, so that what is given up is what kills the process, and not what happened to be beside it.
     */
    const tryAlone = (suspects: ReadonlyArray<Endpoint>): Effect.Effect<boolean, OutboxUnavailable> =>
      Effect.gen(function*() {
        const from = yield* monotonicNow
        if (from < aloneFrom) return false
        yield* holding.relayed
        const underWay = holding.suspects()
        const claimed = underWay.some(Claiming.isLastTry) ? undefined : yield* Effect.zipRight(
          holding.quiet(aloneTime),
          Effect.uninterruptible(Effect.tap(
            Effect.flatMap(
              lease,
              (lease) => Claiming.claimSuspect(store, suspects, holding.ids(), holding.suspects(), lease)
            ),
            (claimed) =>
              claimed === undefined
                ? Effect.void
                : claimed.lapses >= defaults.worker.lapses
                ? holding.giveUp(claimed)
                : holding.begin([claimed])
          ))
        )
        if (claimed !== undefined) {
          const paced = Math.max(0, claimed.notBefore - (yield* store.now))
          const alone = Duration.millis(paced + aloneTime * 2 ** (claimed.lapses - 1))
          yield* Effect.raceFirst(holding.ended(claimed.id), Effect.sleep(alone))
        }
        const until = yield* monotonicNow
        vain = claimed === undefined ? Math.min(vain + 1, 6) : 0
        // The others get as long as they have waited.
        aloneFrom = until + Math.max(contended * 2 ** vain, until - from)
        // What was seen before the wait counts no more.
        return claimed !== undefined || until > from
      })

    const cycle: Effect.Effect<void, OutboxUnavailable> = Effect.suspend(() => {
      // Before the look: what comes while it is under way is not missed.
      const woken = store.awaitWake()
      idle = false
      const freed = Effect.map(holding.freed(), () => {
        // It may have been what a suspect waits for.
        if (vain > 0) aloneFrom = 0
      })
      return Effect.flatMap(Effect.zipLeft(look, looked), ({ short, time }) => {
        idle = time > 0 && !short && !superseded
        const rest = time <= 0 ? turn : Effect.zipRight(
          holding.flush,
          Effect.raceFirst(Effect.sleep(Duration.millis(time)), short ? Effect.raceFirst(woken, freed) : woken)
        )
        return Effect.zipRight(Effect.zipRight(recovered, housekeeping), rest)
      })
    })

    const looked = Effect.map(monotonicNow, (now) => {
      lookedAt = now
    })

    const recovered = Effect.suspend(() => {
      failures = 0
      if (ready) return Effect.void
      ready = true
      return Effect.logInfo("webhook_worker_resumed")
    })

    const failed = (error: OutboxUnavailable): Effect.Effect<void> =>
      Effect.suspend(() => {
        const told = ready
          ? Effect.annotateLogs(Effect.logError("webhook_worker_waiting"), { error: error.message })
          : Effect.void
        ready = false
        return Effect.zipRight(told, Effect.sleep(Duration.millis(Math.min(longestBackoff, 100 * 2 ** failures++))))
      })

    const housekeeping: Effect.Effect<void, OutboxUnavailable> = Effect.suspend(() =>
      Effect.flatMap(monotonicNow, (now) => {
        if (now < resyncAt) return Effect.void
        resyncAt = now + minute
        const { retention } = settings
        const purge = retention === undefined || now < purgeAt
          ? Effect.void
          : Effect.asVoid(Effect.forkDaemon(Effect.ignoreLogged(deliveries.purge(retention))))
        if (now >= purgeAt) purgeAt = now + hour
        return Effect.zipRight(store.resync, purge)
      })
    )

    const loop = Effect.forever(
      Effect.catchAll(cycle, failed).pipe(
        // A fault of ours, or of a host's `Endpoints`, must not end the worker: told, and tried again.
        Effect.catchAllDefect((defect) =>
          Effect.zipRight(
            Effect.logError("webhook_worker_fault", Cause.die(defect)),
            Effect.sleep(Duration.millis(longestBackoff))
          )
        )
      )
    )
    // A job is joined as soon as it is known of, so that it doesn't matter what becomes of whoever began it.
    const recoveries = Effect.forever(Effect.suspend(() => {
      const woken = store.awaitWake()
      return Effect.flatMap(
        Effect.orElseSucceed(deliveries.resumeRecoveries, () => 0),
        (moved) =>
          moved > 0 ? turn : Effect.zipRight(
            Effect.raceFirst(woken, Effect.sleep(Duration.millis(Math.max(settings.poll, recoveryPause)))),
            Effect.sleep(Duration.millis(recoveryPause))
          )
      )
    }))

    // What is put off at first is for a look to find.
    if (firstDelay === 0) {
      yield* Reserving.offer(store, Reserving.make(endpoints, holding, settings.lease, () => idle))
    }
    const fibers = yield* Effect.forEach([loop, recoveries], (one) => Effect.forkDaemon(one))
    yield* Effect.addFinalizer(() => Effect.zipRight(Fiber.interruptAll(fibers), holding.stop))
    return {
      ready: Effect.map(monotonicNow, (now) => ready && !superseded && now - lookedAt < settings.poll + patience),
      inFlight: Effect.sync(holding.count)
    }
  })

// --- internal

interface Rest {
  /** Milliseconds. */
  readonly time: number
  /** Whether something is due that has to wait until something under way has ended. */
  readonly short: boolean
}

const again: Rest = { time: 0, short: false }

/** Milliseconds. */
const contended = 25
const passedOver = 100
const sweepPause = 2000
/** What a suspect has the worker to itself for at first, and what those under way before it are waited for. */
const aloneTime = 500
/** What a look may take, with a database that is slow and a suspect tried alone. */
const patience = 30_000
const longestBackoff = 5000
const recoveryPause = 1000
const minute = 60_000
const hour = 3_600_000

const discards = ({ disabled }: EndpointRows.EndpointRow): boolean =>
  disabled?.by === "gone" || disabled?.by === "receiver"
