/**
 * The one way in which a command fails: lines for a person, the exit code, and what `--json` shows on stdout.
 */
import * as Data from "effect/Data"

/** Exit codes of the command line. */
export const exitCodes = {
  done: 0,
  /** The work failed: a delivery, a line, a signature. */
  failed: 1,
  /** Usage or configuration. */
  usage: 2,
  /** Cut off: by the end of the terminal, by Ctrl-C, by SIGTERM. */
  SIGHUP: 129,
  SIGINT: 130,
  SIGTERM: 143
} as const

/** A failure that ends the command. Its lines hold no secret and no control characters. */
export class CliError extends Data.TaggedError("CliError")<{
  readonly exitCode: number
  /** One line each on stderr. */
  readonly lines: ReadonlyArray<string>
  /** Written to stdout as one JSON object, where the command was given `--json`. */
  readonly json?: unknown
}> {
  override get message(): string {
    return this.lines.join("\n")
  }
}

/** A mistake in the arguments, the environment or a file that was named: exit code 2. */
export const usage = (...lines: ReadonlyArray<string>): CliError => new CliError({ exitCode: exitCodes.usage, lines })

/** Work that could not be done: exit code 1. */
export const failed = (...lines: ReadonlyArray<string>): CliError => new CliError({ exitCode: exitCodes.failed, lines })
