/**
 * One call of the resilient client: what surrounds an attempt, layer by layer.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { constTrue } from "effect/Function"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as CorrelationId from "../../CorrelationId.js"
import { defaults } from "../../Defaults.js"
import * as DurationText from "../../DurationText.js"
import * as Metrics from "../../Metrics.js"
import { type CircuitBreakers, CircuitOpen } from "../CircuitBreakers.js"
import * as Errors from "../ResilientHttpClientError.js"
import * as RetryBudget from "../RetryBudget.js"
import * as RetryPolicy from "../RetryPolicy.js"
import * as Answers from "./answers.js"
import { BoundedKeys } from "./BoundedKeys.js"
import { exchange, type Read, readHead, readWhole } from "./exchange.js"
import type { ExecuteHeadOptions, Head, Options } from "./model.js"
import { monotonicNow } from "./monotonic.js"
import * as Retrying from "./retrying.js"
import * as Slots from "./slots.js"

/** The key set by `withKey`. */
export const currentKey: FiberRef.FiberRef<Option.Option<string>> = globalValue(
  "effect-webhooks/ResilientHttpClient/currentKey",
  () => FiberRef.unsafeMake(Option.none<string>(), { join: (parent) => parent })
)

/** The number of the attempt under way, 0 outside one. */
export const currentAttempt: FiberRef.FiberRef<number> = globalValue(
  "effect-webhooks/ResilientHttpClient/currentAttempt",
  () => FiberRef.unsafeMake(0, { join: (parent) => parent })
)

/** The two ways to call: with the whole body of a 2xx answer in memory, or as soon as the head is there. */
export interface Calls {
  readonly buffered: <E, R>(
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>
  ) => Effect.Effect<Buffered, E | Errors.ResilientHttpClientError, R>
  readonly head: <E, R>(
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
    options: ExecuteHeadOptions
  ) => Effect.Effect<Head, E | Errors.ResilientHttpClientError, R>
}

/** A 2xx answer with its body in memory, and the requests that it took. */
export interface Buffered {
  readonly response: HttpClientResponse.HttpClientResponse
  readonly attempts: number
}

export const make = (inner: HttpClient.HttpClient, breakers: CircuitBreakers["Type"], options: Options): Calls => {
  const ownPolicy = options.retryPolicy ?? RetryPolicy.make(options.retry)
  const ownTimeout = Duration.decode(options.attemptTimeout ?? defaults.attemptTimeout)
  const deadline = Duration.min(Duration.decode(options.deadline ?? defaults.deadline), DurationText.longest)
  const correlationHeader = (options.correlationHeader ?? defaults.correlationHeader).toLowerCase()
  const maxKeys = options.maxKeys ?? defaults.maxKeys
  const budget = RetryBudget.settings(options.budget)
  const budgets = new BoundedKeys(maxKeys, () => Ref.unsafeMake(RetryBudget.initial(budget)))
  const slots = Slots.make({
    concurrency: options.concurrency ?? defaults.concurrency,
    keyConcurrency: options.keyConcurrency ?? defaults.keyConcurrency,
    maxKeys
  })

  const run = <E, R>(
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
    read: Read,
    settings: Partial<ExecuteHeadOptions>
  ): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> =>
    Effect.withFiberRuntime<Answers.Answer, E | Errors.ResilientHttpClientError, R>((fiber) => {
      const timeout = settings.attemptTimeout === undefined ? ownTimeout : Duration.decode(settings.attemptTimeout)
      const policy = Option.getOrElse(fiber.getFiberRef(RetryPolicy.currentRetryPolicy), () => ownPolicy)
      const key = Option.getOrUndefined(fiber.getFiberRef(currentKey)) ??
        (settings.url === undefined ? undefined : Errors.originOf(settings.url))
      const call: Call = { key, url: settings.url, attempts: 0, request: undefined }

      const attempt = (correlationId: string) => {
        // Not the step of the retry loop: what the breaker refused was no request.
        const n = call.attempts + 1
        const send = (made: HttpClientRequest.HttpClientRequest) => {
          call.request = made
          call.url = made.url
          call.attempts = n
          const exchanged = exchange(inner, made, read, {
            n,
            timeout,
            correlationHeader,
            correlationId,
            onAttempt: settings.onAttempt
          })
          return n === 1 ? Effect.zipRight(spend(call), exchanged) : exchanged
        }
        return Effect.locally(
          // Where the key is known, the request is made (and signed) only once its slot is free.
          key !== undefined
            ? guard(call, key, Effect.flatMap(request, send))
            : Effect.flatMap(
              request,
              (made) => guard(call, Errors.originOf(made.url), Effect.suspend(() => send(made)))
            ),
          currentAttempt,
          n
        )
      }

      const guard = <E2, R2>(call: Call, key: string, effect: Effect.Effect<Answers.Answer, E2, R2>) => {
        call.key = key
        const protectedInSlot = slots.withSlot(
          key,
          settings.concurrency,
          breakers.protect(key, effect, Answers.judgeExit)
        )
        return slots.wouldWait(key) ? Effect.zipRight(breakers.check(key), protectedInSlot) : protectedInSlot
      }

      return Effect.flatMap(
        CorrelationId.currentOrGenerate,
        (correlationId) =>
          Effect.flatMap(monotonicNow, (now) =>
            Retrying.run<
              Answers.Answer,
              E | Errors.ResilientHttpClientError,
              Errors.RetryBudgetExhausted,
              R
            >(policy, now + Duration.toMillis(deadline), {
              attempt: () => attempt(correlationId),
              judgeAnswer: Answers.judgeAnswer,
              judgeFailure: (error) => Answers.judgeFailure(error, call.request),
              grant: (last) => grant(call, last),
              onRetry: (_, delay, last) =>
                Effect.annotateLogs(Effect.logWarning("http_retry"), {
                  url: Errors.safeUrl(call.url ?? ""),
                  attempt: call.attempts,
                  delay,
                  error: Answers.describe(last),
                  correlationId
                })
            }).pipe(
              // The client below would put the whole URL and all headers into a span of its own.
              Effect.locally(HttpClient.currentTracerDisabledWhen, constTrue),
              Effect.timeoutFail({
                duration: deadline,
                onTimeout: () =>
                  new Errors.DeadlineExceeded({
                    url: Errors.safeUrl(call.url ?? ""),
                    attempts: call.attempts,
                    deadline
                  })
              }),
              Effect.mapError((error) =>
                error instanceof CircuitOpen
                  ? new CircuitOpen({
                    key: error.key,
                    retryAfter: error.retryAfter,
                    attempts: call.attempts,
                    url: Errors.safeUrl(call.url ?? error.key)
                  })
                  : error
              )
            ))
      )
    })

  /** Counts the first request of a call. */
  const spend = (call: Call): Effect.Effect<void> =>
    Effect.flatMap(monotonicNow, (now) => {
      const spent = call.key === undefined ? undefined : budgets.get(call.key)
      return spent === undefined ? Effect.void : Ref.update(spent, (state) => RetryBudget.request(state, now))
    })

  /** Asks for one retry. */
  const grant = (call: Call, last: unknown): Effect.Effect<void, Errors.RetryBudgetExhausted> =>
    Effect.flatMap(monotonicNow, (now) => {
      const spent = call.key === undefined ? undefined : budgets.get(call.key)
      if (spent === undefined) return Effect.void
      return Effect.flatMap(
        Ref.modify(spent, (state) => RetryBudget.retry(state, now, budget)),
        (granted) => granted ? Effect.void : Effect.zipRight(Metrics.budgetRefusal, refuse(call, last))
      )
    })

  const refuse = (call: Call, last: unknown): Effect.Effect<never, Errors.RetryBudgetExhausted> =>
    Effect.fail(
      new Errors.RetryBudgetExhausted({
        url: Errors.safeUrl(call.url ?? ""),
        attempts: call.attempts,
        key: call.key ?? "",
        reason: Answers.describe(last),
        status: statusOf(last)
      })
    )

  return {
    buffered: (request) =>
      Effect.flatMap(run(request, readWhole, {}), (answer) => {
        const response = Answers.isOk(answer) ? Errors.toResponse(answer.request, answer) : undefined
        return response !== undefined
          ? Effect.succeed({ response, attempts: answer.attempts })
          : Effect.fail(Errors.responseError(answer.request, answer, answer.attempts))
      }),
    head: (request, options) =>
      Effect.map(run(request, readHead, options), ({ attempts, body, complete, headers, status }) => ({
        status,
        headers,
        body,
        complete,
        attempts
      }))
  }
}

// --- internal

/** What is known of a call so far. */
interface Call {
  key: string | undefined
  url: string | undefined
  attempts: number
  request: HttpClientRequest.HttpClientRequest | undefined
}

const statusOf = (last: unknown): number | undefined =>
  typeof last === "object" && last !== null && "status" in last && typeof last.status === "number"
    ? last.status
    : undefined
