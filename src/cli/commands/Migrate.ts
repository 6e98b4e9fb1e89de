/**
 * `migrate`: makes the outbox's tables, or brings them up to date.
 */
import * as Effect from "effect/Effect"
import * as OutboxSchema from "../../outbox/Schema.js"
import * as CliError from "../CliError.js"
import * as Database from "../Database.js"
import * as Settings from "../Settings.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  readonly json: boolean
}

/** Prints what was done, with `--json` `{"from","to"}`: versions of the tables, 0 for none. */
export const run = (options: Options): Effect.Effect<number, CliError.CliError> =>
  Effect.scoped(Effect.gen(function*() {
    const target = yield* Settings.loadDatabase(options)
    const client = yield* Database.open(target, true)
    const { from, to } = yield* OutboxSchema.migrate().pipe(
      Effect.provide(client),
      Effect.mapError((error) => Database.failure(target, error))
    )
    const name = Database.nameOf(target)
    yield* options.json
      ? Stdio.json({ from, to })
      : Stdio.lines(
        from === to ? `${name} is up to date (version ${to})` : `${name} is migrated from version ${from} to ${to}`
      )
    return CliError.exitCodes.done
  }))
