/**
 * Sends one message to one endpoint. The only place that knows how: it signs the bytes anew for each attempt, builds the request and
 * classifies the end. It never fails: whatever happens is in the report.
 */
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as FiberClock from "../FiberClock.js"
import { apart, currentSingle } from "../http/internal/exchange.js"
import * as Client from "../http/ResilientHttpClient.js"
import { logLine } from "../LogLine.js"
import { uninterruptibleMask } from "../Masking.js"
import * as Metrics from "../Metrics.js"
import * as Own from "../Own.js"
import * as Surroundings from "../Surroundings.js"
import type { Endpoint } from "./Endpoint.js"
import { addSignatures, attemptRequest } from "./internal/attemptRequest.js"
import * as Excerpt from "./internal/excerpt.js"
import { requestSecrets } from "./internal/requestSecrets.js"
import type { Message } from "./Message.js"
import * as Outcome from "./Outcome.js"

/** How a delivery ended. */
export interface DeliveryReport {
  readonly messageId: string
  readonly eventType: string
  readonly endpointId: string
  /** Scheme, host, port and path of the endpoint. */
  readonly url: string
  readonly outcome: Outcome.OutcomeName
  /** Why, unless delivered. */
  readonly class: Outcome.FailureClass | undefined
  /** Status of the last answer, if one came. */
  readonly status: number | undefined
  /** Requests made. */
  readonly attempts: number
  /** Milliseconds from handing it over to the end, waits included. */
  readonly duration: number
  readonly correlationId: string
  /** What went wrong, unless delivered. */
  readonly error: DeliveryError | undefined
  /** Milliseconds that the receiver asked us to wait, if it did. */
  readonly retryAfter: number | undefined
  /** What the receiver asked for with `webhook-delivery`, if it did. */
  readonly directive: Outcome.Outcome["directive"]
  /**
   * The beginning of the last answer's body, if there was one and it said something: at most 1 000 characters, without controls and characters that
   * hide, and `[redacted]` in place of whatever repeats secrets, signatures, header values or the query of the request. Never in log lines.
   */
  readonly excerpt: string | undefined
}

/** How one HTTP request of a delivery ended. */
export interface AttemptReport {
  readonly messageId: string
  readonly eventType: string
  readonly endpointId: string
  /** 1, 2, …; within `ResilientHttpClient.withSingleAttempt` the number that it was given. */
  readonly attempt: number
  readonly outcome: Outcome.OutcomeName
  readonly class: Outcome.FailureClass | undefined
  readonly status: number | undefined
  /** Milliseconds. */
  readonly duration: number
}

/** All that a delivery can end with instead of success. */
export type DeliveryError = Client.ResilientHttpClientError | DeliveryInterrupted | UnexpectedStatus | Unsendable

/** Sends one message to one endpoint. */
export class WebhookSender extends Context.Tag("effect-webhooks/WebhookSender")<WebhookSender, {
  /**
   * Sends, with the client's retries, logs how it ended (`webhook_sent`, `webhook_failed`; also when it was stopped) and reports. A failure is logged as
   * an error; of a single attempt as a warning: whether it was the last attempt, the caller knows.
   */
  readonly send: (message: Message, endpoint: Endpoint, options?: SendOptions) => Effect.Effect<DeliveryReport>
}>() {}

/**
 * What may as well be set around `send`, by `withParentSpan`, `annotateLogs`, `withSingleAttempt` and the `restore` of a mask; handed over it costs a delivery next
 * to nothing. A sender that a host makes, or puts around ours, need not know of it: for such a one the library sets it around the call, too.
 */
export interface SendOptions extends Surroundings.Surroundings {
  /** Makes the delivery a single attempt with this number, as within `ResilientHttpClient.withSingleAttempt`. */
  readonly single?: number | undefined
  /** The caller can't be interrupted, and this makes an effect of it that can: it is put around whatever waits. */
  readonly restore?: Surroundings.Within | undefined
}

/** What a host may want to know as it happens. Neither can fail; a fault in one is logged and changes nothing. */
export interface Options {
  /** Runs after each request, before its retry; it gets at most 10 seconds. */
  readonly onAttempt?: ((attempt: AttemptReport) => Effect.Effect<void>) | undefined
  /** Runs when a delivery has ended, also when the program stopped it; it gets at most 10 seconds. */
  readonly onDelivery?: ((delivery: DeliveryReport) => Effect.Effect<void>) | undefined
}

/** Makes the sender over the resilient client. */
export const make = (hooks: Options = {}): Effect.Effect<WebhookSender["Type"], never, Client.ResilientHttpClient> =>
  Effect.map(Client.ResilientHttpClient, (client) => ({
    send: Own.register<WebhookSender["Type"]["send"]>((message, endpoint, options = {}) =>
      // Uninterruptible around the call: a delivery is reported exactly once, as what it came to.
      uninterruptibleMask((restore, fiber) => {
        const clock = FiberClock.of(fiber)
        const startedAt = FiberClock.monotonic(fiber)
        const signatures: Array<string> = []
        let attempts = 0
        Metrics.changeInFlight(fiber, 1)
        let delivered: Pick<Client.Head, "headers" | "status"> | undefined
        const within = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Surroundings.within(effect, message.correlationId, options)
        const isOwn = Own.isOwn(client.executeHead)
        const call = client.executeHead(
          signedRequest(message, endpoint, (request) => {
            attempts++
            addSignatures(signatures, request)
          }),
          {
            url: endpoint.url,
            key: endpoint.id,
            correlationId: message.correlationId,
            parent: options.parent,
            single: options.single,
            within,
            // One of the host's need not heed it, or may have masks of its own around ours.
            restore: isOwn ? restore : undefined,
            prompt: true,
            attemptTimeout: endpoint.timeout,
            concurrency: endpoint.maxConcurrency,
            onHead: (head) => {
              if (head.status >= 200 && head.status < 300) delivered = head
            },
            onAttempt: (result) => {
              const report = attempted(message, endpoint, result, clock.unsafeCurrentTimeMillis())
              Metrics.attempt(fiber, report.outcome, report.class ?? "none", report.duration)
              return shielded("onAttempt", report, within, hooks.onAttempt)
            }
          }
        )
        const ended = (exit: Exit.Exit<Answered, Client.ResilientHttpClientError | Unsendable>) => {
          const outcome = classify(exit, clock.unsafeCurrentTimeMillis())
          const duration = FiberClock.monotonic(fiber) - startedAt
          const report = reportOf(message, endpoint, outcome, exit, attempts, duration, signatures)
          Metrics.changeInFlight(fiber, -1)
          const single = options.single !== undefined || Option.isSome(fiber.getFiberRef(currentSingle))
          const told = log(fiber, report, within, single)
          const result = Effect.succeed(report)
          // Mostly there is nobody to tell.
          return told === Effect.void && hooks.onDelivery === undefined
            ? result
            : told.pipe(
              Effect.zipRight(shielded("onDelivery", report, within, hooks.onDelivery)),
              Effect.zipRight(result)
            )
        }
        return Effect.matchCauseEffect(isOwn ? call : restore(call), {
          onFailure: (cause) => ended(delivered === undefined ? Exit.failCause(cause) : Exit.succeed(delivered)),
          onSuccess: (answer) => ended(Exit.succeed(answer))
        })
      }, options.restore)
    )
  }))

/** The sender over the resilient client in context. */
export const layer = (options: Options = {}): Layer.Layer<WebhookSender, never, Client.ResilientHttpClient> =>
  Layer.effect(WebhookSender, make(options))

/** The endpoint answered, but not with 2xx. */
export class UnexpectedStatus extends Schema.TaggedError<UnexpectedStatus>("effect-webhooks/UnexpectedStatus")(
  "UnexpectedStatus",
  {
    endpointId: Schema.String,
    /** Scheme, host, port and path. */
    url: Schema.String,
    status: Schema.Number,
    attempts: Schema.Number
  }
) {
  override get message(): string {
    const redirected = this.status >= 300 && this.status < 400
      ? "; redirects are never followed: configure the final URL"
      : ""
    return `${this.url} answered with status ${this.status}${redirected}; attempts made: ${this.attempts}`
  }
}

/** The message can't be sent to this endpoint as it is configured; nothing was sent. */
export class Unsendable extends Schema.TaggedError<Unsendable>("effect-webhooks/Unsendable")("Unsendable", {
  endpointId: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `endpoint ${this.endpointId}: ${this.problem}`
  }
}

/** The program stopped the delivery before it had ended. */
export class DeliveryInterrupted
  extends Schema.TaggedError<DeliveryInterrupted>("effect-webhooks/DeliveryInterrupted")("DeliveryInterrupted", {
    endpointId: Schema.String,
    attempts: Schema.Number
  })
{
  override get message(): string {
    return `the delivery to ${this.endpointId} was stopped; attempts made: ${this.attempts}`
  }
}

// --- internal

/** An answer; without its body if the delivery was stopped while that was read. */
type Answered = Pick<Client.Head, "headers" | "status"> & { readonly body?: Uint8Array }

const reportOf = (
  message: Message,
  endpoint: Endpoint,
  outcome: Outcome.Outcome,
  exit: Exit.Exit<Answered, Client.ResilientHttpClientError | Unsendable>,
  attempts: number,
  duration: number,
  signatures: ReadonlyArray<string>
): DeliveryReport => {
  const url = Client.safeUrl(endpoint.url)
  return {
    messageId: message.id,
    eventType: message.eventType,
    endpointId: endpoint.id,
    url,
    outcome: outcome.outcome,
    class: outcome.class,
    status: outcome.status,
    retryAfter: outcome.retryAfter,
    directive: outcome.directive,
    // Of what the egress policy blocked no request was made.
    attempts: outcome.class === "blocked" ? Math.max(0, attempts - 1) : attempts,
    duration,
    correlationId: message.correlationId,
    error: outcome.outcome === "delivered" ? undefined : errorOf(exit, endpoint.id, url, attempts),
    excerpt: Exit.isSuccess(exit) && exit.value.body !== undefined
      ? Excerpt.make(exit.value.body, (length) => requestSecrets(endpoint, signatures, length))
      : undefined
  }
}

const attempted = (
  message: Message,
  endpoint: Endpoint,
  { attempt, duration, exit }: Client.AttemptResult,
  now: number
): AttemptReport => {
  const { class: failureClass, outcome, status } = classify(exit, now)
  return {
    messageId: message.id,
    eventType: message.eventType,
    endpointId: endpoint.id,
    attempt,
    outcome,
    class: failureClass,
    status,
    duration
  }
}

/** A host's hook: it gets its time, and its faults stay its own. */
const shielded = <A>(
  hook: string,
  value: A,
  within: Surroundings.Within,
  f: ((value: A) => Effect.Effect<void>) | undefined
): Effect.Effect<void> =>
  f === undefined ? Effect.void : apart(Effect.suspend(() => f(value))).pipe(
    Effect.interruptible,
    Effect.timeoutOption("10 seconds"),
    Effect.catchAllCause((cause) => Effect.annotateLogs(Effect.logError("webhook_hook_failed", cause), { hook })),
    within,
    Effect.asVoid
  )

const log = (
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  report: DeliveryReport,
  within: Surroundings.Within,
  single: boolean
): Effect.Effect<void> => {
  const annotations = () => ({
    messageId: report.messageId,
    eventType: report.eventType,
    endpointId: report.endpointId,
    correlationId: report.correlationId,
    url: report.url,
    attempts: report.attempts,
    ...(report.status === undefined ? {} : { status: report.status })
  })
  return report.outcome === "delivered"
    ? logLine(fiber, LogLevel.Info, "webhook_sent", annotations, within)
    : logLine(fiber, single ? LogLevel.Warning : LogLevel.Error, "webhook_failed", () => ({
      ...annotations(),
      outcome: report.outcome,
      ...(report.class === undefined ? {} : { class: report.class }),
      ...(report.error === undefined ? {} : { error: report.error.message })
    }), within)
}

/** The request of one attempt: run anew for each, so that time and signatures are its own. */
const signedRequest = (
  message: Message,
  endpoint: Endpoint,
  ready: (request: HttpClientRequest.HttpClientRequest) => void
): Effect.Effect<HttpClientRequest.HttpClientRequest, Unsendable> =>
  Effect.withFiberRuntime((fiber) =>
    Either.match(attemptRequest(message, endpoint, FiberClock.of(fiber).unsafeCurrentTimeMillis()), {
      onLeft: (problem) => Effect.fail(new Unsendable({ endpointId: endpoint.id, problem })),
      onRight: (request) => {
        ready(request)
        return Effect.succeed(request)
      }
    })
  )

const classify = (
  exit: Exit.Exit<Pick<Client.Head, "headers" | "status">, unknown>,
  now: number
): Outcome.Outcome => {
  if (Exit.isSuccess(exit)) return Outcome.fromHead(exit.value, now)
  const error = Cause.failureOption(exit.cause)
  return Option.isSome(error)
    ? Outcome.fromError(error.value)
    : Cause.isInterrupted(exit.cause)
    ? Outcome.interrupted
    : Outcome.fromError(undefined)
}

const errorOf = (
  exit: Exit.Exit<Pick<Client.Head, "headers" | "status">, Client.ResilientHttpClientError | Unsendable>,
  endpointId: string,
  url: string,
  attempts: number
): DeliveryError => {
  if (Exit.isSuccess(exit)) return new UnexpectedStatus({ endpointId, url, status: exit.value.status, attempts })
  const error = Cause.failureOption(exit.cause)
  if (Option.isSome(error)) return error.value
  return Cause.isInterrupted(exit.cause)
    ? new DeliveryInterrupted({ endpointId, attempts })
    : new Unsendable({ endpointId, problem: "an unexpected fault in the client; please report it" })
}
