/** A line of the log whose annotations are made only where somebody reads it: most programs log from a level on, and each annotation makes a map anew. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { identity } from "effect/Function"
import * as LogLevel from "effect/LogLevel"

/** Logs `message` at `level` with annotations, `within` what is around it; of a fiber that is at hand. */
export const logLine = (
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  level: LogLevel.LogLevel,
  message: string,
  annotations: () => Readonly<Record<string, unknown>>,
  within: (line: Effect.Effect<void>) => Effect.Effect<void> = identity
): Effect.Effect<void> =>
  LogLevel.lessThan(level, fiber.getFiberRef(FiberRef.currentMinimumLogLevel))
    ? Effect.void
    : within(Effect.annotateLogs(Effect.logWithLevel(level, message), annotations()))
