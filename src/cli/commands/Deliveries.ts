/**
 * `deliveries list|show|replay|cancel`: looks at deliveries and intervenes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Deliveries, type Delivery, type State } from "../../outbox/Deliveries.js"
import type { OutboxUnavailable } from "../../outbox/OutboxError.js"
import * as Views from "../../server/internal/views.js"
import * as CliError from "../CliError.js"
import * as DeliveryLines from "../DeliveryLines.js"
import * as Refusals from "../Refusals.js"
import * as Stdio from "../Stdio.js"
import { visible } from "../Visible.js"

export interface Options {
  readonly json: boolean
}

export interface ListOptions extends Options {
  readonly state: string | undefined
  readonly endpoint: string | undefined
  readonly type: string | undefined
  /** 1 to 1 000. */
  readonly limit: number | undefined
  readonly cursor: string | undefined
}

type Run = Effect.Effect<number, CliError.CliError | OutboxUnavailable, Deliveries>

/**
 * Prints a line a delivery, newest first; what a further page begins with is told on stderr, with `--json` as a last line
 * `{"next"}`.
 */
export const list = (options: ListOptions): Run =>
  Effect.gen(function*() {
    const deliveries = yield* Deliveries
    const state = yield* parseState(options.state)
    const endpoint = options.endpoint === undefined ? undefined : yield* Refusals.endpointId(options.endpoint)
    const page = yield* deliveries.list(
      { state, endpoint, type: options.type },
      { cursor: options.cursor, limit: options.limit }
    ).pipe(Effect.catchTag("InvalidCursor", (error) => Effect.fail(CliError.usage(error.message))))
    if (options.json) {
      yield* Effect.forEach(page.items, (delivery) => Stdio.json(Views.delivery(delivery)), {
        discard: true
      })
      if (page.next !== undefined) yield* Stdio.json({ next: page.next })
    } else {
      yield* Stdio.lines(...DeliveryLines.deliveryTable(page.items, yield* Clock.currentTimeMillis))
    }
    if (page.items.length === 0) yield* Stdio.notes("no deliveries")
    if (page.next !== undefined) yield* Stdio.notes(`there are more; go on with --cursor ${visible(page.next)}`)
    return CliError.exitCodes.done
  })

/** Prints a delivery and its attempts; with `--json` one object, the attempts in `history`. */
export const show = (options: Options, id: string): Run =>
  Effect.gen(function*() {
    const deliveries = yield* Deliveries
    const known = yield* Refusals.deliveryId(id)
    const [delivery, attempts] = yield* Refusals.toCliError(
      Effect.all([deliveries.get(known), deliveries.attempts(known)])
    )
    yield* options.json
      ? Stdio.json({
        ...Views.delivery(delivery),
        history: attempts.map(Views.attempt)
      })
      : Stdio.lines(...DeliveryLines.deliveryDetails(delivery, attempts, yield* Clock.currentTimeMillis))
    return CliError.exitCodes.done
  })

/** Sends a delivery again, and prints what it is now. */
export const replay = (options: Options, id: string): Run =>
  change(options, id, (deliveries, known) => Refusals.toCliError(deliveries.replay(known)))

/** Takes back a delivery that is pending, and prints what it is now. */
export const cancel = (options: Options, id: string): Run =>
  change(options, id, (deliveries, known) => Refusals.toCliError(deliveries.cancel(known)))

// --- internal

const states: ReadonlyArray<State> = ["pending", "delivered", "exhausted", "discarded"]

const parseState = (text: string | undefined): Effect.Effect<State | undefined, CliError.CliError> => {
  const state = states.find((state) => state === text)
  return text === undefined || state !== undefined
    ? Effect.succeed(state)
    : Effect.fail(CliError.usage(`--state is one of ${states.join(", ")}`))
}

const change = (
  options: Options,
  id: string,
  act: (
    deliveries: Deliveries["Type"],
    id: string
  ) => Effect.Effect<Delivery, CliError.CliError | OutboxUnavailable>
): Run =>
  Effect.gen(function*() {
    const delivery = yield* act(yield* Deliveries, yield* Refusals.deliveryId(id))
    yield* options.json
      ? Stdio.json(Views.delivery(delivery))
      : Stdio.lines(DeliveryLines.deliveryLine(delivery, yield* Clock.currentTimeMillis))
    return CliError.exitCodes.done
  })
