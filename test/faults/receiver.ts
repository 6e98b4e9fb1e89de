/**
 * The other side of every run. It takes each request down with the worker that sent it, and answers as the case says, when the case says: a request
 * stays open as long as the answer isn't there, so whatever a case does before it answers (a kill above all) is done with an attempt under way.
 */
import * as Receiving from "../support/receiver.js"

/** One request, as it came in. */
export interface Arrival {
  readonly endpoint: string
  /** `webhook-id`. */
  readonly id: string
  /** Whose request it is: what `X-Worker` says. */
  readonly worker: string
  /** `data.n` of the event: what the case numbered it with; `NaN` if the body is nothing that was enqueued. */
  readonly n: number
  /** Milliseconds, by the receiver's monotonic clock. */
  readonly at: number
  readonly body: Uint8Array
  /** Whether its signature holds. */
  readonly verified: boolean
  /** The status of the answer; `open`, or `aborted` when the sender went away first. */
  readonly outcome: () => Receiving.Received["outcome"]
  readonly endedAt: () => number | undefined
}

/** How a request is answered, once the promise resolves. */
export type Answering = (arrival: Arrival) => Receiving.Step | Promise<Receiving.Step>

export interface Receiver {
  readonly url: string
  /** In order of arrival. */
  readonly arrivals: ReadonlyArray<Arrival>
  /** The arrivals at one endpoint, in order. */
  readonly to: (endpoint: string) => ReadonlyArray<Arrival>
  /** Requests that wait for their answer, of one worker or of all. */
  readonly open: (worker?: string) => ReadonlyArray<Arrival>
  /** Replaces how requests are answered from now on; at first 204 at once. */
  readonly answer: (answering: Answering) => void
  readonly close: () => Promise<void>
}

/** The secret of all endpoints. */
export const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

export const startReceiver = async (): Promise<Receiver> => {
  const arrivals: Array<Arrival> = []
  const byEndpoint = new Map<string, Array<Arrival>>()
  let answering: Answering = () => 204
  const receiver = await Receiving.startReceiver({
    secret: () => secret,
    answer: (received) => {
      const arrival: Arrival = {
        endpoint: received.endpoint,
        id: received.id ?? "",
        worker: String(received.headers["x-worker"]),
        n: numberOf(received.body),
        at: received.at,
        body: received.body,
        verified: received.verified === true,
        outcome: () => received.outcome,
        endedAt: () => received.endedAt
      }
      arrivals.push(arrival)
      const list = byEndpoint.get(arrival.endpoint)
      if (list === undefined) byEndpoint.set(arrival.endpoint, [arrival])
      else list.push(arrival)
      return answering(arrival)
    }
  })
  return {
    url: receiver.url,
    arrivals,
    to: (endpoint) => byEndpoint.get(endpoint) ?? [],
    open: (worker) =>
      arrivals.filter((arrival) => arrival.outcome() === "open" && (worker === undefined || arrival.worker === worker)),
    answer: (next) => {
      answering = next
    },
    close: receiver.close
  }
}

// --- internal

const numberOf = (body: Uint8Array): number => {
  try {
    return (JSON.parse(Buffer.from(body).toString("utf8")) as { readonly data: { readonly n: number } }).data.n
  } catch {
    return NaN
  }
}
