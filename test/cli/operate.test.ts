/** The commands of an operator, over a database that the library has filled. */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { join } from "node:path"
import type * as CliError from "../../src/cli/CliError.js"
import * as DeliveriesCommands from "../../src/cli/commands/Deliveries.js"
import * as EndpointsCommands from "../../src/cli/commands/Endpoints.js"
import * as MessagesCommands from "../../src/cli/commands/Messages.js"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import * as ApiSchemas from "../../src/server/ApiSchemas.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { folder, json, receive, run } from "./cli.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const document = {
  OrderCreated: [{ id: "shop", url: "https://hooks.example.com/a?token=HUSHHUSH", secret }],
  "Order.*": [{ id: "stock", url: "https://stock.example.com/in" }],
  "*": [{ id: "audit", url: "https://audit.example.com/", enabled: false }]
}

let databases = 0

/** A fresh database, filled; the environment that names it and the endpoints. */
const database = async (
  fill: Effect.Effect<unknown, unknown, Outbox.Outbox | SqlClient.SqlClient> = Effect.void,
  config: WebhookConfig.Document = document,
  allow = ""
) => {
  const path = join(folder, `${++databases}.db`)
  const layer = Outbox.layer().pipe(
    Layer.provide(Layer.provide(Endpoints.layer, WebhookConfig.layer(config, { allow }))),
    Layer.provideMerge(OutboxSchema.layerMigrated()),
    Layer.provideMerge(SqliteClient.layer({ filename: path }))
  )
  await Effect.runPromise(Effect.provide(fill, layer))
  return {
    WEBHOOKS_DATABASE_URL: `file:${path}`,
    WEBHOOKS_CONFIG: JSON.stringify(config),
    ...(allow === "" ? undefined : { WEBHOOKS_EGRESS_ALLOW: allow })
  }
}

const enqueue = (type: string, data: unknown, id?: string) =>
  Effect.gen(function*() {
    const outbox = yield* Outbox.Outbox
    return yield* outbox.enqueue(
      yield* WebhookEvent.make({ type, data, aggregateId: "order-1", ...(id === undefined ? undefined : { id }) })
    )
  })

const sql = (text: string) => Effect.flatMap(SqlClient.SqlClient, (client) => client.unsafe(text))

const at = (time: string) => Date.parse(time)
const hour = 3_600_000

/** Three messages to the shop: one delivered, one exhausted after two attempts, one pending. */
const three = Effect.gen(function*() {
  for (const id of ["msg_a", "msg_b", "msg_c"]) yield* enqueue("OrderCreated", { id }, id)
  yield* sql(`UPDATE webhook_deliveries SET state = 'delivered', attempts = 1, last_status = 200, due_at = 0,
    ended_at = ${at("2026-01-27T12:00:00Z")} WHERE id = 1`)
  yield* sql(
    `UPDATE webhook_deliveries SET state = 'exhausted', reason = 'schedule', attempts = 2, last_class = 'http-status',
    last_status = 503, due_at = 0, ended_at = ${Date.now() - 2 * hour - 5000} WHERE id = 2`
  )
  yield* sql(`INSERT INTO webhook_attempts VALUES
    (2, 1, ${at("2026-01-27T12:00:00Z")}, 31, 'failed', 'timeout', NULL, NULL),
    (2, 2, ${at("2026-01-27T12:00:05Z")}, 12, 'failed', 'http-status', 503, 'try ' || char(27) || '[31mlater')`)
})

it("lists deliveries, newest first, filtered, page by page", async () => {
  const env = await database(three)
  const filters = ["--state", "exhausted", "--endpoint", "shop", "--type"]
  const [all, first, exhausted, others] = await Promise.all([
    run(["deliveries", "list"], { env }),
    run(["deliveries", "list", "--json", "--limit", "2"], { env }),
    run(["deliveries", "list", "--json", ...filters, "OrderCreated"], { env }),
    run(["deliveries", "list", ...filters, "OrderPaid"], { env })
  ])
  expect(all).toMatchObject({ code: 0, err: "" })
  const lines = all.out.trimEnd().split("\n")
  expect(lines.map((line) => line.split(/ {2,}/).filter((_, index) => index !== 4))).toEqual([
    ["ID", "STATE", "ATTEMPTS", "LAST", "ENDPOINT", "TYPE", "MESSAGE"],
    ["dlv_3", "pending", "0", "-", "shop", "OrderCreated", "msg_c"],
    ["dlv_2", "exhausted (schedule)", "2", "503", "shop", "OrderCreated", "msg_b"],
    ["dlv_1", "delivered", "1", "200", "shop", "OrderCreated", "msg_a"]
  ])
  expect(lines[2]).toMatch(/ ended 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ \(2h ago\) /)
  expect(lines[3]).toContain(" ended 2026-01-27T12:00:00Z (")
  expect(new Set(lines.map((line) => /ENDPOINT|shop/.exec(line)?.index)).size).toBe(1)

  expect(first.code).toBe(0)
  const page = json(first.out)
  expect(page.map(({ id }) => id)).toEqual(["dlv_3", "dlv_2", undefined])
  expect(page[2]).toEqual({ next: expect.any(String) })
  expect(first.err).toBe(`there are more; go on with --cursor ${page[2].next}\n`)
  const rest = await run(["deliveries", "list", "--json", "--limit", "2", "--cursor", page[2].next], { env })
  expect(rest).toMatchObject({ code: 0, err: "" })
  expect(json(rest.out)).toEqual([{
    id: "dlv_1",
    messageId: "msg_a",
    endpointId: "shop",
    eventType: "OrderCreated",
    state: "delivered",
    attempts: 1,
    leased: false,
    held: false,
    lastStatus: 200,
    createdAt: expect.stringMatching(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    endedAt: "2026-01-27T12:00:00.000Z"
  }])

  expect(json(exhausted.out).map(({ id, lastClass, reason }) => [id, reason, lastClass]))
    .toEqual([["dlv_2", "schedule", "http-status"]])
  expect(others).toEqual({ code: 0, signal: null, out: "", err: "no deliveries\n" })
})

it("shows a delivery with its attempts, and what a receiver said without its control characters", async () => {
  const env = await database(three)
  const [people, machine] = await Promise.all([
    run(["deliveries", "show", "dlv_2"], { env }),
    run(["deliveries", "show", "dlv_2", "--json"], { env })
  ])
  expect(people).toMatchObject({ code: 0, err: "" })
  expect(people.out).toContain("state     exhausted (schedule)\n")
  expect(people.out).toMatch(
    /\n1 +failed +timeout +31 ms +2026-01-27T12:00:00Z \(.*\)\n2 +failed +503 +12 ms .*try \\u001b\[31mlater\n$/
  )
  expect(people.out).not.toContain("\u001b")
  expect(machine.out).not.toContain("\u001b")
  expect(json(machine.out)).toMatchObject([{
    id: "dlv_2",
    attempts: 2,
    history: [
      { id: "att_2_1", deliveryId: "dlv_2", number: 1, class: "timeout", durationMs: 31 },
      {
        id: "att_2_2",
        number: 2,
        startedAt: "2026-01-27T12:00:05.000Z",
        outcome: "failed",
        status: 503,
        excerpt: "try \u001b[31mlater"
      }
    ]
  }])
})

it("shows a message with its deliveries and the bytes that are sent", async () => {
  const env = await database(enqueue("OrderCreated", { note: "za\u017c\u00f3\u0142\u0107 \u202e" }, "msg_a"))
  const [people, machine] = await Promise.all([
    run(["messages", "show", "msg_a"], { env }),
    run(["messages", "show", "msg_a", "--json"], { env })
  ])
  const [message] = json(machine.out)
  // As the HTTP API shows it.
  expect(Schema.encodeSync(ApiSchemas.Message, { onExcessProperty: "error" })(message)).toEqual(message)
  expect(message).toMatchObject({
    id: "msg_a",
    eventType: "OrderCreated",
    aggregateId: "order-1",
    correlationId: expect.any(String),
    deliveries: [{ id: "dlv_1", endpointId: "shop", state: "pending" }]
  })
  expect(message).not.toHaveProperty("tenant")
  expect(Object.keys(message.bodies)).toEqual(["event"])
  expect(JSON.parse(message.bodies.event)).toMatchObject({ data: { note: "za\u017c\u00f3\u0142\u0107 \u202e" } })
  expect(people).toMatchObject({ code: 0, err: "" })
  expect(people.out).toContain(
    `payload (event, ${Buffer.byteLength(message.bodies.event)} bytes):\n${message.bodies.event}\n`
  )
  expect(people.out).toMatch(/\ndlv_1 +pending +0 +- +due .* +shop +OrderCreated +msg_a\n/)
})

it("replays and cancels", async () => {
  const env = await database(three)
  const [replayed, cancelled] = await Promise.all([
    run(["deliveries", "replay", "dlv_2", "--json"], { env }),
    run(["deliveries", "cancel", "dlv_3"], { env })
  ])
  expect(replayed).toMatchObject({ code: 0, err: "" })
  expect(json(replayed.out)).toMatchObject([{ id: "dlv_2", state: "pending", attempts: 2 }])
  expect(json(replayed.out)[0]).not.toHaveProperty("endedAt")
  expect(cancelled).toMatchObject({ code: 0, err: "" })
  expect(cancelled.out).toMatch(/^dlv_3 {2}discarded \(cancelled\) {2}ended .* \(.*\)\n$/)
})

it("lists endpoints: configured ones and remembered ones, what holds them back, no query string", async () => {
  const now = Date.now()
  const env = await database(Effect.gen(function*() {
    yield* enqueue("OrderCreated", {}, "msg_a")
    yield* enqueue("OrderCreated", {}, "msg_b")
    yield* sql(`INSERT INTO webhook_endpoints (id, consecutive_failures, last_success_at, paused_until, updated_at)
      VALUES ('shop', 3, ${now - 2 * hour - 5000}, ${now + hour + 60_000}, ${now})`)
    yield* sql(`INSERT INTO webhook_endpoints (id, disabled_at, disabled_by, disabled_reason, updated_at)
      VALUES ('stock', ${now}, 'gone', 'answered ' || char(27) || '410', ${now}), ('left', NULL, NULL, NULL, ${now})`)
  }))
  const [people, machine] = await Promise.all([
    run(["endpoints", "list"], { env }),
    run(["endpoints", "list", "--json"], { env })
  ])
  expect(people).toMatchObject({ code: 0, err: "" })
  const lines = people.out.trimEnd().split("\n").map((line) => line.split(/ {2,}/))
  expect(lines[0]).toEqual(["ID", "STATE", "FAILURES", "LAST SUCCESS", "PENDING", "URL"])
  expect(lines.slice(1).toSorted().map(([id, state, failures, , pending, url]) => [id, state, failures, pending, url]))
    .toEqual([
      ["audit", "disabled", "0", "0", "https://audit.example.com/"],
      ["left", "orphaned", "0", "0", "-"],
      ["shop", "paused", "3", "2", "https://hooks.example.com/a"],
      ["stock", "disabled", "0", "0", "https://stock.example.com/in"]
    ])
  expect(people.out).toMatch(/shop .* until 20.*Z \(in 1h\)\n/)
  expect(people.out).toMatch(/stock .* by an answer of 410 20.*Z \((now|\d+s ago)\): answered \\u001b410\n/)
  const byId = new Map(json(machine.out).map((one) => [one.id, one]))
  expect(byId.get("shop")).toMatchObject({
    url: "https://hooks.example.com/a",
    configured: true,
    state: "paused",
    circuit: "Closed",
    pausedUntil: expect.stringMatching(/Z$/),
    consecutiveFailures: 3,
    pending: 2
  })
  expect(byId.get("audit")).toMatchObject({ state: "disabled", enabled: false })
  expect(byId.get("left")).toMatchObject({ state: "orphaned", configured: false })
  expect(byId.get("stock")).toMatchObject({ disabled: { by: "gone", at: expect.any(String) } })
  for (const text of [people.out, machine.out]) expect(text).not.toMatch(/HUSH|whsec|\u001b/)
})

it("disables an endpoint, and enables it", async () => {
  const env = await database(three)
  const disabled = await run(["endpoints", "disable", "shop", "--reason", "they asked \u001b[1m"], { env })
  expect(disabled).toMatchObject({ code: 0, err: "" })
  expect(disabled.out).toMatch(/^shop {2}disabled {2}by an operator 20.*Z \(.*\): they asked {2}\[1m\n$/)
  const enabled = await run(["endpoints", "enable", "shop", "--json"], { env })
  expect(enabled).toMatchObject({ code: 0, err: "" })
  expect(json(enabled.out)).toMatchObject([{ id: "shop", state: "enabled", configured: true }])
  expect(json(enabled.out)[0]).not.toHaveProperty("disabled")
})

it("sends a test event at once", async () => {
  const receiver = await receive((request, response) => {
    response.statusCode = request.url === "/down" ? 503 : 204
    response.end(request.url === "/down" ? "not \u001b[31mnow" : undefined)
  })
  try {
    const env = await database(
      Effect.void,
      { A: [{ id: "up", url: `${receiver.url}/up` }, { id: "down", url: `${receiver.url}/down` }] },
      "127.0.0.1"
    )
    const [up, down] = await Promise.all([
      run(["endpoints", "test", "up", "--json"], { env }),
      run(["endpoints", "test", "down"], { env })
    ])
    expect(up).toMatchObject({ code: 0, err: "" })
    const [report] = json(up.out)
    expect(report).toMatchObject({ endpointId: "up", eventType: "webhook.test", outcome: "delivered", status: 204 })
    expect(report.id).toBe(report.messageId)
    expect(down).toMatchObject({ code: 1, err: "" })
    expect(down.out).toMatch(/^failed +webhook\.test .* 503, 1 attempt, /)
    expect(down.out).not.toContain("\u001b")
    expect(down.out).toContain("\nthe answer: not ")
    expect(receiver.requests).toHaveLength(2)
  } finally {
    receiver.close()
  }
})

it("recovers what failed in a span of time", async () => {
  const env = await database(three)
  const earlier = await run(["endpoints", "recover", "shop", "--since", "30m"], { env })
  expect(earlier).toMatchObject({ code: 0, out: "shop  0 deliveries recovered\n", err: "" })
  const recovered = await run(["endpoints", "recover", "shop", "--since", "2020-01-01T00:00:00Z", "--json"], { env })
  expect(recovered).toMatchObject({ code: 0, err: "" })
  expect(json(recovered.out)).toEqual([{ id: "shop", recovered: 1, since: "2020-01-01T00:00:00.000Z" }])
})

it("counts", async () => {
  const env = await database(Effect.zipRight(
    three,
    sql("UPDATE webhook_deliveries SET endpoint_id = 'left' WHERE id = 3")
  ))
  const [people, machine] = await Promise.all([run(["stats"], { env }), run(["stats", "--json"], { env })])
  expect(people).toMatchObject({ code: 0, err: "" })
  expect(people.out).toMatch(/^pending +1\n/)
  expect(people.out).toMatch(/\ndelivered +1\n/)
  expect(people.out).toMatch(/\norphaned +1\n/)
  expect(people.out).toMatch(/\nleft +1 +0 .* orphaned: not configured here\n/)
  const [stats] = json(machine.out)
  expect(stats).toMatchObject({ states: { pending: 1, delivered: 1, exhausted: 1, discarded: 0 }, orphaned: 1 })
  expect(stats.endpoints).toContainEqual(expect.objectContaining({ id: "left", pending: 1, leased: 0, orphaned: true }))
})

it("purges by the retention, or by what it is told", async () => {
  const env = await database(Effect.zipRight(
    three,
    sql(`UPDATE webhook_deliveries SET ended_at = ${Date.now() - 50 * hour} WHERE id = 1`)
  ))
  const purged = await run(["purge"], { env: { ...env, WEBHOOKS_RETENTION: "2d,30d" } })
  expect(purged).toMatchObject({ code: 0, out: "purged 1 delivery and 1 message\n", err: "" })
  const more = await run(["purge", "--delivered", "45d", "--ended", "1h", "--json"], { env })
  expect(json(more.out)).toEqual([{ messages: 1, deliveries: 1 }])
})

// In this process: what is refused writes nothing.

const operating = Layer.mergeAll(Deliveries.layer, EndpointHealth.layer).pipe(
  Layer.provideMerge(Endpoints.layer),
  Layer.provide(WebhookConfig.layer(document)),
  Layer.provide(Layer.succeed(WebhookSender.WebhookSender, { send: () => Effect.dieMessage("nothing is sent") })),
  Layer.provideMerge(OutboxSchema.layerTest)
)

type Refused = Effect.Effect<
  number,
  CliError.CliError | OutboxSchema.OutboxUnavailable,
  Deliveries.Deliveries | EndpointHealth.EndpointHealth | Endpoints.Endpoints | SqlClient.SqlClient
>

/** Exit code and line of a command that is refused; the rows that `before` makes are there. */
const refusal = (command: Refused, before: Effect.Effect<unknown, unknown, SqlClient.SqlClient> = Effect.void) =>
  Effect.zipRight(Effect.orDie(before), Effect.flip(command)).pipe(
    Effect.map((error) => error._tag === "CliError" ? [error.exitCode, ...error.lines] : [error._tag]),
    Effect.provide(operating)
  )

const delivery = (state: string) =>
  sql(
    `INSERT INTO webhook_deliveries (id, message_id, endpoint_id, event_type, format, state, lane, due_at, created_at, ended_at)
    VALUES (1, 'msg_a', 'shop', 'OrderCreated', 'event', '${state}', 'retry', 0, 0, ${
      state === "pending" ? "NULL" : 0
    })`
  )

const people = { json: false }
const anything = {
  ...people,
  state: undefined,
  endpoint: undefined,
  type: undefined,
  limit: undefined,
  cursor: undefined
}
const since = (text: string, until?: string) => ({ ...people, since: text, until })

it.effect.each<[string, Refused, RegExp]>([
  ["deliveries show", DeliveriesCommands.show(people, "dlv_9"), /dlv_9/],
  ["deliveries replay", DeliveriesCommands.replay(people, "dlv_9"), /dlv_9/],
  ["deliveries cancel", DeliveriesCommands.cancel(people, "dlv_9"), /dlv_9/],
  ["messages show", MessagesCommands.show(people, "msg_9"), /msg_9/],
  ["endpoints test", EndpointsCommands.test(people, "nobody"), /nobody/],
  ["endpoints enable", EndpointsCommands.enable(people, "nobody"), /nobody/],
  ["endpoints disable", EndpointsCommands.disable({ ...people, reason: "x" }, "nobody"), /nobody/],
  ["endpoints recover", EndpointsCommands.recover(since("2h"), "nobody"), /nobody/]
])(
  "%s: what is not found is one line, and exit code 1",
  ([, command, named]) =>
    Effect.map(refusal(command), (lines) => expect(lines).toEqual([1, expect.stringMatching(named)]))
)

it.effect.each<[string, Refused]>([
  ["deliveries show", DeliveriesCommands.show(people, "HUSHHUSH")],
  ["deliveries replay", DeliveriesCommands.replay(people, "dlv_HUSHHUSH")],
  ["deliveries cancel", DeliveriesCommands.cancel(people, "dlv_0")],
  ["deliveries list --state", DeliveriesCommands.list({ ...anything, state: "HUSHHUSH" })],
  ["deliveries list --cursor", DeliveriesCommands.list({ ...anything, cursor: "HUSHHUSH" })],
  ["deliveries list --endpoint", DeliveriesCommands.list({ ...anything, endpoint: "HUSH.HUSH" })],
  ["messages show", MessagesCommands.show(people, "HUSH.HUSH")],
  ["endpoints test", EndpointsCommands.test(people, "HUSH\u001bHUSH")],
  ["endpoints enable", EndpointsCommands.enable(people, "")],
  ["endpoints disable", EndpointsCommands.disable({ ...people, reason: "x" }, "HUSH HUSH")],
  ["endpoints disable --reason", EndpointsCommands.disable({ ...people, reason: "  " }, "shop")],
  ["endpoints recover --since", EndpointsCommands.recover(since("HUSHHUSH"), "shop")],
  ["endpoints recover --until", EndpointsCommands.recover(since("2h", "HUSHHUSH"), "shop")],
  ["endpoints recover, backwards", EndpointsCommands.recover(since("1h", "2h"), "shop")],
  ["endpoints recover, to come", EndpointsCommands.recover(since("2999-01-01T00:00:00Z"), "shop")]
])(
  "%s: what is malformed is one line, not repeated, and exit code 2",
  ([, command]) =>
    Effect.map(refusal(command), (lines) => expect(lines).toEqual([2, expect.not.stringMatching(/HUSH|\n/)]))
)

it.effect("says why a delivery is not cancelled, and not replayed", () =>
  Effect.gen(function*() {
    const disabled = sql(`INSERT INTO webhook_endpoints (id, disabled_at, disabled_by, disabled_reason, updated_at)
      VALUES ('shop', 0, 'operator', 'they ' || char(27) || ' asked', 0)`)
    expect(yield* refusal(DeliveriesCommands.cancel(people, "dlv_1"), delivery("delivered")))
      .toEqual([1, expect.stringContaining("dlv_1")])
    const rows = Effect.zipRight(delivery("exhausted"), disabled)
    const why = [1, expect.stringContaining("endpoint shop is disabled (they \\u001b asked)")]
    expect(yield* refusal(DeliveriesCommands.replay(people, "dlv_1"), rows)).toEqual(why)
    expect(yield* refusal(EndpointsCommands.recover(since("2h"), "shop"), rows)).toEqual(why)
  }))

it.effect("a recovery that was cut off goes on with its own times, which it tells", () =>
  Effect.map(
    refusal(
      EndpointsCommands.recover(since("2h"), "shop"),
      sql(`INSERT INTO webhook_endpoints (id, recover_since, recover_until, recover_after, recovered, updated_at)
        VALUES ('shop', ${at("2026-01-01T00:00:00.500Z")}, ${at("2026-01-02T00:00:00Z")}, '0:0', 0, 0)`)
    ),
    (lines) =>
      expect(lines).toEqual([
        1,
        expect.stringMatching(/: --since 2026-01-01T00:00:00\.500Z --until 2026-01-02T00:00:00\.000Z$/)
      ])
  ))
