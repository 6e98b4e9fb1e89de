/**
 * The events of a file or of stdin, in constant memory: what `dispatch` and `enqueue` take, and what they refuse line by line.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { PayloadTooLarge } from "../webhooks/Message.js"
import * as WebhookEvent from "../webhooks/WebhookEvent.js"
import type * as CliError from "./CliError.js"
import * as EventReader from "./EventReader.js"
import * as Stdio from "./Stdio.js"

/** Bytes to be read. */
export interface Input {
  /** The next bytes; none at the end. */
  readonly next: Effect.Effect<Uint8Array | undefined, CliError.CliError>
  /** Length in bytes, where it is known. */
  readonly size: number | undefined
}

/** What a line, or an element of an array, came to. */
export type Line =
  | { readonly _tag: "Event"; readonly line: number; readonly event: WebhookEvent.WebhookEvent }
  | Invalid

/** What is no event, and why. */
export interface Invalid {
  readonly _tag: "Invalid"
  readonly line: number
  readonly error: string
}

/** Opens a file, or stdin for `-` and for no name; what can't be read fails with exit code 2. */
export const open = (file: string | undefined): Effect.Effect<Input, CliError.CliError> =>
  Effect.try({
    try: () => {
      const { size, stream } = Stdio.openInput(file)
      const chunks = stream[Symbol.asyncIterator]()
      return {
        size,
        next: Effect.tryPromise({
          try: () => chunks.next(),
          catch: (error) => Stdio.unreadable(file, Stdio.codeOf(error))
        }).pipe(Effect.map((result) =>
          result.done === true ? undefined : typeof result.value === "string" ? Buffer.from(result.value) : result.value
        ))
      }
    },
    catch: (error) =>
      Stdio.unreadable(file, Stdio.codeOf(error))
  })

/** Takes the input apart, piece by piece. */
export interface Decoder {
  /**
   * Hands the lines that end in these bytes (none: the input has ended), one after another, to `use`.
   */
  readonly decode: <E, R>(
    chunk: Uint8Array | undefined,
    use: (line: Line) => Effect.Effect<void, E, R>
  ) => Effect.Effect<void, E, R>
  /** Bytes of the input that have been taken. */
  readonly read: () => number
}

/** A decoder at the beginning of its input. */
export const makeDecoder = (): Decoder => {
  const reader = EventReader.make()
  let read = 0
  return {
    read: () => read,
    decode: (chunk, use) =>
      Effect.gen(function*() {
        const items = chunk === undefined ? reader.end() : reader.push(chunk)
        const bytes = chunk?.length ?? 0
        const before = read
        for (const [handled, item] of items.entries()) {
          read = before + Math.floor(bytes * handled / items.length)
          yield* use(item._tag === "Invalid" ? item : yield* toLine(item.line, item.value))
        }
        read = before + bytes
      })
  }
}

/** Why an event can't be a message, in words for whoever wrote the line. */
export const refusal = (error: PayloadTooLarge | { readonly _tag: string; readonly message: string }): string =>
  error instanceof PayloadTooLarge
    ? `event ${error.eventType} takes ${error.bytes} bytes or more; ${error.limit} are allowed: send a link in place of the content`
    : error.message

// --- internal

const toLine = (line: number, value: unknown): Effect.Effect<Line> =>
  Effect.map(
    Effect.either(WebhookEvent.decodeInput(value)),
    Either.match({
      onLeft: ({ message }): Line => ({ _tag: "Invalid", line, error: message }),
      onRight: (event): Line => ({ _tag: "Event", line, event })
    })
  )
