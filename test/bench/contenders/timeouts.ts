/** A call whose answer comes in a later turn of the event loop, bounded in time by an attempt's timeout and a deadline over all attempts, which it doesn't reach. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Deadlines from "../../../dist/http/internal/deadlines.js"
import type { Contender, Contenders } from "../contending.js"

/** Milliseconds: what the library bounds calls by unless it is told otherwise. */
const attemptTimeout = 10_000
const deadline = 60_000

/** In flight at a time, and so answered in one turn: what one endpoint is given by default. */
const concurrency = 10

const contender = (one: Effect.Effect<void, string>) => (): Contender => ({
  run: (count) => {
    let left = count
    const fiber = Effect.whileLoop({ while: () => left-- > 0, body: () => one, step: () => undefined })
    return Effect.runPromise(
      Effect.all(Array.from({ length: concurrency }, () => fiber), { concurrency, discard: true })
    )
  }
})

let waiting: Array<() => void> = []

/** Answers all that wait, in the next turn. */
const answer = (done: () => void): void => {
  if (waiting.push(done) > 1) return
  setImmediate(() => {
    const all = waiting
    waiting = []
    for (const one of all) one()
  })
}

const bare = Effect.async<void>((resume) => answer(() => resume(Effect.void)))

/** As the client does: the deadline is a moment, and each attempt has what is left of it, or its own time if that is less; it is set when the request is ready. */
const library = Clock.clockWith((clock) => {
  const deadlineAt = Deadlines.monotonic(clock) + deadline
  const startedAt = Deadlines.monotonic(clock)
  const until = startedAt + Math.min(attemptTimeout, deadlineAt - startedAt)
  return Effect.async<void, string>((resume) => {
    const time = Math.max(0, until - Deadlines.monotonic(clock))
    const limit = Deadlines.set(clock, time, () => resume(Effect.fail("out of time")))
    answer(() => {
      limit.cancel()
      resume(Effect.void)
    })
  })
})

const timers = Effect.async<void, string>((resume) => {
  const late = () => resume(Effect.fail("out of time"))
  const attempt = setTimeout(late, attemptTimeout)
  const whole = setTimeout(late, deadline)
  answer(() => {
    clearTimeout(attempt)
    clearTimeout(whole)
    resume(Effect.void)
  })
})

const stock = bare.pipe(
  Effect.timeoutFail({ duration: attemptTimeout, onTimeout: () => "out of time" }),
  Effect.timeoutFail({ duration: deadline, onTimeout: () => "out of time" })
)

export const contenders: Contenders<unknown> = {
  bare: contender(bare),
  timers: contender(timers),
  "effect-timeout": contender(stock),
  "effect-webhooks": contender(library)
}
