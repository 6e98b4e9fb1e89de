/**
 * What holds after every run, whatever was done to it. The sets are the shared checker's; this adds which requests count as duplicates: those that
 * no failed answer had called for, each of which must have been in flight when a worker was killed.
 */
import * as Checker from "../support/checker.js"
import type { Arrival } from "./receiver.js"

/** What a run did. */
export interface Ledger {
  /** The numbers of all events that were handed over for enqueueing, whatever became of it. */
  readonly enqueued: Set<number>
  /** Message ids that the system has answered for. */
  readonly acknowledged: Set<string>
  /** Deliveries (`endpoint/id`) that were under way when a worker was killed, and at how many kills. */
  readonly inFlight: Map<string, number>
}

export const makeLedger = (): Ledger => ({ enqueued: new Set(), acknowledged: new Set(), inFlight: new Map() })

export const keyOf = ({ endpoint, id }: Pick<Arrival, "endpoint" | "id">): string => `${endpoint}/${id}`

export interface Verdict {
  /** Deliveries that arrived. */
  readonly deliveries: number
  readonly requests: number
  readonly duplicates: number
  /** Attempts in flight at the kills. */
  readonly inFlight: number
}

export interface Options {
  /** Whether the senders' clocks are right, without which no receiver takes their signatures. Default: true. */
  readonly clocksAgree?: boolean | undefined
}

/** Throws an error that lists what does not hold. */
export const check = (
  ledger: Ledger,
  endpoints: ReadonlyArray<string>,
  arrivals: ReadonlyArray<Arrival>,
  options: Options = {}
): Verdict => {
  const problems: Array<string> = []
  const report = (problem: string, keys: ReadonlyArray<string>) => {
    if (keys.length > 0) problems.push(`${problem}: ${keys.length} (${keys.slice(0, 5).join(", ")})`)
  }
  const deliveries = new Map<string, Array<Arrival>>()
  for (const arrival of arrivals) {
    const list = deliveries.get(keyOf(arrival))
    if (list === undefined) deliveries.set(keyOf(arrival), [arrival])
    else list.push(arrival)
  }

  const uncalledFor = new Map([...deliveries].map(([key, list]) => [key, list.length - 1 - list.filter(failed).length]))
  const duplicates = sum([...uncalledFor.values()].map((surplus) => Math.max(0, surplus)))
  const inFlight = sum(ledger.inFlight.values())
  const retries = sum([...deliveries.values()].map((list) => list.length - 1)) - duplicates
  const verdict = Checker.check({
    acknowledged: ledger.acknowledged,
    enqueued: [...ledger.acknowledged, ...arrivals.filter(({ n }) => ledger.enqueued.has(n)).map(({ id }) => id)],
    endpoints,
    received: arrivals.map(({ body, endpoint, id, n }) => ({ body, endpoint, id, event: String(n) })),
    allowedDuplicates: retries + inFlight
  })
  if (!verdict.ok) problems.push(verdict.text)
  report(
    "received again without having been in flight at a kill",
    [...uncalledFor].filter(([key, surplus]) => surplus > (ledger.inFlight.get(key) ?? 0)).map(([key]) => key)
  )
  report(
    "acknowledged but never accepted",
    [...deliveries].filter(([, list]) => ledger.acknowledged.has(list[0]!.id) && !list.some(accepted)).map(([key]) =>
      key
    )
  )
  if (options.clocksAgree !== false) {
    report("signature does not hold", arrivals.filter(({ verified }) => !verified).map(keyOf))
  }
  if (problems.length > 0) throw new Error(problems.join("\n"))
  return { deliveries: deliveries.size, requests: arrivals.length, duplicates, inFlight }
}

// --- internal

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0)

const accepted = (arrival: Arrival): boolean => {
  const outcome = arrival.outcome()
  return typeof outcome === "number" && outcome >= 200 && outcome <= 299
}

/** Answered with a failure, which calls for another attempt. */
const failed = (arrival: Arrival): boolean => {
  const outcome = arrival.outcome()
  return typeof outcome === "number" && !accepted(arrival)
}
