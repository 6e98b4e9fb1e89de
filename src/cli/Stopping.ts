/**
 * Deliveries that stop in good order: what has a request on the wire may end with what that request brings, what waits for a slot or for
 * its next attempt ends at once, and no request is begun any more.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as ResilientHttpClient from "../http/ResilientHttpClient.js"
import type { RetryPolicy } from "../http/RetryPolicy.js"

export interface Stopping {
  /** Stops: idempotent, and doesn't wait for requests on the wire. */
  readonly stop: Effect.Effect<void>
  /** How many calls have ended because a retry that their policy had left was not begun. */
  readonly givenUp: () => number
  /** The client below the resilient one: it tells which calls have a request on the wire. */
  readonly httpClient: <E, R>(
    inner: Layer.Layer<HttpClient.HttpClient, E, R>
  ) => Layer.Layer<HttpClient.HttpClient, E, R>
  /** The policy that is done once this has stopped. */
  readonly retryPolicy: (inner: RetryPolicy) => RetryPolicy
  /** The client whose `executeHead` is interrupted by `stop` while it waits. */
  readonly client: (inner: ResilientHttpClient.Service) => ResilientHttpClient.Service
}

/** Nothing is stopped yet. */
export const make = (): Stopping => {
  let stopped = false
  let givenUp = 0
  const calls = new Set<Call>()
  const current = FiberRef.unsafeMake<Call | undefined>(undefined)
  const mark = (waiting: boolean): Effect.Effect<void> =>
    Effect.map(FiberRef.get(current), (call) => {
      if (call !== undefined) call.waiting = waiting
    })
  return {
    stop: Effect.suspend(() => {
      stopped = true
      const waiting = [...calls].filter((call) => call.waiting)
      return Effect.forEach(waiting, (call) => Deferred.succeed(call.stop, undefined), { discard: true })
    }),
    givenUp: () => givenUp,
    httpClient: (inner) =>
      Layer.provide(
        Layer.effect(
          HttpClient.HttpClient,
          Effect.map(HttpClient.HttpClient, HttpClient.transform((effect) => Effect.zipRight(mark(false), effect)))
        ),
        inner
      ),
    // Stepped within the call, where an attempt has ended and another is to follow.
    retryPolicy: Schedule.whileInputEffect(() =>
      Effect.map(mark(true), () => {
        if (stopped) givenUp++
        return !stopped
      })
    ),
    client: (inner) =>
      Object.assign(Object.create(Object.getPrototypeOf(inner) as object) as object, inner, {
        executeHead: <E, R>(
          request: Effect.Effect<HttpClientRequest.HttpClientRequest, E, R>,
          options: ResilientHttpClient.ExecuteHeadOptions
        ): Effect.Effect<ResilientHttpClient.Head, E | ResilientHttpClient.ResilientHttpClientError, R> =>
          Effect.suspend(() => {
            if (stopped) return Effect.interrupt
            const call: Call = { waiting: true, stop: Deferred.unsafeMake(FiberId.none) }
            calls.add(call)
            return Effect.raceFirst(
              Effect.locally(inner.executeHead(request, options), current, call),
              Effect.zipRight(Deferred.await(call.stop), Effect.interrupt)
            ).pipe(Effect.ensuring(Effect.sync(() => calls.delete(call))))
          })
      })
  }
}

// --- internal

interface Call {
  /** Without a request on the wire. */
  waiting: boolean
  readonly stop: Deferred.Deferred<void>
}
