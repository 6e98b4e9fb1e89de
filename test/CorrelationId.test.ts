import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as CorrelationId from "../src/CorrelationId.js"
import * as SecureRandom from "../src/SecureRandom.js"
import { logs, spans } from "./support/recording.js"

const fresh = expect.stringMatching(/^cid_[A-Za-z0-9]{24}$/)

const bad = [
  "",
  " ",
  "a b",
  "a\r\nx-injected: 1",
  "a\nb",
  "a\u0000",
  "ü",
  "a,b",
  "a;b",
  "<script>",
  "a".repeat(129),
  "a\n",
  "🙂"
]

describe("CorrelationId", () => {
  it("accepts 1 to 128 of [A-Za-z0-9_.:-] and nothing else", () => {
    for (const id of ["a", "order-42", "a.b:c_d-E9", "a".repeat(128)]) {
      expect([id, CorrelationId.isValid(id)]).toEqual([id, true])
    }
    for (const id of bad) expect([id, CorrelationId.isValid(id)]).toEqual([id, false])
    FastCheck.assert(FastCheck.property(FastCheck.string({ unit: "binary", maxLength: 200 }), (id) => {
      const plain = id.length >= 1 && id.length <= 128 && [...id].every((c) => /[A-Za-z0-9_.:-]/.test(c))
      expect(CorrelationId.isValid(id)).toBe(plain)
    }))
  })

  it.effect("current: none outside, the id inside, none again after", () =>
    Effect.gen(function*() {
      expect(yield* CorrelationId.current).toEqual(Option.none())
      expect(yield* CorrelationId.withCorrelationId(CorrelationId.current, "a")).toEqual(Option.some("a"))
      expect(
        yield* CorrelationId.current.pipe(CorrelationId.withCorrelationId("b"), CorrelationId.withCorrelationId("a"))
      )
        .toEqual(Option.some("b"))
      expect(yield* CorrelationId.current).toEqual(Option.none())
    }))

  it.effect("an invalid id is replaced by a fresh one", () =>
    Effect.gen(function*() {
      for (const id of bad) {
        expect(yield* CorrelationId.withCorrelationId(CorrelationId.current, id)).toEqual(Option.some(fresh))
        expect(yield* CorrelationId.accept(id)).toEqual(fresh)
      }
      expect(yield* CorrelationId.accept(undefined)).toEqual(fresh)
      expect(yield* CorrelationId.accept("mine")).toBe("mine")
    }))

  it.effect("currentOrGenerate: the one there is, else a fresh one each time", () =>
    Effect.gen(function*() {
      expect(yield* CorrelationId.withCorrelationId(CorrelationId.currentOrGenerate, "a")).toBe("a")
      const two = [yield* CorrelationId.currentOrGenerate, yield* CorrelationId.currentOrGenerate]
      expect(two).toEqual([fresh, fresh])
      expect(two[0]).not.toBe(two[1])
    }))

  it.effect("generate is as random as its source", () =>
    Effect.gen(function*() {
      const first = yield* Effect.provide(CorrelationId.generate, SecureRandom.layerTest("seed"))
      const again = yield* Effect.provide(CorrelationId.generate, SecureRandom.layerTest("seed"))
      expect(first).toEqual(fresh)
      expect(again).toBe(first)
    }))

  it.effect("a child inherits it, joined, forked or concurrent", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flatMap(Effect.fork(CorrelationId.current), Fiber.join)).toEqual(Option.some("parent"))
      expect(yield* Effect.flatMap(Effect.forkDaemon(CorrelationId.current), Fiber.join)).toEqual(Option.some("parent"))
      expect(yield* Effect.all([CorrelationId.current, CorrelationId.current], { concurrency: 2 })).toEqual([
        Option.some("parent"),
        Option.some("parent")
      ])
    }).pipe(CorrelationId.withCorrelationId("parent")))

  it.effect("a child's change never reaches the parent", () =>
    Effect.gen(function*() {
      // A layer built in a scope of the child's own, still open when it is joined.
      const fiber = yield* Effect.fork(Effect.scope.pipe(
        Effect.flatMap((scope) => Layer.buildWithScope(CorrelationId.layer("child"), scope)),
        Effect.zipRight(CorrelationId.current)
      ))
      expect(yield* Fiber.join(fiber)).toEqual(Option.some("child"))
      expect(yield* CorrelationId.current).toEqual(Option.some("parent"))
      yield* Effect.all([CorrelationId.withCorrelationId(Effect.yieldNow(), "a"), Effect.void], { concurrency: 2 })
      expect(yield* CorrelationId.current).toEqual(Option.some("parent"))
    }).pipe(Effect.scoped, CorrelationId.withCorrelationId("parent")))

  it.effect("layer: logs and spans of what runs under it carry the id", () => {
    const log = logs()
    const recording = spans()
    return Effect.gen(function*() {
      yield* Effect.withSpan(Effect.log("hello"), "work").pipe(Effect.provide(CorrelationId.layer("layered")))
      yield* Effect.log("outside")
      expect(log.lines.map(({ annotations }) => annotations.correlationId)).toEqual(["layered", undefined])
      expect(recording.recorded[0]?.attributes.get("correlationId")).toBe("layered")
    }).pipe(Effect.provide(Layer.merge(log.layer, recording.layer)))
  })

  it.effect("layer: what runs under it has the id; what is invalid is replaced", () =>
    Effect.gen(function*() {
      expect(yield* Effect.provide(CorrelationId.current, CorrelationId.layer("layered"))).toEqual(
        Option.some("layered")
      )
      expect(yield* Effect.provide(CorrelationId.current, CorrelationId.layer("a\r\nb"))).toEqual(Option.some(fresh))
      expect(yield* CorrelationId.current).toEqual(Option.none())
    }))

  it.effect("annotates logs and spans", () => {
    const log = logs()
    const recording = spans()
    return Effect.gen(function*() {
      yield* Effect.log("inside").pipe(Effect.withSpan("inner"), CorrelationId.withCorrelationId("order-42"))
      yield* Effect.log("outside")
      expect(log.lines.map(({ annotations, message }) => [message, annotations["correlationId"]])).toEqual([
        ["inside", "order-42"],
        ["outside", undefined]
      ])
      expect(recording.recorded.map(({ attributes, name }) => [name, attributes.get("correlationId")])).toEqual([
        ["inner", "order-42"]
      ])
    }).pipe(Effect.provide(Layer.merge(log.layer, recording.layer)))
  })
})
