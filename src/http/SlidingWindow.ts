/**
 * Counts of two kinds of thing over the last stretch of time, in a fixed number of buckets: recording and reading
 * cost the same whether the window holds ten results or a million.
 *
 * Pure: a window is a value, `record` gives a new one. A count leaves the window when its bucket does, so it is
 * remembered for between 9/10 and 10/10 of the window's length.
 */

/** Two counts over the last `length` milliseconds (`a` and `b`: the meaning is the user's). */
export interface SlidingWindow {
  /** Milliseconds a bucket. */
  readonly width: number
  /** Number of the newest bucket: its start divided by `width`. */
  readonly newest: number
  /** A ring of counts, `a` and `b` in turn, of bucket `n` at `(n mod 10) * 2`. */
  readonly counts: ReadonlyArray<number>
  readonly a: number
  readonly b: number
}

/** An empty window of `length` milliseconds. */
export const make = (length: number): SlidingWindow => ({
  width: Math.max(1, length / buckets),
  newest: 0,
  counts: empty,
  a: 0,
  b: 0
})

/** The window as it is at `now` (milliseconds): what has grown too old is gone. A clock that went back changes nothing. */
export const advance = (window: SlidingWindow, now: number): SlidingWindow => {
  const bucket = Math.floor(now / window.width)
  const steps = bucket - window.newest
  if (steps <= 0) return window
  if (steps >= buckets) return { ...window, newest: bucket, counts: empty, a: 0, b: 0 }
  const counts = window.counts.slice()
  let { a, b } = window
  for (let n = window.newest + 1; n <= bucket; n++) {
    const at = (n % buckets) * 2
    a -= counts[at]!
    b -= counts[at + 1]!
    counts[at] = 0
    counts[at + 1] = 0
  }
  return { width: window.width, newest: bucket, counts, a, b }
}

/** The window with `a` and `b` added at `now` (milliseconds). */
export const record = (window: SlidingWindow, now: number, a: number, b: number): SlidingWindow => {
  const current = advance(window, now)
  const counts = current.counts.slice()
  const at = (((current.newest % buckets) + buckets) % buckets) * 2
  counts[at]! += a
  counts[at + 1]! += b
  return { width: current.width, newest: current.newest, counts, a: current.a + a, b: current.b + b }
}

/** The window with `a` and `b` added at a time that may be past: where they would be now, if they had been added then. */
export const recordLate = (window: SlidingWindow, at: number, a: number, b: number): SlidingWindow => {
  const bucket = Math.floor(at / window.width)
  if (bucket >= window.newest) return record(window, at, a, b)
  if (bucket <= window.newest - buckets) return window
  const counts = window.counts.slice()
  const place = (((bucket % buckets) + buckets) % buckets) * 2
  counts[place]! += a
  counts[place + 1]! += b
  return { ...window, counts, a: window.a + a, b: window.b + b }
}

// --- internal

const buckets = 10
const empty: ReadonlyArray<number> = Array.from({ length: buckets * 2 }, () => 0)
