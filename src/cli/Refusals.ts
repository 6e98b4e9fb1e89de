/**
 * What the operating commands refuse: arguments that can't be right (exit code 2), and what the database says no to (exit code 1).
 */
import * as Effect from "effect/Effect"
import type { OutboxUnavailable } from "../outbox/OutboxError.js"
import * as CliError from "./CliError.js"
import { visible } from "./Visible.js"

/** A refusal of the outbox (not found, disabled, under way …) as one line and exit code 1; that there is no database stays as it is. */
export const toCliError = <A, E extends { readonly _tag: string; readonly message: string }, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, CliError.CliError | Extract<E, OutboxUnavailable>, R> =>
  Effect.mapError(
    effect,
    (error) =>
      isUnavailable(error)
        ? error
        : error instanceof CliError.CliError
        ? error
        : CliError.failed(visible(error.message))
  )

/** Checks that a text is the id of a delivery. */
export const deliveryId = (text: string): Effect.Effect<string, CliError.CliError> =>
  matching(/^dlv_[1-9]\d{0,18}$/, text, "that is not the id of a delivery; it looks like dlv_42")

/** Checks that a text is the id of a message. */
export const messageId = (text: string): Effect.Effect<string, CliError.CliError> =>
  matching(name, text, "that is not the id of a message; it has 1 to 64 characters of A-Z a-z 0-9 _ -")

/** Checks that a text is the id of an endpoint. */
export const endpointId = (text: string): Effect.Effect<string, CliError.CliError> =>
  matching(name, text, "that is not the id of an endpoint; it has 1 to 64 characters of A-Z a-z 0-9 _ -")

// --- internal

const name = /^[A-Za-z0-9_-]{1,64}$/

// The text isn't repeated: it may be anything, a secret on the wrong place of the line too.
const matching = (pattern: RegExp, text: string, problem: string): Effect.Effect<string, CliError.CliError> =>
  pattern.test(text) ? Effect.succeed(text) : Effect.fail(CliError.usage(problem))

const isUnavailable = <E extends { readonly _tag: string }>(error: E): error is Extract<E, OutboxUnavailable> =>
  error._tag === "OutboxUnavailable"
