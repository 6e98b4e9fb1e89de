/** A line of the log whose annotations are made only where somebody reads it: most programs log from a level on, and each annotation makes a map anew. */
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
