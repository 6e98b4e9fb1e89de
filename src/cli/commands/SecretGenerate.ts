/**
 * `secret generate`: a fresh secret.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as WebhookSignature from "../../webhooks/WebhookSignature.js"
import * as CliError from "../CliError.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  readonly kind: "hmac" | "ed25519"
  readonly json: boolean
}

/**
 * Prints the secret on a line of its own, for `ed25519` followed by the public key. With `--json`: `{"kind","secret"}` and for
 * `ed25519` also `"publicKey"`.
 */
export const run = (options: Options): Effect.Effect<number, CliError.CliError> =>
  Effect.gen(function*() {
    const generated = yield* WebhookSignature.generateSecret<"hmac" | "ed25519">({ kind: options.kind })
    const shown = {
      kind: generated.kind,
      secret: Redacted.value(generated.secret),
      ...(generated.kind === "ed25519" ? { publicKey: generated.publicKey } : undefined)
    }
    yield* options.json
      ? Stdio.json(shown)
      : Stdio.lines(shown.secret, ...(generated.kind === "ed25519" ? [generated.publicKey] : []))
    return CliError.exitCodes.done
  })
