/** Judges a run: nothing lost, nothing invented, and duplicates only as many as allowed, with the same id and bytes. */

/** A request that reached a receiver. */
export interface Arrival {
  /** `webhook-id`. */
  readonly id: string | undefined
  /** Which endpoint it reached. */
  readonly endpoint: string
  readonly body: Uint8Array
  /** What tells the event whatever its message's id, if the run can: one event under two ids is a fault then. */
  readonly event?: string | undefined
}

/** What was done and what came of it. */
export interface Run {
  /** Message ids whose enqueue was answered with success. */
  readonly acknowledged: Iterable<string>
  /** Message ids that may exist: the acknowledged ones, and those whose answer got lost. */
  readonly enqueued: Iterable<string>
  /** Every acknowledged message must reach each of these. */
  readonly endpoints: ReadonlyArray<string>
  readonly received: Iterable<Arrival>
  /** How often at most a message may reach an endpoint again, in all. Default: never. */
  readonly allowedDuplicates?: number | undefined
}

/** `faults` is empty for a clean run; `text` says it all to a person. */
export interface Verdict {
  readonly ok: boolean
  readonly faults: ReadonlyArray<Fault>
  /** Arrivals beyond the first of each message at each endpoint. */
  readonly duplicates: number
  readonly text: string
}

export interface Fault {
  readonly kind: "lost" | "invented" | "differing bytes" | "two ids" | "too many duplicates"
  readonly what: string
}

export const check = (run: Run): Verdict => {
  const acknowledged = new Set(run.acknowledged)
  const enqueued = new Set(run.enqueued)
  const faults: Array<Fault> = []
  const firsts = new Map<string, Uint8Array>()
  const idOf = new Map<string, string>()
  let received = 0
  let duplicates = 0
  for (const { body, endpoint, event, id } of run.received) {
    received++
    if (id === undefined) {
      faults.push({ kind: "invented", what: `a request without webhook-id at ${endpoint}` })
      continue
    }
    if (!enqueued.has(id)) faults.push({ kind: "invented", what: `${id} at ${endpoint}` })
    if (!run.endpoints.includes(endpoint)) {
      faults.push({ kind: "invented", what: `${id} at ${endpoint}, where nothing was to go` })
    }
    const place = key(id, endpoint)
    const first = firsts.get(place)
    if (first === undefined) firsts.set(place, body)
    else {
      duplicates++
      if (!same(first, body)) faults.push({ kind: "differing bytes", what: `${id} at ${endpoint}` })
    }
    if (event !== undefined) {
      const other = idOf.get(event)
      if (other === undefined) idOf.set(event, id)
      else if (other !== id) faults.push({ kind: "two ids", what: `event ${event} as ${other} and as ${id}` })
    }
  }
  for (const id of acknowledged) {
    for (const endpoint of run.endpoints) {
      if (!firsts.has(key(id, endpoint))) faults.push({ kind: "lost", what: `${id} never reached ${endpoint}` })
    }
  }
  const allowed = run.allowedDuplicates ?? 0
  if (duplicates > allowed) {
    faults.push({ kind: "too many duplicates", what: `${duplicates}, and ${allowed} are allowed` })
  }
  const summary =
    `${acknowledged.size} acknowledged of ${enqueued.size} enqueued, ${run.endpoints.length} endpoints, ` +
    `${received} received, ${duplicates} duplicates of ${allowed} allowed`
  return { ok: faults.length === 0, faults, duplicates, text: [summary, ...describe(faults)].join("\n") }
}

// --- internal

const mostShown = 10

const key = (id: string, endpoint: string): string => `${id} ${endpoint}`

const same = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) === 0

const describe = (faults: ReadonlyArray<Fault>): ReadonlyArray<string> => {
  const kinds = [...new Set(faults.map(({ kind }) => kind))]
  return kinds.flatMap((kind) => {
    const ofKind = faults.filter((fault) => fault.kind === kind)
    const more = ofKind.length > mostShown ? [`  ... and ${ofKind.length - mostShown} more`] : []
    return [`${kind}: ${ofKind.length}`, ...ofKind.slice(0, mostShown).map(({ what }) => `  ${what}`), ...more]
  })
}
