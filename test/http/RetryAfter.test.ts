import { describe, expect, it } from "@effect/vitest"
import * as RetryAfter from "../../src/http/RetryAfter.js"

const now = Date.UTC(2026, 10, 23, 12, 0, 0)

describe("RetryAfter", () => {
  it.each([
    ["10", 10_000],
    [" 10 ", 10_000],
    ["007", 7000],
    ["120.1", 121_000],
    ["0.001", 1000],
    ["86400", 86_400_000],
    ["86401", 86_400_000],
    ["99999999999999999999999999", 86_400_000],
    ["Mon, 23 Nov 2026 12:00:30 GMT", 30_000],
    ["Monday, 23-Nov-26 12:00:30 GMT", 30_000],
    ["Mon Nov 23 12:00:30 2026", 30_000],
    ["Tue, 24 Nov 2026 12:00:01 GMT", 86_400_000],
    ["Wed Jan  6 00:00:00 2027", 86_400_000]
  ])("%j is %i ms", (header, expected) => {
    expect(RetryAfter.parse(header, now)).toBe(expected)
  })

  it("a two-digit year more than 50 years ahead is of the past (RFC 9110 §5.6.7)", () => {
    expect(RetryAfter.parse("Sunday, 06-Nov-94 08:49:37 GMT", now)).toBeUndefined()
    expect(RetryAfter.parse("Sunday, 06-Nov-70 08:49:37 GMT", now)).toBe(86_400_000)
    expect(RetryAfter.parse("Friday, 01-Jan-00 00:00:10 GMT", Date.UTC(2099, 11, 31, 23, 59, 59))).toBe(11_000)
  })

  it.each([
    undefined,
    "",
    " ",
    "0",
    "0.0",
    "-1",
    "+1",
    ".5",
    "1.",
    "1e3",
    "0x10",
    "1_000",
    "10, 20",
    "10;20",
    "Infinity",
    "NaN",
    "null",
    "later",
    "2026-11-23T12:00:30Z",
    "Mon, 23 Nov 2026 12:00:30",
    "Mon, 23 Nov 2026 12:00:30 CET",
    "Mon, 23 Nov 2026 12:00:30 +0100",
    "mon, 23 nov 2026 12:00:30 gmt",
    "Mon, 23 Nov 2026 99:99:99 GMT",
    "Mon, 23 Nov 2026 12:00:00 GMT",
    "Mon, 23 Nov 2026 11:59:59 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Monday, 23-Nov-25 12:00:30 GMT",
    "١٠",
    "9".repeat(65)
  ])("%j is none", (header) => {
    expect(RetryAfter.parse(header, now)).toBeUndefined()
  })
})
