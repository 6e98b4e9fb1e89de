/** What the tests of the outbox share: endpoints, events, and a look at the rows. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as Endpoint from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import type { Backend } from "./backends.js"

/** Fields of an endpoint beside its id; it wants every event unless they say otherwise. */
export type EndpointFields = Partial<Parameters<typeof Endpoint.make>[0]>

/** Endpoints by id. */
export const endpoints = (all: Readonly<Record<string, EndpointFields>>): Layer.Layer<Endpoints.Endpoints> =>
  Effect.forEach(
    Object.entries(all),
    ([id, fields]) => Endpoint.make({ id, url: `https://hooks.example.com/${id}`, events: ["*"], ...fields })
  ).pipe(
    Effect.orDie,
    Effect.map(Endpoints.layerOf),
    Layer.unwrapEffect
  )

/** The outbox over a fresh database of a back end; `TestClock` rules unless the options say otherwise. */
export const outbox = (
  backend: Pick<Backend, "layer">,
  all: Readonly<Record<string, EndpointFields>> = { a: {}, b: {} },
  options: OutboxSchema.Options & Outbox.Options = {}
) =>
  Outbox.layer(options).pipe(
    Layer.provideMerge(Layer.merge(
      Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process", ...options }), backend.layer),
      endpoints(all)
    )),
    Layer.orDie
  )

export const event = (
  input: Partial<WebhookEvent.Input> = {}
): Effect.Effect<WebhookEvent.WebhookEvent, WebhookEvent.InvalidEvent> =>
  WebhookEvent.make({ type: "order.created", aggregateId: "o-1", data: { total: 42 }, ...input })

/** Makes an event and stores it. */
export const enqueue = (input: Partial<WebhookEvent.Input> = {}, idempotencyKey?: string) =>
  Effect.flatMap(
    event(input),
    (event) => Effect.flatMap(Outbox.Outbox, (outbox) => outbox.enqueue(event, { idempotencyKey }))
  )

/** How many rows a table has. */
export const count = (table: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => Effect.map(sql`SELECT count(*) AS n FROM ${sql(table)}`, ([row]) => Number(row?.["n"]))
  )

/** All that is stored, as a person with access to the database would see it: bytes as text. */
export const dump = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* Effect.forEach(
    ["webhook_messages", "webhook_deliveries", "webhook_attempts", "webhook_endpoints"],
    (table) => sql`SELECT * FROM ${sql(table)}`
  )
  return JSON.stringify(
    tables,
    (_, value: unknown) => isBufferJson(value) ? Buffer.from(value.data).toString("utf8") : value
  )
})

// --- internal

const isBufferJson = (value: unknown): value is { readonly data: ReadonlyArray<number> } =>
  typeof value === "object" && value !== null && "type" in value && value.type === "Buffer" && "data" in value
