/** A program that tells how many of 20 effects under a mask are still there after small collections: under ours, and under Effect's. Run with `--expose-gc`. */
import * as Effect from "effect/Effect"
import { uninterruptibleMask } from "../../src/Masking.js"

type Mask = typeof uninterruptibleMask

const size = 1_000_000

const collect = (): void => {
  for (let n = 0; n < 3; n++) Reflect.apply(Reflect.get(globalThis, "gc") as () => void, undefined, [{ type: "minor" }])
}

const run = (mask: Mask): void => {
  const bytes = new ArrayBuffer(size)
  Effect.runSync(mask((restore) => restore(Effect.sync(() => bytes.byteLength))))
}

const kept = (mask: Mask): number => {
  collect()
  const before = process.memoryUsage().arrayBuffers
  for (let n = 0; n < 20; n++) run(mask)
  collect()
  return Math.round((process.memoryUsage().arrayBuffers - before) / size)
}

const effects: Mask = (use) =>
  Effect.withFiberRuntime((fiber) => Effect.uninterruptibleMask((restore) => use(restore, fiber)))

process.send!({ ours: kept(uninterruptibleMask), effects: kept(effects) })
process.disconnect()
