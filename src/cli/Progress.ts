/**
 * The progress line of commands that take many events, on a terminal.
 */
import cliProgress from "cli-progress"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { variable } from "./Environment.js"
import * as Stdio from "./Stdio.js"

/** What has been counted so far, in the order in which it is shown. */
export type Counts = Readonly<Record<string, number>>

export interface Progress {
  /** Shows the counts; `bytes` of the input have been read. */
  readonly update: (bytes: number) => void
  /** Takes the progress line away. */
  readonly end: () => void
}

/**
 * A progress line on stderr until the scope closes, if stderr is a terminal and `NO_COLOR` is not set; otherwise nothing. `total` is the
 * length of the input in bytes, if it is known: then there is a bar, too.
 */
export const make = (
  counts: () => Counts,
  total: number | undefined
): Effect.Effect<Progress, never, Scope.Scope> =>
  Effect.flatMap(
    variable("NO_COLOR"),
    (noColor) => noColor !== undefined || !process.stderr.isTTY ? Effect.succeed(none) : onTerminal(counts, total)
  )

// --- internal

const none: Progress = { update: () => undefined, end: () => undefined }

const onTerminal = (counts: () => Counts, total: number | undefined): Effect.Effect<Progress, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const bar = new cliProgress.SingleBar({
        format: (total === undefined ? "" : "[{bar}] {percentage}%  ") +
          Object.keys(counts()).map((name) => `{${name}} ${name}`).join("  "),
        stream: withoutCursorMemory(process.stderr),
        clearOnComplete: true,
        gracefulExit: false,
        barsize: 24,
        // Other lines clear this one away, and it is drawn again below them.
        forceRedraw: true,
        // Cut to the terminal's width by the library: a terminal told not to wrap would stay so when the process is killed.
        linewrap: true
      })
      Stdio.setOverlay(() => process.stderr.write("\r\u001b[2K"))
      bar.start(total ?? 1, 0, counts())
      const end = () => {
        bar.stop()
        Stdio.setOverlay(undefined)
      }
      return { bar, end }
    }),
    ({ end }) => Effect.sync(end)
  ).pipe(Effect.map(({ bar, end }): Progress => ({
    update: (bytes) => bar.update(total === undefined ? 0 : Math.min(bytes, total), counts()),
    end
  })))

// At its end cli-progress takes the cursor back to where it was at the beginning; the lines on stdout have moved on since.
const withoutCursorMemory = (stream: NodeJS.WriteStream): NodeJS.WritableStream =>
  Object.create(stream, {
    write: { value: (text: string) => text === "\u001b7" || text === "\u001b8" || stream.write(text) }
  }) as NodeJS.WritableStream
