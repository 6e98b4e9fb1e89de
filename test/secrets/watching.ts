/** All that a program lets be seen, as texts: log lines in every form, spans, metrics, errors, and whatever a test adds. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import { inspect } from "node:util"
import { expect } from "vitest"
import { spans } from "../support/recording.js"
import { find } from "./canaries.js"
import { isForeign } from "./messages.js"

/** What was seen so far. */
export interface Watch {
  /** Keeps logs of all levels and spans. */
  readonly layer: Layer.Layer<never>
  /** Adds a value in every form in which it may be shown. */
  readonly see: (where: string, value: unknown) => void
  /** Log lines as `logfmt`, the way of the command line. */
  readonly lines: ReadonlyArray<string>
  readonly spanNames: () => ReadonlyArray<string>
  /** All texts. */
  readonly texts: () => ReadonlyArray<readonly [where: string, text: string]>
  /** That no secret is in any of them, in whole or in part, and no text of another program. */
  readonly expectClean: () => void
}

export const watch = (): Watch => {
  const seen: Array<readonly [string, string]> = []
  const lines: Array<string> = []
  const { layer: tracer, recorded } = spans()
  const logger = Logger.make<unknown, void>((options) => {
    const line = Logger.logfmtLogger.log(options)
    lines.push(line)
    seen.push(
      ["log", line],
      ["log as text", Logger.stringLogger.log(options)],
      ["log as JSON", Logger.jsonLogger.log(options)],
      ["log as it is", shown(Logger.structuredLogger.log(options))]
    )
  })
  const texts = (): ReadonlyArray<readonly [string, string]> => [
    ...seen,
    ...recorded.flatMap(({ attributes, events, name, span }) => {
      const { status } = span
      return [
        [`span ${name}`, name],
        [`attributes of span ${name}`, shown([...attributes])],
        [`events of span ${name}`, shown(events)],
        // What a statement of `@effect/sql` ends with is the driver's error, and the host's client makes that span.
        ...(status._tag === "Ended" && !name.startsWith("sql.")
          ? forms(status.exit).map((text) => [`end of span ${name}`, text] as const)
          : [])
      ] as const
    }),
    [
      "metrics",
      shown(Metric.unsafeSnapshot().map(({ metricKey }) => [metricKey.name, metricKey.description, metricKey.tags]))
    ]
  ]
  return {
    layer: Layer.mergeAll(
      Logger.replace(Logger.defaultLogger, logger),
      Logger.minimumLogLevel(LogLevel.All),
      tracer
    ),
    see: (where, value) => {
      for (const text of typeof value === "string" ? [value] : forms(value)) seen.push([where, text])
    },
    lines,
    spanNames: () => [...new Set(recorded.map(({ name }) => name))].sort(),
    texts,
    expectClean: () => {
      const all = texts()
      expect(find(all)).toEqual([])
      expect(all.filter(([, text]) => isForeign(text))).toEqual([])
    }
  }
}

/** The failure or defect of an effect as a value, seen; `undefined` if it succeeds, whose value is seen then. */
export const seeExit = <A, E, R>(to: Watch, where: string, effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    to.see(where, exit)
    if (Exit.isSuccess(exit)) return undefined
    const error = Cause.squash(exit.cause)
    to.see(where, error)
    return error
  })

/** Every form in which a value may be shown. */
export const forms = (value: unknown): ReadonlyArray<string> => {
  const all = [shown(value), json(value), String(value)]
  if (value instanceof Error) {
    all.push(
      value.message,
      value.stack ?? "",
      inspect(value),
      Cause.pretty(Cause.fail(value), { renderErrorCause: true })
    )
  }
  if (Exit.isExit(value) && Exit.isFailure(value)) {
    all.push(Cause.pretty(value.cause, { renderErrorCause: true }), ...forms(Cause.squash(value.cause)))
  }
  return all
}

// --- internal

const shown = (value: unknown): string =>
  inspect(value, { depth: 10, showHidden: true, maxArrayLength: null, maxStringLength: null, getters: true })

const json = (value: unknown): string => {
  try {
    return JSON.stringify(value, (_, one: unknown) => typeof one === "bigint" ? String(one) : one) ?? ""
  } catch {
    // A value that holds itself.
    return ""
  }
}
