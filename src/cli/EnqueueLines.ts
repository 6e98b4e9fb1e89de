/**
 * How `enqueue` shows what became of events: a line for a person, or a JSON object; and how it counts them.
 */
import type { Enqueued } from "../outbox/Outbox.js"
import type * as EventInput from "./EventInput.js"
import { jsonText, visible } from "./Visible.js"

/** A result of `enqueue`. */
export type Result =
  | { readonly _tag: "Stored"; readonly line: number; readonly eventType: string; readonly enqueued: Enqueued }
  | EventInput.Invalid

/** The result as one line, with its line feed. */
export const render = (result: Result, json: boolean): string =>
  json ? `${jsonText(toJson(result))}\n` : `${toText(result)}\n`

/** What has been counted. */
export interface Counts {
  /** Stored now, and those stored before: the duplicates. */
  events: number
  duplicates: number
  /** That no endpoint wants. */
  unrouted: number
  deliveries: number
  invalid: number
}

/** Nothing yet. */
export const counts = (): Counts => ({ events: 0, duplicates: 0, unrouted: 0, deliveries: 0, invalid: 0 })

/** Counts a result. */
export const count = (counts: Counts, result: Result): void => {
  if (result._tag === "Invalid") {
    counts.invalid++
    return
  }
  counts.events++
  if (result.enqueued.duplicate) {
    counts.duplicates++
  } else {
    counts.deliveries += result.enqueued.deliveries
    if (result.enqueued.deliveries === 0) counts.unrouted++
  }
}

/** The last line on stderr. */
export const summary = ({ deliveries, duplicates, events, invalid, unrouted }: Counts): string =>
  events + invalid === 0
    ? "nothing to store: no events"
    : `${plural(events - duplicates, "event")} stored (${unrouted} unrouted), ${plural(duplicates, "duplicate")}, ` +
      `${plural(invalid, "invalid line")}; ${plural(deliveries, "new delivery", "new deliveries")}`

/** A number and its noun. */
export const plural = (n: number, word: string, many = `${word}s`): string => `${n} ${n === 1 ? word : many}`

// --- internal

const toJson = (result: Result) =>
  result._tag === "Invalid"
    ? { line: result.line, outcome: "invalid", error: result.error }
    : {
      messageId: result.enqueued.messageId,
      duplicate: result.enqueued.duplicate,
      deliveries: result.enqueued.deliveries
    }

const toText = (result: Result): string =>
  result._tag === "Invalid"
    ? `invalid    line ${result.line}: ${visible(result.error)}`
    : `${result.enqueued.duplicate ? "duplicate" : "stored   "}  ${visible(result.eventType)}  ` +
      `${visible(result.enqueued.messageId)}  ${plural(result.enqueued.deliveries, "delivery", "deliveries")}`
