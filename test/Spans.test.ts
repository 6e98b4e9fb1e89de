import { expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as Tracer from "effect/Tracer"
import * as Spans from "../src/Spans.js"
import { spans } from "./support/recording.js"

const options = { kind: "client", attributes: { a: 1 } } as const

/** What there is to see of each span. */
const seen = ({ recorded }: ReturnType<typeof spans>) =>
  recorded.map(({ attributes, kind, name, span }) => ({
    name,
    kind,
    attributes: Object.fromEntries(attributes),
    parent: span.parent._tag === "Some" ? span.parent.value.spanId : undefined,
    links: span.links.map(({ span }) => span.spanId),
    status: span.status._tag,
    times: [span.status.startTime, span.status._tag === "Ended" ? span.status.endTime : undefined]
  }))

/** The same work in a span of the library's and in one of Effect's. */
const both = (around: (span: Effect.Effect<void>) => Effect.Effect<unknown>) =>
  Effect.gen(function*() {
    const [ours, effects] = [spans(), spans()]
    const work = TestClock.adjust("1 second")
    yield* Effect.provide(around(Spans.around("x", options, () => work)), ours.layer)
    const theirs = Effect.useSpan("x", { ...options, captureStackTrace: false }, () => work)
    yield* Effect.provide(around(theirs), effects.layer)
    return [seen(ours), seen(effects)] as const
  })

const outer = Tracer.externalSpan({ spanId: "outer", traceId: "t" })

it.effect.each<[string, (span: Effect.Effect<void>) => Effect.Effect<unknown>]>([
  ["by itself", (span) => span],
  ["under another", Effect.withParentSpan(outer)],
  [
    "under one that means to be nobody's parent",
    Effect.withParentSpan(
      Tracer.externalSpan({ spanId: "n", traceId: "t", context: Context.make(Tracer.DisablePropagation, true) })
    )
  ],
  [
    "with annotations and links of the fiber's",
    (span) => span.pipe(Effect.annotateSpans("b", 2), Effect.linkSpans(outer))
  ],
  ["without times", Effect.withTracerTiming(false)],
  ["with tracing off", Effect.withTracerEnabled(false)]
])("a span is what Effect's would be: %s", ([, around]) =>
  Effect.gen(function*() {
    const [ours, effects] = yield* both(around)
    const times = (all: typeof ours) => all.map(({ times: [from, to] }) => Number(to ?? 0n) - Number(from))
    expect(ours.map(({ times: _, ...rest }) => rest)).toEqual(effects.map(({ times: _, ...rest }) => rest))
    expect(times(ours)).toEqual(times(effects))
  }))

it.effect("belongs to what it is handed, or to nothing, and links to what it is told", () =>
  Effect.gen(function*() {
    const recording = spans()
    const links = [{ _tag: "SpanLink", span: outer, attributes: {} }] as const
    yield* Spans.around("handed", { ...options, parent: outer }, () => Effect.void).pipe(
      Effect.zipRight(Spans.around("root", { ...options, parent: "root", links }, () => Effect.void)),
      Effect.withSpan("around"),
      Effect.provide(recording.layer)
    )
    expect(seen(recording).slice(1).map(({ links, parent }) => [parent, links])).toEqual([
      ["outer", []],
      [undefined, ["outer"]]
    ])
  }))

it.effect("ends once, however its work does, and keeps nothing of what it gave", () =>
  Effect.gen(function*() {
    const recording = spans()
    const run = (work: () => Effect.Effect<unknown, string>) => Effect.exit(Spans.around("x", options, work))
    yield* Effect.gen(function*() {
      yield* run(() => Effect.succeed("a secret"))
      yield* run(() => Effect.fail("no"))
      yield* run(() => {
        throw new Error("a fault")
      })
      const hanging = yield* Effect.fork(Spans.around("x", options, (_, __, restore) => restore(Effect.never)))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(hanging)
    }).pipe(Effect.provide(recording.layer))
    const ends = recording.recorded.map(({ span: { status } }) => status._tag === "Ended" ? status.exit : undefined)
    expect(ends.slice(0, 2)).toEqual([Exit.void, Exit.fail("no")])
    expect(ends.map((exit) => exit !== undefined && (Exit.isInterrupted(exit) ? "interrupted" : exit._tag)))
      .toEqual(["Success", "Failure", "Failure", "interrupted"])
  }))
