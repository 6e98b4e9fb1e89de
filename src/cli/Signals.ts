/**
 * SIGINT and SIGTERM for the commands that end in good order.
 */
import * as Effect from "effect/Effect"

export type Signal = "SIGINT" | "SIGTERM"

/**
 * Waits for the first SIGINT or SIGTERM. A second one ends the process at once, unless `another` waits for it; one within 50 ms of
 * the first is taken for its echo (`npx` passes on what the terminal has sent to its child already). Without anybody waiting here,
 * the first one ends the process.
 */
export const first: Effect.Effect<Signal> = Effect.suspend(() => {
  const listeners = new Map<Signal, () => void>()
  const off = Effect.sync(() => listeners.forEach((listener, signal) => process.off(signal, listener)))
  return Effect.async<Signal>((resume) => {
    for (const signal of signals) {
      const listener = () => resume(Effect.succeed(signal))
      listeners.set(signal, listener)
      process.on(signal, listener)
    }
    return off
  }).pipe(Effect.tap(() => Effect.forkDaemon(Effect.delay(off, "50 millis"))))
})

/**
 * Waits for another one, once the first has come (an echo apart). Without anybody waiting here either, it ends the process.
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
      const listeners = signals.map((signal) => {
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

// --- internal

const signals: ReadonlyArray<Signal> = ["SIGINT", "SIGTERM"]
