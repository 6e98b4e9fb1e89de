/**
 * One call of the resilient client: what surrounds an attempt, layer by layer.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as CorrelationId from "../../CorrelationId.js"
import { defaults } from "../../Defaults.js"
import * as DurationText from "../../DurationText.js"
import * as FiberClock from "../../FiberClock.js"
import { isInterrupted } from "../../Masking.js"
import * as Metrics from "../../Metrics.js"
import { type CircuitBreakers, CircuitOpen } from "../CircuitBreakers.js"
import * as Errors from "../ResilientHttpClientError.js"
import * as RetryBudget from "../RetryBudget.js"
import * as RetryPolicy from "../RetryPolicy.js"
import * as Answers from "./answers.js"
import { BoundedKeys } from "./BoundedKeys.js"
import { currentAttempt } from "./currentAttempt.js"
import * as Deadlines from "./deadlines.js"
import {
  apart,
  apartOf,
  type Call,
  currentKey,
  currentSingle,
  deadlineExceeded,
  exchange,
  numberOf
} from "./exchange.js"
import type { ExecuteHeadOptions, Head, Options } from "./model.js"
import * as Retrying from "./retrying.js"
import * as Slots from "./slots.js"
import * as Transport from "./transport.js"

export { currentAttempt } from "./currentAttempt.js"
export { apart, currentKey, currentSingle } from "./exchange.js"

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
  const budgets = new BoundedKeys(maxKeys, () => ({ budget: RetryBudget.initial(budget) }))
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
      const single = settings.single ?? Option.getOrUndefined(fiber.getFiberRef(currentSingle))
      const policy = single !== undefined
        ? RetryPolicy.none
        : Option.getOrElse(fiber.getFiberRef(RetryPolicy.currentRetryPolicy), () => ownPolicy)
      const key = settings.key ?? Option.getOrUndefined(fiber.getFiberRef(currentKey)) ??
        (settings.url === undefined ? undefined : Errors.originOf(settings.url))
      const given = settings.correlationId
      const start = (correlationId: string) => {
        const now = FiberClock.monotonic(fiber)
        const within = settings.within ?? identity
        const call: Call = {
          single: single !== undefined,
          earlier: single === undefined ? 0 : single - 1,
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
          prompt: settings.prompt === true,
          parent: settings.parent,
          within,
          restore: settings.restore ?? identity
        }
        return Retrying.run<
          Answers.Answer,
          E | Errors.ResilientHttpClientError,
          Errors.RetryBudgetExhausted,
          R
        >(policy, call.deadlineAt, {
          attempt: () => attempt(call, key, request, settings),
          judgeAnswer: (answer) => Answers.judgeAnswer(answer, FiberClock.of(fiber).unsafeCurrentTimeMillis()),
          judgeFailure: (error) => Answers.judgeFailure(error, call.request),
          grant: (last) => grant(call, last),
          onRetry: (_, delay, last) => logRetry(call, delay, last),
          within,
          restore: call.restore
        })
      }
      if (given === undefined) return Effect.flatMap(CorrelationId.currentOrGenerate, start)
      return CorrelationId.isValid(given) ? start(given) : Effect.flatMap(CorrelationId.generate, start)
    })

  const attempt = <E, R>(
    call: Call,
    key: string | undefined,
    request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
    { concurrency, onAttempt }: Partial<ExecuteHeadOptions>
  ): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> => {
    call.answer = undefined
    call.request = undefined
    const after = onAttempt === undefined ? undefined : telling<E>(call, call.attempts, onAttempt)
    // Where the key is known, the request is made (and signed) only once its slot is free.
    return key !== undefined
      ? guard(call, key, concurrency, exchange(exchanges, call, request), after)
      : Effect.flatMap(
        Effect.locally(withinDeadline(call, request), currentAttempt, numberOf(call)),
        (made) =>
          guard(call, Errors.originOf(made.url), concurrency, exchange(exchanges, call, Effect.succeed(made)), after)
      )
  }

  /** In a slot, and (unless it is a single attempt) if the breaker admits it. */
  const guard = <E, R>(
    call: Call,
    key: string,
    concurrency: number | undefined,
    effect: Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R>,
    after: Slots.After<Answers.Answer, E | Errors.ResilientHttpClientError> | undefined
  ): Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R> => {
    call.key = key
    const inSlot = (effect: Effect.Effect<Answers.Answer, E | Errors.ResilientHttpClientError, R>) =>
      slots.withSlot(
        key,
        concurrency,
        { until: call.deadlineAt, onTimeout: () => deadlineExceeded(call), restore: call.restore },
        effect,
        after
      )
    if (call.single) return inSlot(effect)
    const protectedInSlot = inSlot(breakers.protect(
      key,
      call.attempts === 0 ? spending(key, effect) : effect,
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

  /** Counts the first request of a call, which the effect makes. */
  const spending = <A, E, R>(key: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiberRuntime((fiber) => {
      const spent = budgets.get(key)
      if (spent !== undefined) spent.budget = RetryBudget.request(spent.budget, FiberClock.monotonic(fiber))
      return effect
    })

  /** Asks for one retry. */
  const grant = (call: Call, last: unknown): Effect.Effect<void, Errors.RetryBudgetExhausted> =>
    Effect.withFiberRuntime((fiber) => {
      const spent = call.key === undefined ? undefined : budgets.get(call.key)
      if (spent === undefined) return Effect.void
      const [granted, after] = RetryBudget.retry(spent.budget, FiberClock.monotonic(fiber), budget)
      spent.budget = after
      return granted ? Effect.void : Effect.zipRight(Metrics.budgetRefusal, refuse(call, last))
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
  Clock.clockWith((clock) =>
    Deadlines.within(
      effect,
      Math.max(0, call.deadlineAt - Deadlines.monotonic(clock)),
      () => deadlineExceeded(call)
    )
  )

/** Tells how an attempt ended, if a request was made. What is told neither holds its slot nor goes by its key. */
const telling = <E>(
  call: Call,
  before: number,
  onAttempt: NonNullable<ExecuteHeadOptions["onAttempt"]>
): Slots.After<Answers.Answer, E | Errors.ResilientHttpClientError> =>
(exit, restore, fiber) => {
  if (call.attempts === before) return undefined
  const isCut = Exit.isInterrupted(exit)
  const result = {
    attempt: call.earlier + call.attempts,
    duration: FiberClock.monotonic(fiber) - call.startedAt,
    exit: !isCut ? exit : call.answer === undefined ? interruption : Exit.succeed(call.answer)
  }
  // An interruption that came after the answer, too, would keep what is restored from beginning.
  if (isCut || isInterrupted(fiber)) {
    return Effect.forkDaemon(Effect.interruptible(apart(Effect.suspend(() => onAttempt(result)))))
  }
  const told = onAttempt(result)
  // Mostly there is nothing to be run.
  return told === Effect.void ? undefined : restore(apartOf(fiber, told))
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
  call.within(Effect.annotateLogs(Effect.logWarning("http_retry"), {
    url: Errors.safeUrl(call.url ?? ""),
    attempt: call.attempts,
    delayMs: Math.round(delay),
    error: Answers.describe(last),
    correlationId: call.correlationId
  }))

const statusOf = (last: unknown): number | undefined =>
  typeof last === "object" && last !== null && "status" in last && typeof last.status === "number"
    ? last.status
    : undefined
