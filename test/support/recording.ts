import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Tracer from "effect/Tracer"

/** A log line. */
export interface Line {
  readonly message: unknown
  readonly level: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** What was logged, and a layer that keeps it. */
export const logs = () => {
  const lines: Array<Line> = []
  const logger = Logger.make(({ annotations, logLevel, message }) => {
    lines.push({
      message: Array.isArray(message) && message.length === 1 ? message[0] : message,
      level: logLevel.label,
      annotations: Object.fromEntries(HashMap.toEntries(annotations))
    })
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

/** A span that has ended or is under way. */
export interface RecordedSpan {
  readonly name: string
  readonly kind: string
  readonly attributes: ReadonlyMap<string, unknown>
  readonly events: ReadonlyArray<readonly [string, unknown]>
  readonly span: Tracer.Span
}

/** The spans of a program, and a layer that keeps them; `onBegin` is called with the name of each. */
export const spans = (onBegin: (name: string) => void = () => {}) => {
  const recorded: Array<RecordedSpan> = []
  let ids = 0
  const tracer = Tracer.make({
    context: (run) => run(),
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      const events: Array<readonly [string, unknown]> = []
      let status: Tracer.SpanStatus = { _tag: "Started", startTime }
      const id = (++ids).toString(16)
      const span: Tracer.Span = {
        _tag: "Span",
        name,
        spanId: id.padStart(16, "0"),
        traceId: parent._tag === "Some" ? parent.value.traceId : id.padStart(32, "0"),
        parent,
        context,
        get status() {
          return status
        },
        attributes,
        links,
        sampled: true,
        kind,
        end: (endTime, exit) => {
          status = { _tag: "Ended", startTime, endTime, exit }
        },
        attribute: (key, value) => {
          attributes.set(key, value)
        },
        event: (name, _, attributes) => {
          events.push([name, attributes])
        },
        addLinks: () => {}
      }
      recorded.push({ name, kind, attributes, events, span })
      onBegin(name)
      return span
    }
  })
  return { recorded, layer: Layer.setTracer(tracer) }
}

/** Runs an effect with its logs kept quiet. */
export const quiet = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provide(effect, Logger.remove(Logger.defaultLogger))
