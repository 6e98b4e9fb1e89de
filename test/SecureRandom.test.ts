import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SecureRandom from "../src/SecureRandom.js"

describe("SecureRandom", () => {
  it.effect("bytes: as many as asked for", () =>
    Effect.gen(function*() {
      const random = yield* SecureRandom.SecureRandom
      for (const length of [0, 1, 24, 1000]) expect((yield* random.bytes(length)).length).toBe(length)
    }))

  it.effect("alphanumeric: as many of [A-Za-z0-9] as asked for, never twice the same", () =>
    Effect.gen(function*() {
      const seen = new Set<string>()
      for (let i = 0; i < 500; i++) {
        const text = yield* SecureRandom.alphanumeric(24)
        expect(text).toMatch(/^[A-Za-z0-9]{24}$/)
        seen.add(text)
      }
      expect(seen.size).toBe(500)
      expect(yield* SecureRandom.alphanumeric(0)).toBe("")
      expect((yield* SecureRandom.alphanumeric(1000)).length).toBe(1000)
    }))

  it.effect("alphanumeric: each character as likely as another", () =>
    Effect.gen(function*() {
      // All bytes of one value each in turn: what lies above the largest multiple of 62 must not favour the first letters.
      const everyByte = { bytes: (length: number) => Effect.succeed(Uint8Array.from({ length }, (_, i) => i % 256)) }
      const text = yield* Effect.provideService(SecureRandom.alphanumeric(248), SecureRandom.SecureRandom, everyByte)
      const counts = new Map<string, number>()
      for (const c of text) counts.set(c, (counts.get(c) ?? 0) + 1)
      expect(counts.size).toBe(62)
      expect(new Set(counts.values())).toEqual(new Set([4]))
    }))

  it.effect("alphanumeric: asks again when too few bytes were of use", () =>
    Effect.gen(function*() {
      let asked = 0
      const poor = {
        bytes: (length: number) => Effect.sync(() => new Uint8Array(length).fill(++asked < 3 ? 255 : 0))
      }
      expect(yield* Effect.provideService(SecureRandom.alphanumeric(4), SecureRandom.SecureRandom, poor)).toBe("AAAA")
      expect(asked).toBe(3)
    }))

  it.effect("layerTest repeats itself for a seed", () =>
    Effect.gen(function*() {
      const of = (seed: string) => Effect.provide(SecureRandom.alphanumeric(24), SecureRandom.layerTest(seed))
      expect(yield* of("a")).toBe(yield* of("a"))
      expect(yield* of("a")).not.toBe(yield* of("b"))
    }))
})
