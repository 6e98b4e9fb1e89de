import * as Option from "effect/Option"
import { expect, it } from "vitest"
import * as Times from "../../src/cli/Times.js"

const now = Date.UTC(2026, 0, 27, 12)
const parse = (text: string) => Option.getOrUndefined(Times.parse(text, now))

it("writes times as RFC 3339, for a person with the distance from now", () => {
  expect(Times.instant(now + 5)).toBe("2026-01-27T12:00:00.005Z")
  expect(
    [-200_000_000, -86_399_000, -61_999, -999, 0, 999, 1000, 300_000, 7_200_000].map((distance) =>
      Times.shown(now + distance, now).replace(/^.* \(|\)$/g, "")
    )
  ).toEqual(["2d ago", "23h ago", "1m ago", "now", "now", "now", "in 1s", "in 5m", "in 2h"])
  expect(Times.shown(now + 1999, now)).toBe("2026-01-27T12:00:01Z (in 1s)")
})

it("reads RFC 3339 times and how long ago", () => {
  expect(parse("2026-01-27T12:00:00Z")).toBe(now)
  expect(parse("2026-01-27t13:00:00.250+01:00")).toBe(now + 250)
  expect(parse("2016-12-31T23:59:60Z")).toBe(Date.UTC(2016, 11, 31, 23, 59, 59))
  expect(parse("2h")).toBe(now - 7_200_000)
  expect(parse("45d")).toBe(now - 45 * 86_400_000)
  for (const text of ["", "now", "-2h", "2026-01-27", "2026-02-30T00:00:00Z", "1769515200"]) {
    expect(parse(text)).toBeUndefined()
  }
})
