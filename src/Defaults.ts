/**
 * Every default of the library, in one place. Durations are written as `Duration` accepts them; counts are plain numbers.
 */
export const defaults = {
  /** Retries within the process, after the first request: at most `maxRetries + 1` requests a call. */
  maxRetries: 3,
  /** Delay before the first retry; each further one is `retryFactor` times longer. */
  baseDelay: "1 second",
  retryFactor: 2,
  /** Longest delay between two attempts, before jitter and `Retry-After`. */
  maxDelay: "30 seconds",
  /** Share of a delay by which chance lengthens or shortens it (0.2: ±20 %). */
  jitter: 0.2,
  /** Time for one request: DNS, connect, TLS, request and response head (`execute`: and body). */
  attemptTimeout: "10 seconds",
  /** Time for a whole call: all attempts, the waits between them and the wait for a free slot. */
  deadline: "60 seconds",
  /** A `Retry-After` beyond this counts as this. */
  maxRetryAfter: "24 hours",
  /** Retry budget of a key: in any window, `ratio` × requests + `perSecond` × seconds of the window. */
  retryBudget: { ratio: 0.2, perSecond: 3, window: "10 seconds" },
  /** Circuit breaker of a key. */
  breaker: {
    /** Share of failures at which it opens … */
    failureRatio: 0.5,
    /** … once the window holds this many results … */
    minimumThroughput: 10,
    /** … of this length. */
    samplingWindow: "30 seconds",
    /** Opens after this many failures in a row, too. */
    consecutiveFailures: 5,
    /** How long it stays open at first; each failed probe doubles it … */
    breakDuration: "30 seconds",
    /** … up to this. */
    maxBreakDuration: "5 minutes",
    /** Calls let through when half-open; it closes when that many succeeded. */
    probes: 1,
    /** Half-open without a verdict for this long: open again. */
    maxHalfOpen: "60 seconds"
  },
  /** Keys that carry a breaker, a budget and a slot count at one time. */
  maxKeys: 10_000,
  /** Requests in flight in a process, and of one key. */
  concurrency: 64,
  keyConcurrency: 10,
  /** Deliveries of one event under way at one time, waiting ones included. */
  fanOut: 1_000,
  /** Most of a body that `execute` takes, in bytes; a longer one is `ResponseTooLarge`. */
  maxResponseBytes: 1_048_576,
  /** `executeHead`: bytes of a body that are kept, bytes that are read at most, and for how long, before the socket is destroyed. */
  capture: { keepBytes: 16_384, readBytes: 65_536, time: "2 seconds" },
  /** Events under way in the background. */
  backgroundQueue: 1_000,
  /** Time that work in flight is given when the program stops. */
  grace: "10 seconds",
  /** Most bytes of one encoded message. */
  maxPayloadBytes: 262_144,
  /** Header that carries the correlation id. */
  correlationHeader: "X-Correlation-ID",
  /** Durable path: the wait before each attempt of a delivery, the first included; after the last one it is exhausted … */
  durableSchedule: [
    "0 seconds",
    "5 seconds",
    "5 minutes",
    "30 minutes",
    "2 hours",
    "5 hours",
    "10 hours",
    "14 hours",
    "20 hours",
    "24 hours"
  ],
  /** … and the share of a wait by which chance may lengthen it, never shorten it. */
  durableJitter: 0.1,
  /** The durable worker; requests in flight are `concurrency` and `keyConcurrency`, the time to stop is `grace`. */
  worker: {
    /** Deliveries taken in one claim. */
    claim: 200,
    /** Share of its slots that are kept for first attempts. */
    firstAttempts: 0.25,
    /** Longest time between two looks for what is due. */
    poll: "1 second",
    /** How long a claim holds without being renewed; it is renewed at a third of this. */
    lease: "60 seconds",
    /** A delivery whose lease lapsed unsettled this many times is exhausted (`crashed`). */
    lapses: 5
  },
  /** An endpoint with failures only for `period`, the first and the last of them at least `spread` apart, is disabled. */
  failing: { period: "5 days", spread: "12 hours" },
  /** How long rows are kept after a delivery's end: delivered ones, and exhausted or discarded ones. */
  retention: { delivered: "7 days", ended: "30 days" }
} as const
