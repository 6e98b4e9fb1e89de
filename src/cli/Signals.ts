/**
 * SIGINT, SIGTERM and SIGHUP (the terminal was closed) for the commands that end in good order.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stdio from "./Stdio.js"

export type Signal = "SIGHUP" | "SIGINT" | "SIGTERM"

/**
 * Waits for the first of them. A second one ends the process at once, unless `another` waits for it. But not a second SIGHUP: the
 * system and the shell both tell of a terminal that was closed, and nobody insists through it. And one within 50 ms of
 * the first is taken for its echo (`npx` passes on what the terminal has sent to its child already). Without anybody waiting here,
 * the first one ends the process.
 */
export const first: Effect.Effect<Signal> = Effect.suspend(() => {
  const listeners = new Map<Signal, () => void>()
  const off = Effect.sync(() =>
    listeners.forEach((listener, signal) => {
      if (signal !== "SIGHUP") process.off(signal, listener)
    })
  )
  return Effect.async<Signal>((resume) => {
    for (const signal of signals) {
      const listener = () => {
        if (signal === "SIGHUP") Stdio.leaveTerminal()
        resume(Effect.succeed(signal))
      }
      listeners.set(signal, listener)
      process.on(signal, listener)
    }
    return off
  }).pipe(Effect.tap(() => Effect.forkDaemon(Effect.delay(off, "50 millis"))))
})

/**
 * Waits for another one, SIGHUP apart, once the first has come (an echo apart). Without anybody waiting here either, it ends the process.
 */
export const another: Effect.Effect<Signal> = Effect.suspend(() => {
  let armed = false
  return Effect.zipRight(
    Effect.fork(Effect.delay(
      Effect.sync(() => {
        armed = true
      }),
      "50 millis"
    )),
    Effect.async<Signal>((resume) => {
      const listeners = signals.filter((signal) => signal !== "SIGHUP").map((signal) => {
        const listener = () => {
          if (armed) resume(Effect.succeed(signal))
        }
        process.on(signal, listener)
        return [signal, listener] as const
      })
      return Effect.sync(() => listeners.forEach(([signal, listener]) => process.off(signal, listener)))
    })
  )
})

/** Waits for the first one from now on, in the background: one that comes while a command is still starting isn't lost, nor does it end it midway. */
export const awaited: Effect.Effect<Fiber.Fiber<Signal>, never, Scope.Scope> = Effect.zipLeft(
  Effect.forkScoped(first),
  Effect.yieldNow()
)

/** What is told on stderr when a command begins to stop. */
export const stopping = (grace: Duration.Duration): string =>
  `stopping: requests in flight have ${Duration.format(grace)} to end; again to end at once`

// --- internal

const signals: ReadonlyArray<Signal> = ["SIGHUP", "SIGINT", "SIGTERM"]
