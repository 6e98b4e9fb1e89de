/**
 * How endpoints are shown: rows of a table for a person, objects for a program.
 */
import type { Health } from "../outbox/EndpointHealth.js"
import * as Views from "../server/internal/views.js"
import * as Endpoint from "../webhooks/Endpoint.js"
import { table } from "./Table.js"
import * as Times from "./Times.js"
import { visible } from "./Visible.js"

/** An endpoint: what the database remembers of it, and what is configured. */
export interface Entry {
  readonly health: Health
  /** None: not configured here. */
  readonly endpoint: Endpoint.EndpointFields | undefined
  /** Deliveries that are pending, where they were counted. */
  readonly pending: number | undefined
}

/** What `--json` shows of an endpoint: what the HTTP API shows, its state in one word, and the number of its pending deliveries. */
export const endpointJson = (entry: Entry, now: number) => ({
  ...Views.endpoint(entry.health, entry.endpoint),
  state: stateOf(entry, now).state,
  pending: entry.pending
})

/** Endpoints as a table. */
export const endpointTable = (entries: ReadonlyArray<Entry>, now: number): ReadonlyArray<string> =>
  table(
    entries.map((entry) => [
      entry.health.id,
      stateOf(entry, now).state,
      String(entry.health.consecutiveFailures),
      entry.health.lastSuccessAt === undefined ? "-" : Times.shown(entry.health.lastSuccessAt, now),
      String(entry.pending ?? 0),
      entry.endpoint === undefined ? "-" : Endpoint.displayUrl(entry.endpoint.url),
      stateOf(entry, now).more
    ]),
    ["ID", "STATE", "FAILURES", "LAST SUCCESS", "PENDING", "URL", ""]
  )

/** One line on how an endpoint is. */
export const endpointLine = (entry: Entry, now: number): string => {
  const { more, state } = stateOf(entry, now)
  return [entry.health.id, state, more].map((text) => visible(text)).join("  ").trimEnd()
}

// --- internal

/** In the order of what holds deliveries back the longest; `more` is for people. */
const stateOf = (
  { endpoint, health }: Entry,
  now: number
): { readonly state: "disabled" | "enabled" | "half-open" | "open" | "orphaned" | "paused"; readonly more: string } => {
  const { disabled } = health
  if (disabled !== undefined) {
    return {
      state: "disabled",
      more: `by ${disabledBy[disabled.by] ?? disabled.by} ${Times.shown(disabled.at, now)}: ${disabled.reason}`
    }
  }
  if (endpoint === undefined) return { state: "orphaned", more: "not configured here" }
  if (!endpoint.enabled) return { state: "disabled", more: "by the configuration" }
  if (health.pausedUntil !== undefined && health.pausedUntil > now) {
    return { state: "paused", more: `until ${Times.shown(health.pausedUntil, now)}` }
  }
  if (health.circuit === "Closed") return { state: "enabled", more: "" }
  return health.circuit === "HalfOpen"
    ? { state: "half-open", more: "a probe is under way" }
    : {
      state: "open",
      more: health.opensAgainAt === undefined ? "" : `probe ${Times.shown(health.opensAgainAt, now)}`
    }
}

const disabledBy: Readonly<Record<string, string>> = {
  operator: "an operator",
  gone: "an answer of 410",
  receiver: "the receiver",
  failing: "its failures"
}
