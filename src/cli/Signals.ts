/**
 * SIGINT and SIGTERM for the commands that end in good order.
 */
import * as Effect from "effect/Effect"

export type Signal = "SIGINT" | "SIGTERM"

/**
 * Waits for the first SIGINT or SIGTERM. A second one ends the process at once, as the system does by default; one within 50 ms of
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

// --- internal

const signals: ReadonlyArray<Signal> = ["SIGINT", "SIGTERM"]
