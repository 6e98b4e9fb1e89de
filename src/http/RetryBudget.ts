/**
 * A bound on the retries of one key: a share of its requests plus a few a second, over a window. When a key is down for
 * long, its retries then add little to the load instead of multiplying it.
 *
 * Pure: a budget is a value. Source of the scheme: the retry budget of Finagle (share of requests, plus a minimum a second).
 */
import * as Duration from "effect/Duration"
import { defaults } from "../Defaults.js"
import * as SlidingWindow from "./SlidingWindow.js"

/** How many retries a window allows: `ratio` × its requests + `perSecond` × its seconds. */
export interface Settings {
  readonly ratio: number
  readonly perSecond: number
  /** Milliseconds. */
  readonly window: number
}

/** Settings as a host gives them. */
export interface Options {
  /** Retries a request; default 0.2. */
  readonly ratio?: number | undefined
  /** Retries a second beside those; default 3. */
  readonly perSecond?: number | undefined
  /** Default 10 seconds. */
  readonly window?: Duration.DurationInput | undefined
}

/** Settings from options, the library's defaults where an option is absent. */
export const settings = (options: Options = {}): Settings => ({
  ratio: options.ratio ?? defaults.retryBudget.ratio,
  perSecond: options.perSecond ?? defaults.retryBudget.perSecond,
  window: Duration.toMillis(options.window ?? defaults.retryBudget.window)
})

/** What one key has used: first requests (`a`) and retries (`b`) of the window. */
export type RetryBudget = SlidingWindow.SlidingWindow

/** A budget of which nothing is used. */
export const initial = (settings: Settings): RetryBudget => SlidingWindow.make(settings.window)

/** Counts the first request of a call at `now` (milliseconds). */
export const request = (budget: RetryBudget, now: number): RetryBudget => SlidingWindow.record(budget, now, 1, 0)

/** Asks for one retry at `now`; if it is granted, it is counted. */
export const retry = (budget: RetryBudget, now: number, settings: Settings): readonly [boolean, RetryBudget] => {
  const current = SlidingWindow.advance(budget, now)
  const allowance = Math.floor(settings.ratio * current.a + settings.perSecond * (settings.window / 1000))
  return current.b + 1 <= allowance ? [true, SlidingWindow.record(current, now, 0, 1)] : [false, current]
}
