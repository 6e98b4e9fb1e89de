/**
 * Where the commands' settings come from: environment variables, and below them a `.env` file in the working directory.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { readFileSync, statSync } from "node:fs"
import { parseEnv } from "node:util"
import type * as CliError from "./CliError.js"
import * as Stdio from "./Stdio.js"

/**
 * Runs an effect with the environment over the `.env` file (the syntax of `node --env-file`; lines that don't fit it are ignored, as
 * Node.js ignores them). No file is fine; one that can't be read, or isn't a regular file, fails with exit code 2.
 */
export const withEnvironment = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | CliError.CliError> =>
  Effect.flatMap(
    readDotEnv,
    (entries) =>
      Effect.flatMap(Effect.withConfigProvider(configured, ConfigProvider.fromEnv()), (configured) => {
        // Two names of one setting: if the environment has either, the file has no say.
        if (configured) { for (const name of configurationNames) entries.delete(name) }
        return Effect.withConfigProvider(
          effect,
          entries.size === 0
            ? ConfigProvider.fromEnv()
            : over(ConfigProvider.fromEnv(), ConfigProvider.fromMap(entries))
        )
      })
  )

/** An environment variable; an empty one counts as unset. */
export const variable = (name: string): Effect.Effect<string | undefined> =>
  Effect.map(
    Effect.orElseSucceed(Config.option(Config.string(name)), () => Option.none<string>()),
    (value) => Option.getOrUndefined(Option.filter(value, (text) => text !== ""))
  )

// --- internal

const configurationNames = ["WEBHOOKS_CONFIG", "WEBHOOKS_CONFIG_FILE"]

const configured: Effect.Effect<boolean> = Effect.map(
  Effect.forEach(configurationNames, variable),
  (values) => values.some((value) => value !== undefined)
)

// `ConfigProvider.orElse` would also take the lower value where the upper one is there but wrong.
const over = (
  upper: ConfigProvider.ConfigProvider,
  lower: ConfigProvider.ConfigProvider
): ConfigProvider.ConfigProvider =>
  ConfigProvider.fromFlat(ConfigProvider.makeFlat({
    load: (path, primitive, split) =>
      Effect.catchIf(
        upper.flattened.load(path, primitive, split),
        ConfigError.isMissingDataOnly,
        () => lower.flattened.load(path, primitive, split)
      ),
    enumerateChildren: upper.flattened.enumerateChildren,
    patch: upper.flattened.patch
  }))

const readDotEnv: Effect.Effect<Map<string, string>, CliError.CliError> = Effect.suspend(() => {
  try {
    const stats = statSync(".env")
    // A pipe would be waited for.
    if (!stats.isFile()) throw Object.assign(new Error(), { code: stats.isDirectory() ? "EISDIR" : "ENOTREG" })
    const entries = Object.entries(parseEnv(readFileSync(".env", "utf8").replace(/^\uFEFF/, "")))
    // Node.js 20 takes a line without `=` for the beginning of the next name.
    return Effect.succeed(
      new Map(entries.map(([name, value]) => [name.slice(name.lastIndexOf("\n") + 1), value ?? ""]))
    )
  } catch (error) {
    const code = Stdio.codeOf(error)
    return code === "ENOENT" ? Effect.succeed(new Map<string, string>()) : Effect.fail(Stdio.unreadable(".env", code))
  }
})
