import * as FiberRef from "effect/FiberRef"
import { globalValue } from "effect/GlobalValue"

/** The number of the attempt under way, 0 outside one. */
export const currentAttempt: FiberRef.FiberRef<number> = globalValue(
  "effect-webhooks/ResilientHttpClient/currentAttempt",
  () => FiberRef.unsafeMake(0, { join: (parent) => parent })
)
