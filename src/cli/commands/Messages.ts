/**
 * `messages show`: what was stored of an event, and where it goes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Deliveries } from "../../outbox/Deliveries.js"
import type { OutboxUnavailable } from "../../outbox/OutboxError.js"
import * as Views from "../../server/internal/views.js"
import * as CliError from "../CliError.js"
import * as DeliveryLines from "../DeliveryLines.js"
import * as Refusals from "../Refusals.js"
import * as Stdio from "../Stdio.js"

export interface Options {
  readonly json: boolean
}

/** Prints the message, its deliveries and its payload in every stored format; with `--json` one object. */
export const show = (
  options: Options,
  id: string
): Effect.Effect<number, CliError.CliError | OutboxUnavailable, Deliveries> =>
  Effect.gen(function*() {
    const deliveries = yield* Deliveries
    const message = yield* Refusals.toCliError(deliveries.message(yield* Refusals.messageId(id)))
    yield* options.json
      ? Stdio.json(Views.message(message))
      : Stdio.lines(...DeliveryLines.messageDetails(message, yield* Clock.currentTimeMillis))
    return CliError.exitCodes.done
  })
