/**
 * What the calls of the resilient client take and give; public by way of `ResilientHttpClient`.
 */
import type * as Headers from "@effect/platform/Headers"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import type { Within } from "../../Surroundings.js"
import type * as Circuit from "../Circuit.js"
import type * as RetryBudget from "../RetryBudget.js"
import type * as RetryPolicy from "../RetryPolicy.js"

/** The head of an answer, and of its body what could be had within the bounds of `defaults.capture`. */
export interface Head {
  readonly status: number
  readonly headers: Headers.Headers
  /** At most 16 KiB. */
  readonly body: Uint8Array
  /** Whether `body` is the whole body. */
  readonly complete: boolean
  /** Requests that the call made. */
  readonly attempts: number
}

/** What one `executeHead` may differ in. */
export interface ExecuteHeadOptions {
  /** Where the requests go: for errors and, without `withKey`, for the key. */
  readonly url: string
  /** The key of breaker, budget and slots, in place of that of `withKey`. */
  readonly key?: string | undefined
  /** In place of the running fiber's correlation id. */
  readonly correlationId?: string | undefined
  /** In place of the running fiber's span: what the spans of the attempts belong to. */
  readonly parent?: Tracer.AnySpan | undefined
  /** The call is a single attempt with this number, as in `withSingleAttempt`. */
  readonly single?: number | undefined
  /**
   * What is around the call and not set for the fiber (log annotations, say): put around whatever of a host's may look, its `HttpClient`, its retry policy and the
   * log. To set it for the fiber and take it back took a fifth of a delivery's time.
   */
  readonly within?: Within | undefined
  /** The caller can't be interrupted, and this makes an effect of it that can: it is put around whatever waits. */
  readonly restore?: Within | undefined
  /** The request is made without waiting for anything: making it gets no time limit (which takes a fiber), and can't be interrupted. */
  readonly prompt?: boolean | undefined
  /** In place of the client's attempt timeout. */
  readonly attemptTimeout?: Duration.DurationInput | undefined
  /** In place of the client's limit of requests in flight for the key. */
  readonly concurrency?: number | undefined
  /** Told of each complete head at once: should the call be stopped while the body is read, it has been an answer all the same. */
  readonly onHead?: ((head: Pick<Head, "headers" | "status">) => void) | undefined
  /**
   * Told how each request ended, before a retry is thought of; its slot is free by then. Where the call is stopped, it is told in the
   * background. A call that the breaker refused made no request.
   */
  readonly onAttempt?: ((attempt: AttemptResult) => Effect.Effect<void>) | undefined
}

/** How one request ended. */
export interface AttemptResult {
  /** 1, 2, …; in a single attempt the number that it was given. */
  readonly attempt: number
  /** Milliseconds. */
  readonly duration: number
  /** The head, the failure (a `ResilientHttpClientError`), or an interruption by the caller. */
  readonly exit: Exit.Exit<Pick<Head, "headers" | "status">, unknown>
}

/** All optional; the defaults are those of `defaults`. */
export interface Options {
  /** Backoff of retries within a call. `maxRetries` N: at most N + 1 requests. */
  readonly retry?: RetryPolicy.Options | undefined
  /** Replaces the backoff altogether. */
  readonly retryPolicy?: RetryPolicy.RetryPolicy | undefined
  /** Time for one attempt; default 10 seconds. */
  readonly attemptTimeout?: Duration.DurationInput | undefined
  /** Time for a whole call, at most 24 days; default 60 seconds. */
  readonly deadline?: Duration.DurationInput | undefined
  readonly budget?: RetryBudget.Options | undefined
  readonly breaker?: Circuit.Options | undefined
  /** Requests in flight in the process; default 64. */
  readonly concurrency?: number | undefined
  /** Requests in flight for one key; default 10. */
  readonly keyConcurrency?: number | undefined
  /** Keys with state at one time; default 10 000. */
  readonly maxKeys?: number | undefined
  /** Header that carries the correlation id; default `X-Correlation-ID`. */
  readonly correlationHeader?: string | undefined
}
