/**
 * The configured database and the outbox in it, for the length of a command. What goes wrong with it is one clear line, in our own words: a
 * driver's text may hold the login.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as LogLevel from "effect/LogLevel"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import { accessSync, constants, statSync } from "node:fs"
import { dirname } from "node:path"
import * as EgressDispatcher from "../http/EgressDispatcher.js"
import * as Deliveries from "../outbox/Deliveries.js"
import * as EndpointHealth from "../outbox/EndpointHealth.js"
import { toUnavailable } from "../outbox/internal/driverErrors.js"
import * as Outbox from "../outbox/Outbox.js"
import {
  OutboxUnavailable,
  type Reason,
  type SchemaMissing,
  type SchemaTooNew,
  type SchemaTooOld
} from "../outbox/OutboxError.js"
import * as OutboxSchema from "../outbox/Schema.js"
import * as Endpoints from "../webhooks/Endpoints.js"
import { version } from "../webhooks/Version.js"
import * as WebhookSender from "../webhooks/WebhookSender.js"
import * as CliError from "./CliError.js"
import type { Target } from "./DatabaseUrl.js"
import * as Settings from "./Settings.js"
import * as Stdio from "./Stdio.js"

/** What a command may use. */
export type Services =
  | Outbox.Outbox
  | Deliveries.Deliveries
  | EndpointHealth.EndpointHealth
  | OutboxSchema.OutboxSchema
  | Endpoints.Endpoints
  | WebhookSender.WebhookSender
  | SqlClient

/** How a command uses the database. */
export interface Options {
  readonly json: boolean
  /** Whether to make the tables or bring them up to date first. Without it a missing file is not made, either. */
  readonly migrate: boolean
  /** In place of `WEBHOOKS_DATABASE_URL`. */
  readonly database?: string | undefined
  /** Where `WEBHOOKS_LOG_LEVEL` says nothing; default: none. */
  readonly logLevel?: LogLevel.LogLevel | undefined
}

/** Runs a command with the settings and the outbox; its logs go to stderr, and what is in its scope closes before the database. */
export const run = (
  options: Options,
  use: (
    settings: Settings.WithOutbox
  ) => Effect.Effect<number, CliError.CliError | OutboxUnavailable, Services | Scope.Scope>
): Effect.Effect<number, CliError.CliError> =>
  Effect.scoped(Effect.gen(function*() {
    const settings = yield* Settings.loadOutbox(options, EgressDispatcher.layerHttpClientFromEnv)
    const target = settings.outbox.database
    return yield* open(target, options.migrate).pipe(
      Effect.flatMap((client) => Layer.build(outbox(settings, target, options.migrate, client))),
      Effect.flatMap((context) => Effect.provide(use(settings), context)),
      Effect.mapError((error) => error._tag === "CliError" ? error : failure(target, error)),
      // Within the logger: what stops in good order has something to say.
      Effect.scoped,
      Effect.provide(settings.logger)
    )
  }))

/** Opens a database until the scope closes. A file is made where there is none if `create`. */
export const open = (
  target: Target,
  create: boolean
): Effect.Effect<Context.Context<SqlClient>, CliError.CliError, Scope.Scope> =>
  target._tag === "File" ? openFile(target, create) : openPostgres(target)

/** The line of a failure. */
export const failure = (
  target: Target,
  error: OutboxUnavailable | SchemaMissing | SchemaTooNew | SchemaTooOld
): CliError.CliError => {
  const name = nameOf(target)
  switch (error._tag) {
    case "SchemaMissing":
      return CliError.failed(`${name} is not migrated; run \`effect-webhooks migrate\``)
    case "SchemaTooOld":
      return CliError.failed(
        `${name} has schema version ${error.found}, and ${error.known} is needed; run \`effect-webhooks migrate\``
      )
    case "SchemaTooNew":
      return CliError.failed(
        `${name} has schema version ${error.found}, newer than version ${error.known} of effect-webhooks ${version}; ` +
          "update effect-webhooks"
      )
    case "OutboxUnavailable": {
      const text = target._tag === "File" && error.reason === "unreachable" ? unopened : texts[error.reason]
      return CliError.failed(`${name} ${text}${error.code === undefined ? "" : ` (${error.code})`}`)
    }
  }
}

/** How a person is told which database it is. */
export const nameOf = (target: Target): string =>
  target._tag === "File" ? `the database file ${target.place}` : `the database at ${target.place}`

// --- internal

const outbox = (
  settings: Settings.WithOutbox,
  target: Target,
  migrate: boolean,
  client: Context.Context<SqlClient>
): Layer.Layer<Services, CliError.CliError> =>
  Layer.mergeAll(Outbox.layer(), Deliveries.layer, EndpointHealth.layer).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        migrate ? OutboxSchema.layerMigrated() : OutboxSchema.layer(),
        Endpoints.layer,
        WebhookSender.layer()
      )
    ),
    Layer.provideMerge(Layer.succeedContext(client)),
    Layer.provide(Layer.succeedContext(settings.context)),
    Layer.catchAll((error) => Layer.fail(failure(target, error)))
  )

const openFile = (
  target: Target & { readonly _tag: "File" },
  create: boolean
): Effect.Effect<Context.Context<SqlClient>, CliError.CliError, Scope.Scope> =>
  Effect.gen(function*() {
    const { layer } = yield* sqliteDriver
    yield* accessible(target, create)
    const context = yield* Layer.build(layer({ filename: target.path })).pipe(
      Effect.orDie,
      // Its constructor throws.
      Effect.catchAllDefect((error) => Effect.fail(isUnbuilt(error) ? unbuilt : failure(target, toUnavailable(error))))
    )
    const sql = Context.get(context, SqlClient)
    // Not the driver's defaults: what was acknowledged must outlast a power cut, and foreign keys are no business of ours.
    yield* Effect.forEach(["PRAGMA synchronous = FULL", "PRAGMA foreign_keys = OFF"], (text) => sql.unsafe(text)).pipe(
      Effect.mapError((error) => failure(target, toUnavailable(error)))
    )
    return context
  })

const openPostgres = (
  target: Target & { readonly _tag: "Postgres" }
): Effect.Effect<Context.Context<SqlClient>, CliError.CliError, Scope.Scope> =>
  Effect.gen(function*() {
    const { layer } = yield* Effect.promise(() => import("@effect/sql-pg/PgClient"))
    return yield* Layer.build(layer({
      url: target.url,
      applicationName: "effect-webhooks",
      maxConnections: poolSize,
      connectTimeout: "10 seconds"
    })).pipe(
      Effect.mapError((error) => failure(target, asksForPassword(error.cause) ? noPassword : toUnavailable(error))),
      // What the URL's parameters name (a certificate's file) is read as the pool is made.
      Effect.catchAllDefect(() =>
        Effect.fail(CliError.usage(`the URL of ${nameOf(target)} has a parameter that can't be used`))
      )
    )
  })

/** One for each batch of a worker that settles, some to claim and to enqueue with; the server's limit is often 100. */
const poolSize = 10

/** The one part that is native, and that the bundle doesn't hold. */
const sqliteDriver = Effect.promise(() => import("@effect/sql-sqlite-node/SqliteClient")).pipe(
  Effect.catchAllDefect((error) =>
    Stdio.codeOf(error) === "ERR_MODULE_NOT_FOUND"
      ? Effect.fail(CliError.usage(
        "an SQLite file needs a package that is not installed: npm install @effect/sql-sqlite-node @effect/sql"
      ))
      : Effect.die(error)
  )
)

const accessible = (
  target: Target & { readonly _tag: "File" },
  create: boolean
): Effect.Effect<void, CliError.CliError> =>
  Effect.suspend(() => {
    const wrong = (code: string, text: string) => Effect.fail(CliError.failed(`${nameOf(target)} ${text} (${code})`))
    try {
      if (statSync(target.path).isDirectory()) return wrong("EISDIR", "is a directory")
      accessSync(target.path, constants.R_OK | constants.W_OK)
      return Effect.void
    } catch (error) {
      const code = Stdio.codeOf(error) ?? "unknown error"
      if (code === "EACCES" || code === "EROFS" || code === "EPERM") return wrong(code, texts["read-only"])
      if (code !== "ENOENT") return wrong(code, unopened)
    }
    if (!create) {
      return Effect.fail(
        CliError.failed(`${nameOf(target)} does not exist; run \`effect-webhooks migrate\` to make it`)
      )
    }
    try {
      accessSync(dirname(target.path), constants.W_OK)
      return Effect.void
    } catch (error) {
      const code = Stdio.codeOf(error) ?? "unknown error"
      return code === "ENOENT"
        ? wrong(code, "can't be made: its folder does not exist")
        : wrong(code, "can't be made; check the permissions of its folder")
    }
  })

const unopened = "can't be opened; check the permissions of the file and its folder"

const texts: Readonly<Record<Reason, string>> = {
  unreachable: "can't be reached, or the connection broke; check that it runs, its address and the network",
  credentials: "refuses the login; check user, password and database name",
  "disk-full": "has no space left on its disk; make room and try again",
  "read-only": "is read-only; check the permissions of the file and its folder, or the server's mode",
  busy: "is locked by another process, or has no connection free; try again",
  "queue-full": "has more to store than it keeps up with; try again, with fewer at a time",
  "missing-tables": "is not migrated; run `effect-webhooks migrate`",
  corrupt: "is damaged, or is not a database",
  constraint: "refused rows by a constraint of its own",
  other: "refused what was asked of it"
}

const noPassword = new OutboxUnavailable({ reason: "credentials" })

// node-postgres has no code for a server that asks for a password where none was given.
const asksForPassword = (error: unknown): boolean =>
  Predicate.hasProperty(error, "message") && typeof error.message === "string" &&
  /\bpassword must be\b/.test(error.message)

const isUnbuilt = (error: unknown): boolean =>
  Stdio.codeOf(error) === "ERR_DLOPEN_FAILED" ||
  Predicate.hasProperty(error, "message") && typeof error.message === "string" &&
    error.message.startsWith("Could not locate the bindings file")

const unbuilt = CliError.failed(
  "better-sqlite3 is not built for this Node.js; run `npm rebuild better-sqlite3` (it may need python3, make and g++)"
)
