/**
 * A line of the log whose annotations are made only where somebody reads it: to annotate takes longer (40 µs for seven) than anything else that a
 * delivery needs, and most programs log from a level on.
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as LogLevel from "effect/LogLevel"

/** Logs `message` at `level` with annotations. */
export const logLine = (
  level: LogLevel.LogLevel,
  message: string,
  annotations: () => Readonly<Record<string, unknown>>
): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) =>
    LogLevel.lessThan(level, fiber.getFiberRef(FiberRef.currentMinimumLogLevel))
      ? Effect.void
      : Effect.annotateLogs(Effect.logWithLevel(level, message), annotations())
  )
