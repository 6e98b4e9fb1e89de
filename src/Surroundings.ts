/**
 * What is around an effect (a correlation id, a parent of its spans, annotations of its log lines), kept as a value until something runs that may look: to set all
 * this for a fiber and to take it back took 110 of a delivery's 560 µs.
 */
import type * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import type * as Tracer from "effect/Tracer"
import * as CorrelationId from "./CorrelationId.js"
import { local, locallyAll } from "./Locally.js"
import * as Spans from "./Spans.js"

/** Puts an effect where it belongs: where it can be interrupted again, or what its caller has around it and didn't set for the fiber. */
export type Within = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Absent: as the running fiber has it. */
export interface Surroundings {
  /** What spans belong to. */
  readonly parent?: Tracer.AnySpan | undefined
  /** Of log lines, beside those of the fiber. */
  readonly annotations?: Readonly<Record<string, unknown>> | undefined
}

/** Runs an effect within them, and under a correlation id if it is one. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  correlationId: string,
  { annotations = {}, parent }: Surroundings
): Effect.Effect<A, E, R> =>
  locallyAll(effect, [
    ...(CorrelationId.isValid(correlationId) ? CorrelationId.locals(correlationId) : []),
    local(FiberRef.currentLogAnnotations, (before) =>
      Object.entries(annotations).reduce((all, [key, value]) => HashMap.set(all, key, value), before)),
    ...(parent === undefined ? [] : [Spans.under(parent)])
  ])
