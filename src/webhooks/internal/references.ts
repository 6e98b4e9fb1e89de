/** Values that stand elsewhere: `{ "env": "NAME" }` and `{ "file": "path" }`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { broken, isBroken } from "./JsonDocument.js"
import type { Refusal } from "./problems.js"

/** What the `ConfigProvider` has under a name. Neither name nor value is repeated: someone may have put the secret where its name belongs. */
export const fromEnvironment = (name: string): Effect.Effect<Redacted.Redacted<string>, Refusal> =>
  Effect.matchEffect(Config.option(Config.redacted(name)), {
    onFailure: () => Effect.fail({ code: "env_missing", message: "names an environment variable that can't be read" }),
    onSuccess: Option.match({
      onNone: () => Effect.fail({ code: "env_missing", message: "names an environment variable that is not set" }),
      onSome: checked
    })
  })

/** What a file holds, at most 64 KiB, without one line break at its end. */
export const fromFile = (path: string): Effect.Effect<Redacted.Redacted<string>, Refusal> =>
  Effect.flatMap(Effect.serviceOption(FileSystem.FileSystem), (service) => {
    if (Option.isNone(service)) {
      return Effect.fail({
        code: "file_unreadable",
        message: "names a file, but the program provides no FileSystem (NodeFileSystem.layer of @effect/platform-node)"
      })
    }
    return Effect.flatMap(readText(service.value, path, 65_536), (text) => {
      if (text === undefined) return Effect.fail({ code: "file_too_large", message: "names a file larger than 64 KiB" })
      return checked(Redacted.make(text.replace(/\r?\n$/, "")))
    })
  })

/**
 * The text of a file, byte order mark included; `undefined` if it is longer than `limit` bytes. It is read as a stream, so that a pipe
 * works and a device that never ends does no harm.
 */
export const readText = (
  fs: FileSystem.FileSystem,
  path: string,
  limit: number
): Effect.Effect<string | undefined, Refusal> =>
  fs.stream(path, { bytesToRead: limit + 1 }).pipe(
    Stream.runFold({ chunks: [] as Array<Uint8Array>, size: 0 }, ({ chunks, size }, chunk) => {
      chunks.push(chunk)
      return { chunks, size: size + chunk.length }
    }),
    // A stream is run by a fiber of its own, whose failure would be logged at level DEBUG with the path, and that may be a secret in the wrong place.
    Effect.withUnhandledErrorLogLevel(Option.none()),
    Effect.map(({ chunks, size }) => size > limit ? undefined : decoder.decode(Buffer.concat(chunks))),
    Effect.mapError((error) => ({
      code: "file_unreadable",
      message: `names a file that can't be read (${
        error._tag === "SystemError" ? reasons[error.reason] ?? "failed" : "not a usable path"
      })`
    }))
  )

// --- internal

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const reasons: Readonly<Record<string, string>> = {
  NotFound: "not found",
  PermissionDenied: "permission denied",
  BadResource: "not a file",
  Busy: "busy",
  TimedOut: "timed out"
}

function checked(value: Redacted.Redacted<string>): Effect.Effect<Redacted.Redacted<string>, Refusal> {
  return isBroken(Redacted.value(value)) ? Effect.fail(broken) : Effect.succeed(value)
}
