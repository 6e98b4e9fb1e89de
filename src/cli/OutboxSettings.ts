/**
 * What the commands of the durable path take from the environment beyond endpoints and client: the database, the worker's settings, the
 * tokens of the HTTP API.
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { defaults } from "../Defaults.js"
import * as DurationText from "../DurationText.js"
import * as HostName from "../server/HostName.js"
import * as DatabaseUrl from "./DatabaseUrl.js"

/** The settings, decoded. */
export interface OutboxSettings {
  readonly database: DatabaseUrl.Target
  readonly worker: WorkerSettings
  /** Of the HTTP API; none: it is open to whoever reaches it. */
  readonly tokens: ReadonlyArray<Redacted.Redacted>
  /** Names that the HTTP API is asked by, beside those that go without saying. */
  readonly hosts: ReadonlyArray<string>
}

/** How the worker works; what is `undefined` is left to its defaults. */
export interface WorkerSettings {
  readonly concurrency: number | undefined
  readonly endpointConcurrency: number | undefined
  readonly lease: Duration.Duration | undefined
  readonly poll: Duration.Duration | undefined
  readonly grace: Duration.Duration
  readonly schedule: ReadonlyArray<Duration.Duration> | undefined
  readonly retention: Retention
}

/** How long deliveries that have ended are kept. */
export interface Retention {
  readonly delivered: Duration.Duration
  /** Exhausted and discarded. */
  readonly ended: Duration.Duration
}

/** The settings; `database` is an argument that goes before `WEBHOOKS_DATABASE_URL`. */
export const config = (database: string | undefined): Config.Config<OutboxSettings> =>
  Config.all({
    database: databaseUrl(database),
    tokens: Config.map(setting("WEBHOOKS_API_TOKEN", tokens), (found) => found ?? []),
    hosts: Config.map(setting("WEBHOOKS_API_HOSTS", hosts), (found) => found ?? []),
    worker: Config.all({
      concurrency: setting("WEBHOOKS_CONCURRENCY", slots),
      endpointConcurrency: setting("WEBHOOKS_ENDPOINT_CONCURRENCY", slots),
      lease: setting("WEBHOOKS_LEASE", (text) => duration(text, "1 second")),
      poll: setting("WEBHOOKS_POLL", (text) => duration(text, "10 millis")),
      grace: Config.map(
        setting("WEBHOOKS_GRACE", (text) => duration(text, "0 millis")),
        (found) => found ?? Duration.decode(defaults.grace)
      ),
      schedule: setting("WEBHOOKS_SCHEDULE", schedule),
      retention: Config.map(setting("WEBHOOKS_RETENTION", retention), (found) => found ?? defaultRetention)
    })
  })

/** The database of the argument, else of `WEBHOOKS_DATABASE_URL`, else `file:./webhooks.db`. */
export const databaseUrl = (argument: string | undefined): Config.Config<DatabaseUrl.Target> =>
  argument === undefined
    ? Config.map(
      setting("WEBHOOKS_DATABASE_URL", DatabaseUrl.parse),
      (target) => target ?? Either.getOrThrow(DatabaseUrl.parse(DatabaseUrl.fallback))
    )
    : Config.mapOrFail(Config.succeed(argument), (text) =>
      Either.mapLeft(DatabaseUrl.parse(text), (problem) => ConfigError.InvalidData(["--database"], problem)))

// --- internal

/** A variable; blank is unset. */
const setting = <A>(name: string, read: (text: string) => Either.Either<A, string>): Config.Config<A | undefined> =>
  Config.map(
    Config.option(Config.mapOrFail(
      Config.string(name),
      (text): Either.Either<A | undefined, ConfigError.ConfigError> =>
        text.trim() === ""
          ? Either.right(undefined)
          : Either.mapLeft(read(text.trim()), (problem) => ConfigError.InvalidData([], problem))
    )),
    Option.getOrUndefined
  )

const tenYears = Duration.days(3650)

const defaultRetention: Retention = {
  delivered: Duration.decode(defaults.retention.delivered),
  ended: Duration.decode(defaults.retention.ended)
}

const slots = (text: string): Either.Either<number, string> =>
  /^[1-9]\d{0,3}$/.test(text) ? Either.right(Number(text)) : Either.left("must be a whole number from 1 to 9999")

const duration = (text: string, least: Duration.DurationInput): Either.Either<Duration.Duration, string> =>
  Either.fromOption(
    Option.filter(DurationText.parse(text), Duration.greaterThanOrEqualTo(least)),
    () =>
      `must be ${DurationText.allowed}` +
      (Duration.toMillis(least) > 0 ? ` and at least ${Duration.format(least)}` : "")
  )

const schedule = (text: string): Either.Either<ReadonlyArray<Duration.Duration>, string> =>
  Option.match(Option.all(text.split(",").map((one) => DurationText.parse(one))), {
    onNone: () => Either.left(scheduleForm),
    onSome: (delays) => delays.length > 100 ? Either.left(scheduleForm) : Either.right(delays)
  })

const scheduleForm =
  "must be 1 to 100 durations of at most 24 days, separated by commas, the first the wait before the first attempt, " +
  "such as 0s,5s,5m,30m,2h,5h,10h"

const retention = (text: string): Either.Either<Retention, string> => {
  // No timer waits for them, so that they aren't bound to what one holds.
  const [delivered, ended = delivered, ...more] = text.split(",").map((one) => DurationText.parse(one, tenYears))
  return delivered === undefined || ended === undefined || Option.isNone(delivered) || Option.isNone(ended) ||
      more.length > 0
    ? Either.left("must be one duration, or two (delivered,ended) separated by a comma, such as 7d,30d; at most 3650d")
    : Either.right({ delivered: delivered.value, ended: ended.value })
}

const tokens = (text: string): Either.Either<ReadonlyArray<Redacted.Redacted>, string> => {
  const found = text.split(/[\s,]+/).filter((one) => one !== "")
  const wrong = found.flatMap((one, index) => /^[!-~]{16,512}$/.test(one) ? [] : [`token ${index + 1}`])
  if (wrong.length === 0 && found.length > 0) return Either.right(found.map((one) => Redacted.make(one)))
  return Either.left(
    `${found.length > 1 ? `${wrong.join(", ")}: ` : ""}must be 16 to 512 visible ASCII characters, such as ` +
      "`openssl rand -hex 32` gives; several are separated by spaces or commas"
  )
}

const hosts = (text: string): Either.Either<ReadonlyArray<string>, string> => {
  const found = text.split(/[\s,]+/).filter((one) => one !== "")
  const wrong = found.flatMap((one, index) => HostName.isHost(one) ? [] : [`name ${index + 1}`])
  return wrong.length === 0
    ? Either.right(found)
    : Either.left(
      `${
        wrong.join(", ")
      }: must be a host name (in ASCII) or an address, without scheme, port and path; several are separated by spaces or commas`
    )
}
