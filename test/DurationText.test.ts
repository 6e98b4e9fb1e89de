import { describe, expect, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as DurationText from "../src/DurationText.js"

const millis = (text: string) => Option.getOrUndefined(Option.map(DurationText.parse(text), Duration.toMillis))

describe("DurationText", () => {
  it.each([
    ["500ms", 500],
    ["0s", 0],
    ["10s", 10_000],
    ["10 seconds", 10_000],
    ["1 second", 1000],
    ["1.5 m", 90_000],
    ["5m", 300_000],
    ["2h", 7_200_000],
    ["1d", 86_400_000],
    ["1w", 604_800_000],
    ["3 Weeks", 1_814_400_000],
    ["  7 MIN  ", 420_000],
    ["24 days", 2_073_600_000],
    ["0.000001s", 0.001]
  ])("%j is %f ms", (text, expected) => {
    expect(millis(text)).toBeCloseTo(expected, 6)
  })

  it.each([
    "",
    " ",
    "10",
    "s",
    "-1s",
    "+1s",
    "1e3s",
    "1,5s",
    ".5s",
    "1.s",
    "0x10s",
    "Infinity",
    "infinity s",
    "10 fortnights",
    "10s 5s",
    "1h30m",
    "24.1 days",
    "25d",
    "4w",
    "999999999999w",
    "1 __proto__",
    "1 constructor",
    "1 tostring",
    "10\u00a0s\u0000",
    "１０s"
  ])("%j is none", (text) => {
    expect(millis(text)).toBeUndefined()
  })

  it.effect("config: reads a variable, and says what is allowed without quoting what was there", () =>
    Effect.gen(function*() {
      const from = (value: string) =>
        Effect.withConfigProvider(
          DurationText.config("PATIENCE"),
          ConfigProvider.fromMap(new Map([["PATIENCE", value]]))
        )
      expect(Duration.toMillis(yield* from("1.5s"))).toBe(1500)
      expect(Duration.toMillis(yield* from("0s"))).toBe(0)
      const error = yield* Effect.flip(from("canary"))
      expect(String(error)).toContain("PATIENCE")
      expect(String(error)).toContain(DurationText.allowed)
      expect(String(error)).not.toContain("canary")
    }))

  it.effect("config: refuses what is shorter than the least", () =>
    Effect.gen(function*() {
      const from = (value: string) =>
        Effect.withConfigProvider(
          DurationText.config("PATIENCE", { least: "1 milli" }),
          ConfigProvider.fromMap(new Map([["PATIENCE", value]]))
        )
      expect(Duration.toMillis(yield* from("1ms"))).toBe(1)
      for (const value of ["0s", "0.5ms"]) expect(String(yield* Effect.flip(from(value)))).toContain("at least 1ms")
    }))
})
