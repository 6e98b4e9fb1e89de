/**
 * The durable path: an order and its event are committed together, the worker is killed with kill -9 while a receiver holds its request, and a
 * new worker delivers the event all the same. What is rolled back never leaves.
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Command from "@effect/platform/Command"
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { Endpoints, Outbox, OutboxSchema, WebhookConfig, WebhookEvent } from "effect-webhooks"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Queue from "effect/Queue"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"

const cli = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))
const say = (who: string, text: string) => Console.log(`${who.padEnd(8)} │ ${text}`)

/** Never answers the first request, answers 204 to all others, and tells of each. */
const receiver = Effect.gen(function*() {
  const arrivals = yield* Queue.unbounded<number>()
  const over = yield* Deferred.make<void>()
  let requests = 0
  const app = Effect.gen(function*() {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const n = ++requests
    yield* say(
      "receiver",
      `request ${n}, webhook-id ${headers["webhook-id"]}${n === 1 ? ": holds it open" : ": answers 204"}`
    )
    yield* Queue.offer(arrivals, n)
    if (n === 1) yield* Deferred.await(over)
    return HttpServerResponse.empty({ status: 204 })
  })
  const server = yield* Layer.build(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" }))
  yield* Layer.build(Layer.provide(HttpServer.serve(app), Layer.succeedContext(server)))
  const url = yield* Effect.provide(HttpServer.addressFormattedWith(Effect.succeed), server)
  return { url, arrived: Queue.take(arrivals), end: Deferred.succeed(over, undefined) }
})

const program = Effect.gen(function*() {
  const folder = yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())
  const { arrived, end, url } = yield* receiver
  const document = { OrderPlaced: [{ id: "shop", url }] }

  const startWorker = Command.make(process.execPath, cli, "worker").pipe(
    Command.env({
      WEBHOOKS_CONFIG: JSON.stringify(document),
      WEBHOOKS_EGRESS_ALLOW: "127.0.0.1",
      WEBHOOKS_DATABASE_URL: `file:${folder}/orders.db`,
      WEBHOOKS_LEASE: "2s",
      WEBHOOKS_LOG_LEVEL: "none"
    }),
    Command.start,
    Effect.tap(({ pid }) => say("worker", `started as process ${pid}`))
  )

  const Host = Outbox.layer().pipe(
    Layer.provideMerge(OutboxSchema.layerMigrated()),
    Layer.provideMerge(SqliteClient.layer({ filename: `${folder}/orders.db` })),
    Layer.provide(Endpoints.layer),
    Layer.provide(WebhookConfig.layer(document, { allow: "127.0.0.1" }))
  )

  yield* Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox.Outbox
    yield* sql`CREATE TABLE orders (id TEXT PRIMARY KEY)`
    const place = (id: string) =>
      Effect.gen(function*() {
        yield* sql`INSERT INTO orders (id) VALUES (${id})`
        return yield* outbox.enqueue(yield* WebhookEvent.make({ type: "OrderPlaced", aggregateId: id, data: {} }))
      })
    yield* Effect.ignore(sql.withTransaction(Effect.zipRight(place("order-1"), Effect.fail("no money"))))
    yield* say("host", "order-1 and its event: rolled back")
    const { messageId } = yield* sql.withTransaction(place("order-2"))
    yield* say("host", `order-2 and its event ${messageId}: committed`)
  }).pipe(Effect.provide(Host))

  const first = yield* startWorker
  yield* arrived
  yield* first.kill("SIGKILL")
  yield* say("worker", "killed with kill -9, in the middle of its request")
  const second = yield* startWorker
  yield* arrived
  yield* Effect.sleep("300 millis")
  yield* second.kill("SIGTERM")
  yield* end
  yield* say("worker", `stopped with SIGTERM, exit status ${yield* second.exitCode}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide(NodeContext.layer),
  Logger.withMinimumLogLevel(LogLevel.Error),
  NodeRuntime.runMain
)
