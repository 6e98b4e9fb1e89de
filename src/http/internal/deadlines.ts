/**
 * Time limits that hardly any work reaches, so that what counts is what setting one up and taking it back costs: one sleep, for the earliest of all,
 * stands for however many there are. (`Effect.timeout` costs a fiber and a timer each: 75 µs where this takes 1.)
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import * as FiberClock from "../../FiberClock.js"

/** A time limit that is set. */
export interface Deadline {
  /** Takes it back; does nothing once it has passed. */
  cancel(): void
}

/** Calls `onTime` in `time` milliseconds of the clock, unless it is cancelled before. */
export const set = (clock: Clock.Clock, time: number, onTime: () => void): Deadline => wheelOf(clock).set(time, onTime)

/** Runs `effect` for at most `time` milliseconds: in a fiber of its own, which is interrupted then and, unlike with `Effect.timeout`, not waited for. */
export const within = <A, E, R, E2>(
  effect: Effect.Effect<A, E, R>,
  time: number,
  onTime: () => E2
): Effect.Effect<A, E | E2, R> =>
  Clock.clockWith((clock) =>
    // Interrupted between the fork and the wait, the child would run on with nobody to end it.
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(unlogged(Effect.forkDaemon(Effect.interruptible(effect))), (child) => {
        const ended = Effect.async<A, E | E2>((resume) => {
          const deadline = set(clock, time, () => {
            child.unsafeInterruptAsFork(FiberId.none)
            resume(Effect.failSync(onTime))
          })
          child.addObserver((exit) => {
            deadline.cancel()
            resume(exit)
          })
        })
        return Effect.onInterrupt(restore(ended), () => Fiber.interrupt(child))
      })
    )
  )

/** Milliseconds of a clock that only go forward. */
export const monotonic = FiberClock.monotonicOf

// --- internal

/** What the effect fails with is the caller's to tell: a fiber that fails is logged at level DEBUG, with all that its error says. */
const unlogged = Effect.withUnhandledErrorLogLevel(Option.none())

/** A member of a ring whose head is a member, too. */
class Limit implements Deadline {
  at = 0
  onTime: () => void = none
  before: Limit = this
  after: Limit = this
  wheel: Wheel | undefined

  cancel(): void {
    const { wheel } = this
    // Of those that have passed in the same turn, one may take back another.
    this.onTime = none
    if (wheel === undefined) return
    this.unlink()
    wheel.left()
  }

  unlink(): void {
    this.before.after = this.after
    this.after.before = this.before
    this.wheel = undefined
  }
}

/** The limits of one clock: for each length of time a queue, which its order of entry sorts. */
class Wheel {
  private readonly clock: Clock.Clock
  private readonly queues = new Map<number, Limit>()
  private count = 0
  /** The sleep under way, and when it ends. */
  private sleep: { readonly until: number; readonly stop: () => void } | undefined
  private isResting = false

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  set(time: number, onTime: () => void): Deadline {
    const limit = new Limit()
    limit.at = monotonic(this.clock) + time
    limit.onTime = onTime
    limit.wheel = this
    let head = this.queues.get(time)
    if (head === undefined) this.queues.set(time, head = new Limit())
    limit.before = head.before
    limit.after = head
    head.before.after = limit
    head.before = limit
    this.count++
    if (this.sleep === undefined || limit.at < this.sleep.until) this.sleepUntil(limit.at, time)
    return limit
  }

  /** A limit is gone. What comes in the same turn of the event loop mostly brings the next: only then the sleep is given up. */
  left(): void {
    if (--this.count > 0 || this.isResting) return
    this.isResting = true
    // eslint-disable-next-line no-restricted-globals -- a turn, and no time
    setImmediate(() => {
      this.isResting = false
      if (this.count > 0) return
      this.sleep?.stop()
      this.sleep = undefined
      this.queues.clear()
    })
  }

  private sleepUntil(until: number, time: number): void {
    this.sleep?.stop()
    const fiber = Effect.runFork(this.clock.sleep(Duration.millis(Math.ceil(time))))
    let isOver = false
    this.sleep = {
      until,
      stop: () => {
        isOver = true
        fiber.unsafeInterruptAsFork(FiberId.none)
      }
    }
    fiber.addObserver(() => {
      if (isOver) return
      this.sleep = undefined
      this.pass()
    })
  }

  /** Takes what has passed, earliest first, and sleeps until the next. */
  private pass(): void {
    const now = monotonic(this.clock) + tolerance
    const passed: Array<Limit> = []
    let next = Infinity
    for (const [time, head] of this.queues) {
      while (head.after !== head && head.after.at <= now) {
        const limit = head.after
        limit.unlink()
        this.count--
        passed.push(limit)
      }
      if (head.after === head) this.queues.delete(time)
      else next = Math.min(next, head.after.at)
    }
    if (next < Infinity) this.sleepUntil(next, next - now)
    for (const limit of passed.sort((left, right) => left.at - right.at)) limit.onTime()
  }
}

/** Milliseconds that a sum of fractions may be off by. */
const tolerance = 0.01

const none = (): void => undefined

const wheels = globalValue("effect-webhooks/deadlines", () => new WeakMap<Clock.Clock, Wheel>())

const wheelOf = (clock: Clock.Clock): Wheel => {
  const found = wheels.get(clock)
  if (found !== undefined) return found
  const wheel = new Wheel(clock)
  wheels.set(clock, wheel)
  return wheel
}
