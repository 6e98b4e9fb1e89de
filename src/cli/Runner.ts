/**
 * Runs the program's one effect and ends the process: exit codes, failures as lines on stderr, never a stack trace.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as CliError from "./CliError.js"
import * as Stdio from "./Stdio.js"

/**
 * Runs an effect that gives an exit code, then ends the process with it. A `CliError` is shown line by line; anything that nobody
 * foresaw is one line that asks for a report, and exit code 1.
 */
export const runMain = (effect: Effect.Effect<number, CliError.CliError>): void => {
  let surprised = false
  const surprise = (error: unknown) => {
    if (surprised) return
    surprised = true
    end(report(unforeseen(error)))
  }
  process.on("uncaughtException", surprise)
  process.on("unhandledRejection", surprise)
  end(
    Effect.catchAllCause(
      effect,
      (cause) => report(Option.getOrElse(Cause.failureOption(cause), () => unforeseen(Cause.squash(cause))))
    )
  )
}

// --- internal

const end = (effect: Effect.Effect<number>): void => {
  Effect.runCallback(effect, {
    onExit: (exit) => process.exit(Exit.getOrElse(exit, () => CliError.exitCodes.failed))
  })
}

const report = (error: CliError.CliError): Effect.Effect<number> =>
  (error.json === undefined ? Effect.void : Effect.ignore(Stdio.json(error.json))).pipe(
    Effect.zipRight(Stdio.notes(...error.lines.map((line) => `effect-webhooks: ${line}`))),
    Effect.as(error.exitCode)
  )

// What it says isn't shown: it may quote whatever it was given. Its name and where it came from are enough to find it.
const unforeseen = (error: unknown): CliError.CliError => {
  if (!(error instanceof Error)) return CliError.failed("internal error; please report")
  const place = /^ +at .*?([\w.-]+\.[cm]?[jt]s:\d+):\d+\)?$/m.exec(error.stack ?? "")?.[1]
  const name = /^\w{1,60}$/.test(error.name) ? error.name : "Error"
  return CliError.failed(`internal error: ${name}${place === undefined ? "" : ` at ${place}`}; please report`)
}
