/**
 * The `Retry-After` header of a response (RFC 9110 §10.2.3).
 */

/**
 * Milliseconds to wait from `now` (milliseconds since the epoch). Seconds are rounded up to whole ones; the three HTTP-date
 * forms count when they lie in the future. None (`undefined`) for zero, the past, a negative number, several values or garbage. More than
 * 24 hours count as 24 hours.
 */
export const parse = (header: string | undefined, now: number): number | undefined => {
  if (header === undefined || header.length > 64) return undefined
  const text = header.trim()
  const delay = seconds.test(text) ? Math.ceil(Number(text)) * 1000 : httpDate(text, now) - now
  return delay > 0 ? Math.min(delay, longest) : undefined
}

// --- internal

const longest = 24 * 60 * 60 * 1000

const yearMs = 365.2425 * longest

const seconds = /^\d+(\.\d+)?$/

const day = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
const month = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
const time = "\\d{2}:\\d{2}:\\d{2}"

const imfFixdate = new RegExp(`^${day}, \\d{2} ${month} \\d{4} ${time} GMT$`)
const rfc850 = new RegExp(`^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (\\d{2})-(${month})-(\\d{2}) (${time}) GMT$`)
const asctime = new RegExp(`^${day} (${month}) ([ \\d]\\d) (${time}) (\\d{4})$`)

/** Milliseconds since the epoch, or NaN. */
const httpDate = (text: string, now: number): number => {
  if (imfFixdate.test(text)) return Date.parse(text)
  const old = rfc850.exec(text)
  if (old !== null) {
    // RFC 9110 §5.6.7: of the years that end in these two digits, the last one that is not more than 50 years ahead.
    const latest = 2020 + Math.floor(now / yearMs)
    const year = latest - (latest - Number(old[3])) % 100
    return Date.parse(`${old[1]} ${old[2]} ${year} ${old[4]} GMT`)
  }
  const c = asctime.exec(text)
  return c === null ? NaN : Date.parse(`${c[2]!.trim()} ${c[1]} ${c[4]} ${c[3]} GMT`)
}
