/**
 * The receivers that behave, in a process of their own, and the judge of what reaches them: `receivers.ts`, started by `main.ts`. Each listens on a port of its own, takes its
 * time, and refuses every fiftieth delivery once. For each hostile endpoint there is one, too, to which it is pointed when its hostile receivers have had their turns.
 */
import { createHash } from "node:crypto"
import { type Arrival, check } from "../support/checker.js"
import { type Received, startReceiver } from "../support/receiver.js"
import { body, eventOf, hostile, secret, steady, wanting, type Way } from "./agreed.js"
import * as Complaints from "./complaints.js"

/** What it is told: an event that was acknowledged … */
export interface Acknowledged {
  readonly acknowledged: { readonly way: Way; readonly n: number; readonly id: string }
}

/** … or asked: how much there is, or what is wrong where so many deliveries may have been made twice. */
export type Question = { readonly ask: "counts" } | { readonly ask: "verdict"; readonly allowedDuplicates: number }

/** What it says when it listens: URLs by endpoint. */
export interface Listening {
  readonly urls: Readonly<Record<string, string>>
}

export interface Counts {
  /** Requests that were accepted, refused, and given up by the sender before the answer. */
  readonly accepted: number
  readonly refused: number
  readonly aborted: number
}

export interface Verdict {
  readonly problems: ReadonlyArray<string>
}

const ways: ReadonlyArray<Way> = ["stored", "direct"]

const ids: Record<Way, Map<number, string>> = { stored: new Map(), direct: new Map() }
const accepted: Record<Way, Array<Arrival>> = { stored: [], direct: [] }
const refusals = new Set<string>()
const counts = { accepted: 0, refused: 0, aborted: 0 }
const complaints = Complaints.make()

/** Looks at a request; whether it is one of those that are refused at first. */
const refuses = ({ body: bytes, endpoint, verified }: Received): boolean => {
  const text = Buffer.from(bytes).toString("utf8")
  const found = eventOf(text)
  if (found === undefined || text !== body(found.way, found.n)) {
    complaints.add(`${endpoint} got a body that is no event's`)
    return false
  }
  if (verified !== true) complaints.add(`${endpoint} got a signature that doesn't hold`)
  const key = `${endpoint} ${found.way} ${found.n}`
  if ((found.n + endpoint.length + Number(endpoint.split("-")[1])) % 50 !== 0 || refusals.has(key)) return false
  refusals.add(key)
  return true
}

const ended = ({ body: bytes, endpoint, id, outcome }: Received): void => {
  if (outcome === 503) counts.refused++
  else if (outcome !== 200) counts.aborted++
  else {
    counts.accepted++
    const found = eventOf(Buffer.from(bytes).toString("utf8"))
    if (found === undefined) return
    accepted[found.way].push({
      id,
      endpoint,
      // A digest tells bytes apart as well, and hundreds of thousands of them fit.
      body: createHash("sha256").update(bytes).digest(),
      event: String(found.n)
    })
  }
}

const verdict = (allowedDuplicates: number): Verdict => ({
  problems: [
    ...complaints.list(),
    ...ways.flatMap((way) => {
      const acknowledged = [...ids[way].values()]
      const to = (endpoints: ReadonlyArray<string>) => ({
        allowedDuplicates,
        endpoints,
        received: accepted[way].filter(({ endpoint }) => endpoints.includes(endpoint))
      })
      const runs = [
        { acknowledged, enqueued: acknowledged, ...to(wanting(way)) },
        // What a hostile receiver has accepted doesn't come again: nothing must, but what does must be right.
        { acknowledged: [], enqueued: acknowledged, ...to(hostile) }
      ]
      const stray = accepted[way].find(({ endpoint }) =>
        !wanting(way).includes(endpoint) && !hostile.includes(endpoint)
      )
      const renamed = accepted[way].find(({ event, id }) => ids[way].get(Number(event)) !== id)
      return [
        ...runs.map(check).flatMap(({ ok, text }) => ok ? [] : [`${way}: ${text}`]),
        ...(stray === undefined ? [] : [`${way}: event ${stray.event} at ${stray.endpoint}, which doesn't want it`]),
        ...(renamed === undefined ? [] : [`${way}: event ${renamed.event} came as ${renamed.id}`])
      ]
    })
  ]
})

process.on("message", (told: Acknowledged | Question) => {
  if ("acknowledged" in told) {
    const { id, n, way } = told.acknowledged
    ids[way].set(n, id)
  } else process.send!(told.ask === "counts" ? counts : verdict(told.allowedDuplicates))
})
process.on("disconnect", () => process.exit(0))
// It comes to all processes of a terminal: who started this one ends it.
process.on("SIGINT", () => {})

const urls: Record<string, string> = {}
for (const endpoint of [...steady, ...hostile]) {
  const { url } = await startReceiver({
    keep: false,
    secret: () => secret,
    answer: (request) => ({ status: refuses(request) ? 503 : 200, delay: request.position * 7 % 20 }),
    ended
  })
  urls[endpoint] = `${url}/${endpoint}`
}
const listening: Listening = { urls }
process.send!(listening)
