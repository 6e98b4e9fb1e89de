/** What a contract suite runs over: `describe.each(backends)("Deliveries on $name", ({ layer }) => …)`. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as String from "effect/String"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import "./globalSetup.js"
import { freshDatabase, newDatabase } from "./postgres.js"
import { freshFile } from "./sqlite.js"

/** A kind of database. */
export interface Backend {
  readonly name: "sqlite" | "postgres"
  /** A client of a fresh, empty database; with PostgreSQL it may be a schema among others, so channels and advisory locks are shared with them. */
  readonly layer: Layer.Layer<SqlClient.SqlClient>
  /** The same with a client that has the host's columns in camelCase. */
  readonly renaming: Layer.Layer<SqlClient.SqlClient>
  /** A fresh, empty database that goes with the scope: its URL as `WEBHOOKS_DATABASE_URL` takes it, and a client. */
  readonly database: Effect.Effect<Database, never, Scope.Scope>
}

/** A database of a test. */
export interface Database {
  /** `file:/tmp/…` or `postgres://…` */
  readonly url: string
  /** Opens connections of its own each time that it is built. */
  readonly client: Layer.Layer<SqlClient.SqlClient>
  readonly renaming: Layer.Layer<SqlClient.SqlClient>
}

const makeBackend = (
  name: Backend["name"],
  database: Effect.Effect<string, never, Scope.Scope>,
  connect: (url: string, transforms: Transforms) => Layer.Layer<SqlClient.SqlClient, unknown>,
  layer: (transforms: Transforms) => Layer.Layer<SqlClient.SqlClient, unknown> = (transforms) =>
    Layer.unwrapScoped(Effect.map(database, (url) => connect(url, transforms)))
): Backend => ({
  name,
  database: Effect.map(database, (url) => ({
    url,
    client: Layer.orDie(connect(url, {})),
    renaming: Layer.orDie(connect(url, camelCase))
  })),
  layer: Layer.orDie(layer({})),
  renaming: Layer.orDie(layer(camelCase))
})

interface Transforms {
  readonly transformQueryNames?: (name: string) => string
  readonly transformResultNames?: (name: string) => string
}

const camelCase: Transforms = {
  transformQueryNames: String.camelToSnake,
  transformResultNames: String.snakeToCamel
}

/** A file. */
export const sqlite: Backend = makeBackend(
  "sqlite",
  Effect.map(freshFile, (filename) => `file:${filename}`),
  (url, transforms) => SqliteClient.layer({ filename: url.slice("file:".length), ...transforms })
)

const server = Effect.promise(async () => {
  const response = await fetch(inject("postgres"))
  const text = await response.text()
  if (!response.ok) throw new Error(text)
  return text
})

const connect = (url: string, transforms: Transforms) => PgClient.layer({ url: Redacted.make(url), ...transforms })

/** One database for a test file: to make one takes a tenth of a second, a schema in it next to nothing. */
let databaseOfFile: Promise<string> | undefined

const freshSchema = Effect.map(
  Effect.promise(() => (databaseOfFile ??= Effect.runPromise(Effect.flatMap(server, newDatabase)))),
  (database) => {
    const name = `s_${randomBytes(8).toString("hex")}`
    const url = new URL(database)
    url.searchParams.set("options", `-c search_path=${name}`)
    return { name, url: url.href }
  }
)

/** A database of the run's server; for `layer`, a schema of its own. */
export const postgres: Backend = makeBackend(
  "postgres",
  Effect.flatMap(server, freshDatabase),
  connect,
  (transforms) =>
    Layer.unwrapEffect(
      Effect.map(freshSchema, ({ name, url }) =>
        Layer.tap(connect(url, transforms), (context) =>
          Context.get(context, SqlClient.SqlClient).unsafe(`CREATE SCHEMA ${name}`)))
    )
)

export const backends: ReadonlyArray<Backend> = [sqlite, postgres]
