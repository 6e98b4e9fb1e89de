/**
 * What the definitions of commands share: options that several have, and how a command's module is loaded and its failures are shown.
 */
import { type Command, InvalidArgumentError, Option as CliOption } from "commander"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as DurationText from "../DurationText.js"
import * as CliError from "./CliError.js"
import { withEnvironment } from "./Environment.js"

/** What a command does, giving the exit code. */
export type Action = Effect.Effect<number, CliError.CliError>

/** Takes the command that the arguments chose; it is run afterwards, so that loading it isn't under way when one of them is wrong. */
export type Choose = (action: Action) => void

/** A command that loads its modules when it is run, with the environment. */
export const loading = <M>(
  json: boolean | undefined,
  modules: () => Promise<M>,
  run: (modules: M) => Action
): Action => withErrors(json, withEnvironment(Effect.flatMap(Effect.promise(modules), run)))

/** With `--json` a failure is an object on stdout, too. */
export const withErrors = (json: boolean | undefined, action: Action): Action =>
  json !== true ? action : Effect.mapError(action, (error) =>
    error.json !== undefined ? error : new CliError.CliError({
      exitCode: error.exitCode,
      lines: error.lines,
      json: { errors: error.lines.map((message) => ({ message })) }
    }))

/** A command that only holds others. */
export const group = (root: Command, name: string, description: string, help: () => string): Command =>
  root.command(name)
    .addHelpText("after", help)
    .description(`${description[0]!.toUpperCase()}${description.slice(1)}.`)
    .summary(description)
    .helpCommand(false)

export const jsonOption = () => new CliOption("--json", "one JSON object a line")

export const integer = (least: number, most: number) => (text: string): number => {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : -1
  if (value < least || value > most) throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`)
  return value
}

export const duration = (text: string): Duration.Duration =>
  Option.getOrThrowWith(DurationText.parse(text), () => new InvalidArgumentError(`It is ${DurationText.allowed}.`))

/** For what no timer waits for. */
export const longDuration = (text: string): Duration.Duration =>
  Option.getOrThrowWith(
    DurationText.parse(text, Duration.days(3650)),
    () => new InvalidArgumentError("It is a duration such as 12h, 7d or \"30 days\", at most ten years.")
  )
