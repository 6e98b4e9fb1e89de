/**
 * What one attempt's result makes of an endpoint's row. Pure: the worker reads and locks the row, folds the results of
 * its batch in, and writes it.
 */
import * as Circuit from "../../http/Circuit.js"
import * as SlidingWindow from "../../http/SlidingWindow.js"
import type { DisabledBy, EndpointRow } from "./endpointRows.js"

/** How one attempt ended, as far as the endpoint's health goes. */
export interface Result {
  readonly delivered: boolean
  /** What it means to the circuit. `Neutral` (interrupted, not sent) says nothing about the endpoint. */
  readonly circuitResult: Circuit.Result
  /** The circuit's generation that admitted the attempt. */
  readonly generation: number
  /** Milliseconds that the receiver asked us to wait. */
  readonly retryAfter: number | undefined
  readonly status: number | undefined
  /** The receiver wants no more: `gone` by a 410, `receiver` by `webhook-delivery: disable`. */
  readonly disable: "gone" | "receiver" | undefined
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** When an endpoint is given up. */
export interface Settings {
  readonly circuit: Circuit.Settings
  /** Nothing but failures for this many milliseconds: disabled … */
  readonly disableAfter: number
  /** … if they are spread over at least this many. */
  readonly disableSpread: number
}

/** What a result can make known to an operator. */
export type HealthEvent = "endpoint.disabled" | "endpoint.failing" | "endpoint.recovered"

/** The row after a result, and what there is to tell, in order. */
export const settle = (
  row: EndpointRow,
  result: Result,
  settings: Settings
): { readonly row: EndpointRow; readonly events: ReadonlyArray<HealthEvent> } => {
  const { now } = result
  const events: Array<HealthEvent> = []
  const pause = result.retryAfter !== undefined && result.retryAfter > 0 && asksForPause(result.status)
    ? now + result.retryAfter
    : undefined
  const settled = Circuit.settle(row.circuit, result.generation, result.circuitResult, now, settings.circuit)
  // Open until the pause ends, and not merely paused: then exactly one probe goes, where the whole fleet would come at once.
  const circuit = pause === undefined ? settled : Circuit.openUntil(settled, pause)
  if (row.circuit._tag === "Closed" && circuit._tag !== "Closed") events.push("endpoint.failing")
  if (row.circuit._tag !== "Closed" && circuit._tag === "Closed") events.push("endpoint.recovered")

  const counted = count({ ...row, circuit, pausedUntil: latest(row.pausedUntil, pause) }, result)
  const disabled = row.disabled ?? verdict(row, counted, result, settings)
  if (disabled !== row.disabled) events.push("endpoint.disabled")
  return { row: { ...counted, disabled }, events }
}

/**
 * The row with successes counted that its circuit's `generation` admitted, the last of them at `at`: as far as they are of its window, and of its circuit, still.
 * They end the failures in a row that came before.
 */
export const succeeded = (
  row: EndpointRow,
  successes: number,
  generation: number,
  at: number
): EndpointRow => {
  const { circuit } = row
  const counts = circuit._tag === "Closed" && circuit.generation === generation
  const isLast = row.lastFailureAt === undefined || row.lastFailureAt < at
  const counted = isLast ? count(row, { circuitResult: "Success", delivered: true, now: at }) : row
  return {
    ...counted,
    circuit: counts
      ? Circuit.Circuit.Closed({
        ...circuit,
        consecutiveFailures: isLast ? 0 : circuit.consecutiveFailures,
        results: SlidingWindow.recordLate(circuit.results, at, successes, 0)
      })
      : circuit,
    lastSuccessAt: latest(row.lastSuccessAt, at)
  }
}

// --- internal

const asksForPause = (status: number | undefined): boolean => status === 429 || status === 503

const latest = (one: number | undefined, other: number | undefined): number | undefined =>
  one === undefined ? other : other === undefined ? one : Math.max(one, other)

const count = (
  row: EndpointRow,
  { circuitResult, delivered, now }: Pick<Result, "circuitResult" | "delivered" | "now">
): EndpointRow => {
  if (delivered) {
    return {
      ...row,
      consecutiveFailures: 0,
      firstFailureAt: undefined,
      lastFailureAt: undefined,
      lastSuccessAt: latest(row.lastSuccessAt, now)
    }
  }
  if (circuitResult === "Neutral") return row
  return {
    ...row,
    consecutiveFailures: row.consecutiveFailures + 1,
    firstFailureAt: row.firstFailureAt ?? now,
    lastFailureAt: latest(row.lastFailureAt, now)
  }
}

const verdict = (
  before: EndpointRow,
  after: EndpointRow,
  result: Result,
  settings: Settings
): EndpointRow["disabled"] => {
  const by = result.disable ?? (isHopeless(before, after, result, settings) ? "failing" : undefined)
  return by === undefined ? undefined : { at: result.now, by, reason: reasons[by] }
}

/**
 * Judged by the failure before this one: one failure today and one five days later is a quiet endpoint that was down
 * twice, not one that was down for five days.
 */
const isHopeless = (before: EndpointRow, after: EndpointRow, { now }: Result, settings: Settings): boolean =>
  after.consecutiveFailures > before.consecutiveFailures &&
  before.firstFailureAt !== undefined && before.lastFailureAt !== undefined &&
  now - before.firstFailureAt >= settings.disableAfter &&
  before.lastFailureAt - before.firstFailureAt >= settings.disableSpread

const reasons: Readonly<Record<Exclude<DisabledBy, "operator">, string>> = {
  failing: "nothing but failures for days",
  gone: "answered 410 Gone",
  receiver: "the receiver asked for it (webhook-delivery: disable)"
}
