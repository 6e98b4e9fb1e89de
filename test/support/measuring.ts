/** What a process holds. */
import * as Effect from "effect/Effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** MiB of objects and buffers, once sockets are gone and what they held with them. */
export const heap: Effect.Effect<number> = Effect.gen(function*() {
  for (let i = 0; i < 3; i++) {
    collect()
    yield* Effect.sleep("50 millis")
  }
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return (heapUsed + arrayBuffers) / 0x100000
})

/** Sockets of TCP and TLS, listening ones included. */
export const sockets = (): number => process.getActiveResourcesInfo().filter((kind) => /^(TCP|TLS)/.test(kind)).length

// --- internal

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")
