import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { local, locallyAll } from "../src/Locally.js"

const a = FiberRef.unsafeMake(0)
const b = FiberRef.unsafeMake("x")
const both = Effect.all([FiberRef.get(a), FiberRef.get(b)])
const set = <A, E>(effect: Effect.Effect<A, E>) =>
  locallyAll(effect, [local(a, (before) => before + 1), local(b, (before) => `${before}y`)])

it.effect("values hold for the effect and its children, and are what they were after it, however it ends", () =>
  Effect.gen(function*() {
    expect(yield* set(both)).toEqual([1, "xy"])
    expect(yield* set(set(both))).toEqual([2, "xyy"])
    expect(yield* set(Effect.flatMap(Effect.fork(both), Fiber.join))).toEqual([1, "xy"])
    expect(yield* Effect.exit(set(Effect.fail("no")))).toEqual(Exit.fail("no"))
    expect(yield* Effect.exit(set(Effect.die("fault")))).toEqual(Exit.die("fault"))
    expect(yield* both).toEqual([0, "x"])
    yield* Effect.exit(Effect.raceFirst(set(Effect.never), Effect.void))
    expect(yield* both).toEqual([0, "x"])
  }))

it.effect("another value that the effect leaves behind stays", () =>
  Effect.gen(function*() {
    const c = FiberRef.unsafeMake(0)
    yield* set(FiberRef.set(c, 5))
    expect(yield* FiberRef.get(c)).toBe(5)
  }))
