/**
 * `verify`: whether a request was signed with one of the secrets, as a receiver would judge it.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as WebhookSignature from "../../webhooks/WebhookSignature.js"
import * as CliError from "../CliError.js"
import * as Secrets from "../Secrets.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  readonly header: ReadonlyArray<string>
  readonly secret: ReadonlyArray<string>
  /** Default: 5 minutes. */
  readonly tolerance: Duration.Duration | undefined
  /** Seconds since the epoch, in place of the clock. */
  readonly now: number | undefined
  readonly json: boolean
}

/** Prints `valid`, or `invalid: <reason>` with exit code 1; with `--json` `{"valid":true}` or `{"valid":false,"reason"}`. */
export const run = (options: Options, file: string | undefined): Effect.Effect<number, CliError.CliError> =>
  Effect.gen(function*() {
    const headers = yield* Effect.forEach(options.header, parseHeader)
    const keys = yield* Secrets.required(options.secret, WebhookSignature.parseVerifyingSecret)
    const body = yield* Stdio.readAll(file)
    const now = options.now === undefined ? yield* Clock.currentTimeMillis : options.now * 1000
    const result = WebhookSignature.verify({ headers, body, keys, now, tolerance: options.tolerance })
    if (Either.isRight(result)) {
      yield* options.json ? Stdio.json({ valid: true }) : Stdio.lines("valid")
      return CliError.exitCodes.done
    }
    const reason = result.left.reason
    yield* options.json ? Stdio.json({ valid: false, reason }) : Stdio.lines(`invalid: ${reason}`)
    return CliError.exitCodes.failed
  })

// --- internal

// The message doesn't repeat the argument: it may hold a credential.
const parseHeader = (text: string, index: number): Effect.Effect<readonly [string, string], CliError.CliError> => {
  const match = /^([A-Za-z0-9!#$%&'*+\-.^_`|~]+):[ \t]*([^\r\n\0]*?)[ \t]*$/.exec(text)
  return match === null
    ? Effect.fail(CliError.usage(`-H, number ${index + 1}, is not a header; write it as 'name: value'`))
    : Effect.succeed([match[1]!, match[2]!])
}
