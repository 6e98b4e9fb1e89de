/**
 * Durations as people write them in an environment variable, a configuration file or an argument.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"

/** What `parse` accepts, in words for an error message. */
export const allowed = "a duration such as 500ms, 10s, 5m, 2h, 1d or \"10 seconds\", at most 24 days"

/** The longest duration that a timer of Node.js keeps (and so that any setting may have). */
export const longest = Duration.days(24)

/**
 * Reads `500ms`, `10s`, `1.5 m`, `2h`, `1d`, `1w` or long forms (`10 seconds`); none for anything else, and for
 * durations over `most` (default: 24 days, the longest that Node.js timers hold).
 */
export const parse = (text: string, most: Duration.Duration = longest): Option.Option<Duration.Duration> => {
  const match = pattern.exec(text.trim().toLowerCase())
  const unit = match === null ? undefined : units[match[2]!]
  if (match === null || unit === undefined) return Option.none()
  const duration = Duration.millis(Number(match[1]) * unit)
  return Duration.lessThanOrEqualTo(duration, most) ? Option.some(duration) : Option.none()
}

/** A duration from the configuration, in the forms of `parse`; `least` is the shortest that is allowed (default: zero). */
export const config = (
  name: string,
  options?: { readonly least?: Duration.DurationInput | undefined }
): Config.Config<Duration.Duration> => {
  const least = Duration.decode(options?.least ?? Duration.zero)
  const bound = Duration.greaterThan(least, Duration.zero) ? ` and at least ${Duration.format(least)}` : ""
  return Config.mapOrFail(
    Config.string(name),
    (text) =>
      Option.match(Option.filter(parse(text), Duration.greaterThanOrEqualTo(least)), {
        onNone: () => Either.left(ConfigError.InvalidData([], `must be ${allowed}${bound}`)),
        onSome: Either.right
      })
  )
}

// --- internal

const pattern = /^(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]+)$/

const units: Readonly<Record<string, number>> = Object.assign(Object.create(null) as Record<string, number>, {
  ms: 1,
  milli: 1,
  millis: 1,
  millisecond: 1,
  milliseconds: 1,
  s: 1000,
  sec: 1000,
  secs: 1000,
  second: 1000,
  seconds: 1000,
  m: 60_000,
  min: 60_000,
  mins: 60_000,
  minute: 60_000,
  minutes: 60_000,
  h: 3_600_000,
  hr: 3_600_000,
  hrs: 3_600_000,
  hour: 3_600_000,
  hours: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
  days: 86_400_000,
  w: 604_800_000,
  week: 604_800_000,
  weeks: 604_800_000
})
