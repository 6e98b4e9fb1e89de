/** The time of an event as text: RFC 3339, and Python's `isoformat()` for what comes as a date. */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"

/** Whether a text is an RFC 3339 `date-time` that exists: a leap second only at 23:59:60 UTC, the offset is required. */
export const isRfc3339 = (text: string): boolean => {
  const match = pattern.exec(text)
  if (match === null) return false
  const [year, month, day, hour, minute, second, offsetHour, offsetMinute] = match.slice(1).map((part) =>
    part === undefined ? 0 : Number(part)
  ) as [number, number, number, number, number, number, number, number]
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return false
  if (hour > 23 || minute > 59 || second > 60 || Math.abs(offsetHour) > 23 || offsetMinute > 59) return false
  if (second < 60) return true
  const offset = (match[7]?.startsWith("-") === true ? -1 : 1) * (Math.abs(offsetHour) * 60 + offsetMinute)
  return ((hour * 60 + minute - offset) % 1440 + 1440) % 1440 === 1439
}

/**
 * `2026-01-27T12:00:00+00:00`, with six digits of a second where it has a fraction, as Python's `datetime.isoformat()`;
 * a zoned time keeps its offset. None: an invalid date, or a year that RFC 3339 can't write.
 */
export const isoFormat = (time: Date | DateTime.DateTime): Option.Option<string> =>
  DateTime.make(time).pipe(
    Option.map((time) => DateTime.isZoned(time) ? DateTime.formatIsoOffset(time) : DateTime.formatIso(time)),
    Option.map(toPython),
    Option.filter(isRfc3339)
  )

/** The same of a moment that a clock tells, in milliseconds since the epoch. */
export const isoOf = (millis: number): string => {
  const second = Math.floor(millis / 1000)
  if (second !== lastSecond) {
    lastText = DateTime.formatIso(DateTime.unsafeMake(second * 1000)).slice(0, -".000Z".length)
    lastSecond = second
  }
  const rest = Math.floor(millis - second * 1000)
  return rest === 0 ? `${lastText}+00:00` : `${lastText}.${String(rest).padStart(3, "0")}000+00:00`
}

// --- internal

const pattern = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.\d+)?(?:[Zz]|([+-]\d{2}):(\d{2}))$/

/** Most moments are in the second of the one before: written anew, each took 20 µs of a delivery. */
let lastSecond = NaN
let lastText = ""

const toPython = (iso: string): string =>
  iso.replace("Z", "+00:00").replace(/\.(\d{3})/, (_, digits) => digits === "000" ? "" : `.${digits}000`)

const daysIn = (year: number, month: number): number => {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}
