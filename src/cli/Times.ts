/**
 * Points in time as the operating commands write and read them. All are milliseconds since the epoch.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as DurationText from "../DurationText.js"
import { isRfc3339 } from "../webhooks/internal/eventTime.js"

/** RFC 3339 in UTC, with milliseconds: `2026-01-27T12:00:00.000Z`. */
export const instant = (time: number): string => DateTime.formatIso(DateTime.unsafeMake(time))

/** `instant`, or nothing where there is no time. */
export const maybeInstant = (time: number | undefined): string | undefined =>
  time === undefined ? undefined : instant(time)

/** For a person: `2026-01-27T12:00:00Z (in 5m)`, `… (2h ago)`, `… (now)`; whole units, the greatest that fits. */
export const shown = (time: number, now: number): string => {
  const distance = Math.abs(time - now)
  const [size, unit] = units.find(([size]) => distance >= size) ?? [Infinity, ""]
  const text = `${Math.floor(distance / size)}${unit}`
  const relative = unit === "" ? "now" : time > now ? `in ${text}` : `${text} ago`
  return `${instant(Math.floor(time / 1000) * 1000).replace(".000Z", "Z")} (${relative})`
}

/** What `parse` accepts, in words for an error message. */
export const allowed = "a time such as 2026-01-27T12:00:00Z, or how long ago it was, such as 2h"

/** Reads an RFC 3339 time, or a duration that lies that far back from `now`. */
export const parse = (text: string, now: number): Option.Option<number> =>
  isRfc3339(text)
    // JavaScript knows no leap seconds.
    ? Option.map(DateTime.make(text.toUpperCase().replace(/:60(?=[.Z+-])/, ":59")), DateTime.toEpochMillis)
    : Option.map(
      DurationText.parse(text, longest),
      (duration) => now - Duration.toMillis(duration)
    )

// --- internal

const longest = Duration.days(3650)

const units: ReadonlyArray<readonly [size: number, unit: string]> = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "m"],
  [1000, "s"]
]
