/**
 * One call of the resilient client: what surrounds an attempt, layer by layer.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
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
import { apart, type Call, currentKey, currentSingle, deadlineExceeded, exchange } from "./exchange.js"
import type { ExecuteHeadOptions, Head, Options } from "./model.js"
import { monotonicNow } from "./monotonic.js"
import * as Retrying from "./retrying.js"
import * as Slots from "./slots.js"
import * as Transport from "./transport.js"

export { apart, currentKey, currentSingle } from "./exchange.js"

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
  const exchanges = {
    transport: Transport.of(inner),
    correlationHeader: (options.correlationHeader ?? defaults.correlationHeader).toLowerCase()
  }
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
    whole: number | undefined,
    settings: Partial<ExecuteHeadOptions>
  ): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> =>
    Effect.withFiberRuntime<Answers.Answer, E | Errors.ResilientHttpClientError, R>((fiber) => {
      const single = fiber.getFiberRef(currentSingle)
      const policy = Option.isSome(single)
        ? RetryPolicy.none
        : Option.getOrElse(fiber.getFiberRef(RetryPolicy.currentRetryPolicy), () => ownPolicy)
      const key = settings.key ?? Option.getOrUndefined(fiber.getFiberRef(currentKey)) ??
        (settings.url === undefined ? undefined : Errors.originOf(settings.url))
      return Effect.flatMap(CorrelationId.currentOrGenerate, (correlationId) =>
        Effect.flatMap(monotonicNow, (now) => {
          const call: Call = {
            single: Option.isSome(single),
            earlier: Option.isSome(single) ? single.value - 1 : 0,
            correlationId,
            attemptTimeout: settings.attemptTimeout === undefined
              ? ownTimeout
              : Duration.decode(settings.attemptTimeout),
            deadline,
            deadlineAt: now + Duration.toMillis(deadline),
            key,
            url: settings.url,
            attempts: 0,
            request: undefined,
            answer: undefined,
            startedAt: now,
            cutShort: false,
            onHead: settings.onHead,
            whole,
            prompt: settings.prompt === true
          }
          return Retrying.run<
            Answers.Answer,
            E | Errors.ResilientHttpClientError,
            Errors.RetryBudgetExhausted,
            R
          >(policy, call.deadlineAt, {
            attempt: () => attempt(call, key, request, settings),
            judgeAnswer: Answers.judgeAnswer,
            judgeFailure: (error) => Answers.judgeFailure(error, call.request),
            grant: (last) => grant(call, last),
            onRetry: (_, delay, last) => logRetry(call, delay, last)
          })
        }))
    })

  const attempt = <E, R>(
    call: Call,
    key: string | undefined,
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
    { concurrency, onAttempt }: Partial<ExecuteHeadOptions>
  ): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> =>
    Effect.suspend(() => {
      const before = call.attempts
      call.answer = undefined
      call.request = undefined
      const attempted = Effect.locally(
        // Where the key is known, the request is made (and signed) only once its slot is free.
        key !== undefined
          ? guard(call, key, concurrency, exchange(exchanges, call, request))
          : Effect.flatMap(
            withinDeadline(call, request),
            (made) =>
              guard(call, Errors.originOf(made.url), concurrency, exchange(exchanges, call, Effect.succeed(made)))
          ),
        currentAttempt,
        call.earlier + before + 1
      )
      return onAttempt === undefined ? attempted : told(attempted, call, before, onAttempt)
    })

  /** In a slot, and (unless it is a single attempt) if the breaker admits it. */
  const guard = <E, R>(
    call: Call,
    key: string,
    concurrency: number | undefined,
    effect: Effect.Effect<Answers.Answer, E, R>
  ): Effect.Effect<Answers.Answer, E | CircuitOpen | Errors.DeadlineExceeded, R> => {
    call.key = key
    const inSlot = <E2>(effect: Effect.Effect<Answers.Answer, E2, R>) =>
      slots.withSlot(
        key,
        concurrency,
        { until: call.deadlineAt, onTimeout: () => deadlineExceeded(call) },
        effect
      )
    if (call.single) return inSlot(effect)
    const protectedInSlot = inSlot(breakers.protect(
      key,
      call.attempts === 0 ? Effect.zipRight(spend(key), effect) : effect,
      (exit) =>
        Answers.judgeExit(
          call.answer === undefined ? exit : Exit.succeed(call.answer),
          call.cutShort || call.request === undefined
        )
    ))
    return Effect.mapError(
      slots.wouldWait(key) ? Effect.zipRight(breakers.check(key), protectedInSlot) : protectedInSlot,
      (error) => error instanceof CircuitOpen ? refused(error, call) : error
    )
  }

  /** Counts the first request of a call. */
  const spend = (key: string): Effect.Effect<void> =>
    Effect.flatMap(monotonicNow, (now) => {
      const spent = budgets.get(key)
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
      Effect.flatMap(run(request, defaults.maxResponseBytes, {}), (answer) => {
        const response = Answers.isOk(answer) ? Errors.toResponse(answer.request, answer) : undefined
        return response !== undefined
          ? Effect.succeed({ response, attempts: answer.attempts })
          : Effect.fail(Errors.responseError(answer.request, answer, answer.attempts))
      }),
    head: (request, options) =>
      Effect.map(run(request, undefined, options), ({ attempts, body, complete, headers, status }) => ({
        status,
        headers,
        body,
        complete,
        attempts
      }))
  }
}

// --- internal

const withinDeadline = <A, E, R>(call: Call, effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(monotonicNow, (now) =>
    Effect.timeoutFail(Effect.interruptible(effect), {
      duration: Duration.millis(Math.max(0, call.deadlineAt - now)),
      onTimeout: () => deadlineExceeded(call)
    }))

/** Tells how an attempt ended, if a request was made. What is told neither holds its slot nor goes by its key. */
const told = <E, R>(
  attempt: Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R>,
  call: Call,
  before: number,
  onAttempt: NonNullable<ExecuteHeadOptions["onAttempt"]>
): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> => {
  const tell = (exit: Exit.Exit<Answers.Answer, E | Errors.ResilientHttpClientError>): Effect.Effect<void> =>
    call.attempts === before
      ? Effect.void
      : Effect.flatMap(
        monotonicNow,
        (now) => apart(onAttempt({ attempt: call.earlier + call.attempts, duration: now - call.startedAt, exit }))
      )
  return Effect.uninterruptibleMask((restore) =>
    Effect.matchCauseEffect(restore(attempt), {
      onFailure: (cause) =>
        Effect.zipRight(
          Cause.isInterrupted(cause)
            ? Effect.forkDaemon(
              Effect.interruptible(tell(call.answer === undefined ? interruption : Exit.succeed(call.answer)))
            )
            : restore(tell(Exit.failCause(cause))),
          Effect.failCause(cause)
        ),
      onSuccess: (answer) => Effect.as(restore(tell(Exit.succeed(answer))), answer)
    })
  )
}

const interruption = Exit.interrupt(FiberId.none)

/** `CircuitOpen` as this call sees it. */
const refused = (error: CircuitOpen, call: Call): CircuitOpen =>
  new CircuitOpen({
    key: error.key,
    retryAfter: error.retryAfter,
    attempts: call.attempts,
    url: Errors.safeUrl(call.url ?? error.key)
  })

const logRetry = (call: Call, delay: number, last: unknown): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning("http_retry"), {
    url: Errors.safeUrl(call.url ?? ""),
    attempt: call.attempts,
    delayMs: Math.round(delay),
    error: Answers.describe(last),
    correlationId: call.correlationId
  })

const statusOf = (last: unknown): number | undefined =>
  typeof last === "object" && last !== null && "status" in last && typeof last.status === "number"
    ? last.status
    : undefined
