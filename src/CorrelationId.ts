/**
 * The id that ties what happens in several systems to one cause. It lives in a `FiberRef`: whatever runs inside
 * `withCorrelationId` (child fibers too) sees it, logs and spans carry it, and each outgoing request sends it.
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { dual } from "effect/Function"
import { globalValue } from "effect/GlobalValue"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Local, local, locallyAll } from "./Locally.js"
import * as SecureRandom from "./SecureRandom.js"

/**
 * Whether a text may serve as a correlation id: 1 to 128 characters of `[A-Za-z0-9_.:-]`. Nothing else is ever
 * put into a header or a log line, which is where header and log injection end.
 */
export const isValid = (id: string): boolean => pattern.test(id)

/** A fresh correlation id: `cid_` and 24 random characters of `[A-Za-z0-9]`. */
export const generate: Effect.Effect<string> = SecureRandom.alphanumeric(24, "cid_")

/** The correlation id of the running fiber, if there is one. */
export const current: Effect.Effect<Option.Option<string>> = Effect.suspend(() => FiberRef.get(currentRef))

/** The correlation id of the running fiber, or a fresh one (which is not kept). */
export const currentOrGenerate: Effect.Effect<string> = Effect.withFiberRuntime((fiber) =>
  Option.match(fiber.getFiberRef(currentRef), { onNone: () => generate, onSome: Effect.succeed })
)

/** An id that came from outside, if it is valid; otherwise a fresh one. */
export const accept = (id: string | undefined): Effect.Effect<string> =>
  id !== undefined && isValid(id) ? Effect.succeed(id) : generate

/**
 * Runs an effect under a correlation id and annotates its logs and spans with it (`correlationId`). An id that
 * is not valid (see `isValid`) is replaced by a fresh one.
 */
export const withCorrelationId: {
  (id: string): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, id: string): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, id: string): Effect.Effect<A, E, R> =>
    Effect.withFiberRuntime((fiber) =>
      Option.contains(fiber.getFiberRef(currentRef), id) ?
        effect :
        Effect.flatMap(accept(id), (accepted) => locallyAll(effect, locals(accepted)))
    )
)

/** What `withCorrelationId` sets, for `locallyAll`; the id must be valid. */
export const locals = (id: string): ReadonlyArray<Local> => [
  local(currentRef, () => Option.some(id)),
  local(FiberRef.currentLogAnnotations, annotate(id)),
  local(FiberRef.currentTracerSpanAnnotations, annotate(id))
]

/**
 * What is run with this layer has the given correlation id (a fresh one if it is not valid), and so have its logs and spans. Provide
 * it by itself, outside of `Layer.merge`: merged layers are built in child fibers, whose ids never reach their parent.
 */
export const layer = (id: string): Layer.Layer<never> =>
  Layer.unwrapEffect(Effect.map(accept(id), (accepted) =>
    Layer.scopedDiscard(Effect.all([
      Effect.locallyScoped(currentRef, Option.some(accepted)),
      annotated(FiberRef.currentLogAnnotations, accepted),
      annotated(FiberRef.currentTracerSpanAnnotations, accepted)
    ]))))

// --- internal

const pattern = /^[A-Za-z0-9_.:-]{1,128}$/

const currentRef: FiberRef.FiberRef<Option.Option<string>> = globalValue(
  "effect-webhooks/CorrelationId/currentRef",
  // A child starts with its parent's id; what a child sets never flows back.
  () => FiberRef.unsafeMake(Option.none<string>(), { join: (parent) => parent })
)

const annotated = (annotations: FiberRef.FiberRef<HashMap.HashMap<string, unknown>>, id: string) =>
  Effect.locallyScopedWith(annotations, annotate(id))

const annotate = (id: string) => (annotations: HashMap.HashMap<string, unknown>) =>
  HashMap.set(annotations, "correlationId", id)
