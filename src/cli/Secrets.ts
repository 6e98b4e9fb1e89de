/**
 * The secrets of a command: `--secret`, or else `WEBHOOKS_SECRET`, or the file that `WEBHOOKS_SECRET_FILE` names.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type * as WebhookSignature from "../webhooks/WebhookSignature.js"
import * as CliError from "./CliError.js"
import * as Environment from "./Environment.js"

/**
 * The keys of the `--secret` arguments, or of `WEBHOOKS_SECRET` (several separated by white space) when there are none. A secret that can't
 * be a key fails with exit code 2; the message says which one, never what it is.
 */
export const resolve = <Key>(
  args: ReadonlyArray<string>,
  parse: (secret: Redacted.Redacted<string>) => Either.Either<Key, WebhookSignature.InvalidSecret>
): Effect.Effect<ReadonlyArray<Key>, CliError.CliError> =>
  Effect.flatMap(args.length > 0 ? Effect.succeed(undefined) : Environment.secret("WEBHOOKS_SECRET"), (text) => {
    const fromArguments = args.length > 0
    const texts = fromArguments ? args : (text ?? "").split(/\s+/).filter((one) => one !== "")
    const keys: Array<Key> = []
    const errors: Array<string> = []
    texts.forEach((secret, index) => {
      const source = fromArguments ? "--secret" : "WEBHOOKS_SECRET"
      const which = texts.length > 1 ? `${source}, number ${index + 1},` : source
      Either.match(parse(Redacted.make(secret)), {
        onLeft: (error) => errors.push(`${which} ${error.detail}`),
        onRight: (key) => keys.push(key)
      })
    })
    return errors.length > 0 ? Effect.fail(CliError.usage(...errors)) : Effect.succeed(keys)
  })

/** As `resolve`, where at least one secret is needed. */
export const required = <Key>(
  args: ReadonlyArray<string>,
  parse: (secret: Redacted.Redacted<string>) => Either.Either<Key, WebhookSignature.InvalidSecret>
): Effect.Effect<ReadonlyArray<Key>, CliError.CliError> =>
  Effect.filterOrFail(
    resolve(args, parse),
    (keys) => keys.length > 0,
    () => CliError.usage("no secret: set WEBHOOKS_SECRET or give --secret")
  )
