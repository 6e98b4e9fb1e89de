/**
 * Where the commands' settings come from: environment variables, and below them a `.env` file in the working directory. A variable that holds a secret may
 * be given as a file, as container platforms do: `WEBHOOKS_API_TOKEN_FILE=/run/secrets/token`.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { parseEnv } from "node:util"
import * as CliError from "./CliError.js"
import { secretVariables } from "./HelpText.js"
import * as RegularFile from "./RegularFile.js"
import * as Stdio from "./Stdio.js"

/**
 * Runs an effect with the environment over the `.env` file (the syntax of `node --env-file`; lines that don't fit it are ignored, as
 * Node.js ignores them). No file is fine; one that can't be read, is larger than 1 MiB or isn't a regular file, fails with exit code 2.
 *
 * A variable of `secretVariables` (but for `WEBHOOKS_PROXY`, whose file `EgressDispatcher` reads) that isn't set is read from the file that `<NAME>_FILE` names, if that is: at most 64 KiB of UTF-8, one line break at its
 * end apart. Where that can't be, reading the variable fails (`ConfigError.InvalidData`) with a message that holds neither the path nor the content.
 */
export const withEnvironment = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | CliError.CliError> =>
  Effect.flatMap(readDotEnv, (entries) =>
    Effect.gen(function*() {
      const environment = ConfigProvider.fromEnv()
      for (const names of pairs) {
        const [value, file] = yield* Effect.withConfigProvider(Effect.forEach(names, variable), environment)
        // Two names of one setting: if the environment has either, the file has no say.
        if (value !== undefined || file !== undefined) { for (const name of names) entries.delete(name) }
      }
      const both = entries.size === 0 ? environment : over(environment, ConfigProvider.fromMap(entries))
      return yield* Effect.withConfigProvider(effect, withFiles(both))
    }))

/** An environment variable; an empty one counts as unset. */
export const variable = (name: string): Effect.Effect<string | undefined> =>
  Effect.map(
    Effect.orElseSucceed(Config.option(Config.string(name)), () => Option.none<string>()),
    (value) => Option.getOrUndefined(Option.filter(value, (text) => text !== ""))
  )

/** A variable of `secretVariables`; an empty one counts as unset. A file that can't be read fails with exit code 2. */
export const secret = (name: string): Effect.Effect<string | undefined, CliError.CliError> =>
  Config.option(Config.nonEmptyString(name)).pipe(
    Effect.mapBoth({
      onFailure: (error) =>
        CliError.usage(
          ConfigError.isInvalidData(error) ? `${error.path.join(".")}: ${error.message}` : `${name}: can't be read`
        ),
      onSuccess: Option.getOrUndefined
    })
  )

// --- internal

const pairs = ["WEBHOOKS_CONFIG", ...secretVariables].map((name) => [name, `${name}_FILE`])

/** The proxy's file is read by what makes connections, for every program. */
const read = secretVariables.filter((name) => name !== "WEBHOOKS_PROXY")

const maxDotEnvBytes = 1_048_576
const maxFileBytes = 65_536

const withFiles = (provider: ConfigProvider.ConfigProvider): ConfigProvider.ConfigProvider =>
  ConfigProvider.fromFlat(ConfigProvider.makeFlat({
    load: (path, primitive, split) => {
      const [name = "", ...more] = path
      const given = provider.flattened.load(path, primitive, split)
      if (more.length > 0 || !read.includes(name)) return given
      const names = [name, `${name}_FILE`]
      return Effect.flatMap(
        Effect.withConfigProvider(Effect.forEach(names, variable), provider),
        ([value = "", file = ""]) => {
          if (file.trim() === "") return given
          return value.trim() === ""
            ? Effect.flatMap(
              readSecret(file, [`${name}_FILE`]),
              (text) => ConfigProvider.fromMap(new Map([[name, text]])).flattened.load(path, primitive, split)
            )
            : Effect.fail(ConfigError.InvalidData([name], `is set together with ${name}_FILE; set one of the two`))
        }
      )
    },
    enumerateChildren: provider.flattened.enumerateChildren,
    patch: provider.flattened.patch
  }))

// Someone may have put the secret where the file's name belongs.
const readSecret = (file: string, path: Array<string>): Effect.Effect<string, ConfigError.ConfigError> =>
  Effect.suspend(() => {
    const refuse = (problem: string) => Effect.fail(ConfigError.InvalidData(path, problem))
    let bytes: Uint8Array
    try {
      bytes = RegularFile.read(file, maxFileBytes)
    } catch (error) {
      const code = Stdio.codeOf(error)
      return refuse(
        code === "ERR_FS_FILE_TOO_LARGE"
          ? "names a file larger than 64 KiB"
          : `names a file that can't be read: ${Stdio.reasonOf(code)}`
      )
    }
    let text: string
    try {
      text = utf8.decode(bytes).replace(/\r?\n$/, "")
    } catch {
      return refuse("names a file that is not UTF-8 text")
    }
    return text.trim() === "" ? refuse("names an empty file") : Effect.succeed(text)
  })

const utf8 = new TextDecoder("utf-8", { fatal: true })

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
    const text = new TextDecoder().decode(RegularFile.read(".env", maxDotEnvBytes))
    const entries = Object.entries(parseEnv(text))
    // Node.js 20 takes a line without `=` for the beginning of the next name.
    return Effect.succeed(
      new Map(entries.map(([name, value]) => [name.slice(name.lastIndexOf("\n") + 1), value ?? ""]))
    )
  } catch (error) {
    const code = Stdio.codeOf(error)
    return code === "ENOENT" ? Effect.succeed(new Map<string, string>()) : Effect.fail(Stdio.unreadable(".env", code))
  }
})
