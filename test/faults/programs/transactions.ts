/**
 * A host that enqueues in its own transactions and is killed. `committed`: forty orders, of which the odd ones roll back, then the kill right after the
 * last COMMIT. `open`: ten more, and the kill before their COMMIT.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Endpoints, Outbox, OutboxSchema, WebhookConfig, WebhookEvent } from "effect-webhooks"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"

const url = process.env.WEBHOOKS_DATABASE_URL ?? ""
const sqlLayer: Layer.Layer<SqlClient.SqlClient, ConfigError | SqlError> = url.startsWith("file:")
  ? SqliteClient.layer({ filename: url.slice("file:".length) })
  : PgClient.layer({ url: Redacted.make(url) })

const place = (n: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox.Outbox
    yield* sql`INSERT INTO orders (n) VALUES (${n})`
    const event = yield* WebhookEvent.make({ type: "OrderCreated", id: `e${n}`, aggregateId: `o${n}`, data: { n } })
    yield* outbox.enqueue(event)
  })

const die = Effect.zipRight(Effect.sync(() => process.kill(process.pid, "SIGKILL")), Effect.never)

const committed = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE orders (n INTEGER PRIMARY KEY)`
  for (let n = 1; n <= 40; n++) {
    yield* n % 2 === 0
      ? sql.withTransaction(place(n))
      : Effect.ignore(sql.withTransaction(Effect.zipRight(place(n), Effect.fail("changed its mind"))))
  }
  yield* die
})

const open = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql.withTransaction(Effect.zipRight(
    Effect.forEach(Array.from({ length: 10 }, (_, index) => 41 + index), place),
    die
  ))
})

const layer = Outbox.layer().pipe(
  Layer.provideMerge(Layer.mergeAll(
    OutboxSchema.layer(),
    Layer.provide(Endpoints.layer, Layer.provide(WebhookConfig.layerFromEnv(), NodeFileSystem.layer))
  )),
  Layer.provideMerge(sqlLayer)
)

await Effect.runPromise(Effect.provide(process.argv[2] === "open" ? open : committed, layer))
