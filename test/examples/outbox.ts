import { NodeFileSystem, NodeRuntime } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect, Layer } from "effect"
import { DeliveryWorker, EgressDispatcher, Endpoints, Outbox, OutboxSchema, WebhookEvent } from "effect-webhooks"
import { ResilientHttpClient, WebhookConfig } from "effect-webhooks"

// The order, in a table of yours, and its event: both are committed, or neither is.
const place = (id: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox.Outbox
    yield* sql`CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY)`
    const event = yield* WebhookEvent.make({ type: "OrderPlaced", aggregateId: id, data: { total: 42.5 } })
    yield* sql.withTransaction(Effect.zipRight(sql`INSERT INTO orders (id) VALUES (${id})`, outbox.enqueue(event)))
  })

const Durable = Layer.merge(Outbox.layer(), DeliveryWorker.worker()).pipe(
  Layer.provideMerge(OutboxSchema.layerMigrated()),
  Layer.provideMerge(SqliteClient.layer({ filename: "shop.db" })), // or PgClient.layer
  Layer.provide(Endpoints.layer),
  Layer.provide([WebhookConfig.layerFromEnv(), ResilientHttpClient.layerFromEnv()]),
  Layer.provide(EgressDispatcher.layerHttpClientFromEnv),
  Layer.provide(NodeFileSystem.layer)
)

NodeRuntime.runMain(Effect.provide(Effect.zipRight(place("order-1"), Effect.never), Durable))
