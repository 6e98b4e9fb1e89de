/**
 * The references of the outbox's benchmarks: the same tables with nothing around them. Events are inserted many rows a statement (on PostgreSQL by prepared ones
 * over arrays), 200 are claimed at a time, sent 64 at a time by undici's own `dispatch` with one HMAC, and settled together.
 */
import { createHmac, randomUUID } from "node:crypto"
import { createRequire } from "node:module"
import pg from "pg"
import { Agent } from "undici"

/** An event that is encoded. */
export interface Encoded {
  readonly id: string
  readonly endpointId: string
  readonly body: Buffer
}

/** A delivery that is to be sent, or was. */
export interface Sent {
  readonly id: number | string
  readonly message: string
  readonly body: Buffer
}

export interface Bare {
  /** Stores events, each with one delivery, in one transaction, and gives the deliveries' ids; `order` is what the host stores with them. */
  readonly insert: (events: ReadonlyArray<Encoded>, order?: string) => Promise<ReadonlyArray<number | string>>
  /** Up to `count` that are due, for a minute. */
  readonly claim: (count: number) => Promise<ReadonlyArray<Sent>>
  /** Writes down that they were delivered: their states and attempts, in one transaction. */
  readonly settle: (batch: ReadonlyArray<Sent>) => Promise<void>
  readonly close: () => Promise<void>
}

export const openBare = (url: string): Bare =>
  url.startsWith("file:") ? openSqlite(url.slice("file:".length)) : openPostgres(url)

/** An event as the host has it, encoded: what the library does in `enqueue`. */
export const encode = (endpointId: string, data: unknown, id = `msg_${randomUUID()}`): Encoded => ({
  id,
  endpointId,
  body: Buffer.from(
    JSON.stringify({ event_type: "Bench", data, aggregate_id: null, occurred_at: new Date().toISOString() })
  )
})

/** Posts a message with one signature, and waits for the end of the answer. */
export const sending = (url: string): (message: { readonly id: string; readonly body: Buffer }) => Promise<void> => {
  const { origin, pathname: path } = new URL(url)
  const agent = new Agent()
  return ({ body, id }) =>
    new Promise((resolve, reject) => {
      const timestamp = String(Math.floor(Date.now() / 1000))
      const signature = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest("base64")
      let status = 0
      agent.dispatch({
        origin,
        path,
        method: "POST",
        body,
        headers: {
          "content-type": "application/json",
          "webhook-id": id,
          "webhook-timestamp": timestamp,
          "webhook-signature": `v1,${signature}`
        }
      }, {
        onConnect() {},
        onHeaders(code) {
          status = code
          return true
        },
        onData: () => true,
        onComplete() {
          if (status >= 200 && status < 300) resolve()
          else reject(new Error(`status ${status}`))
        },
        onError: reject
      })
    })
}

/** `count` times, `width` at a time. */
export const times = async (count: number, width: number, one: (n: number) => Promise<unknown>): Promise<void> => {
  let next = 0
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < count) await one(next++)
  }))
}

/**
 * Milliseconds between claims that give nothing. Both sides are there while one of them is measured: asked every 5 ms, the idle one took an eighth of what the other had, and more
 * with four workers. What is measured begins with the first request, so the wait costs nothing.
 */
const idle = 250

/** Claims, sends and settles for ever. */
export const work = async (bare: Bare, url: string): Promise<never> => {
  const send = sending(url)
  for (;;) {
    const claimed = await bare.claim(200)
    if (claimed.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, idle))
      continue
    }
    await times(claimed.length, 64, (n) => send({ id: claimed[n]!.message, body: claimed[n]!.body }))
    await bare.settle(claimed)
  }
}

// --- internal

const secret = "bench-secret-of-more-than-sixteen-bytes"
const lease = 60_000
const fence = randomUUID()

const messageColumns =
  "(id, digest, event_type, occurred_at, correlation_id, deliveries, created_at, body_event)" as const
const deliveryColumns = "(message_id, endpoint_id, event_type, format, state, lane, due_at, created_at)" as const

/** What of better-sqlite3 is used here; it has no types of its own. */
interface Sqlite {
  readonly prepare: (text: string) => {
    readonly run: (...parameters: ReadonlyArray<unknown>) => unknown
    readonly all: (...parameters: ReadonlyArray<unknown>) => Array<unknown>
  }
  readonly pragma: (text: string) => unknown
  readonly close: () => void
}

const openSqlite = (file: string): Bare => {
  const require = createRequire(import.meta.url)
  const Database = require("better-sqlite3") as new(file: string) => Sqlite
  const db = new Database(file)
  db.pragma("journal_mode = WAL")
  db.pragma("synchronous = FULL")
  const statements = new Map<string, ReturnType<Sqlite["prepare"]>>()
  const prepared = (text: string) => {
    const known = statements.get(text)
    if (known !== undefined) return known
    const made = db.prepare(text)
    statements.set(text, made)
    return made
  }
  const together = <A>(work: () => A): Promise<A> => {
    prepared("BEGIN IMMEDIATE").run()
    const made = work()
    prepared("COMMIT").run()
    return Promise.resolve(made)
  }
  const list = (count: number, row: string) => Array.from({ length: count }, () => row).join(", ")
  return {
    insert: (events, order) =>
      together(() => {
        const now = Date.now()
        const occurredAt = new Date(now).toISOString()
        if (order !== undefined) prepared("INSERT INTO orders (id) VALUES (?)").run(order)
        prepared(
          `INSERT INTO webhook_messages ${messageColumns} VALUES ${
            list(events.length, "(?, '', 'Bench', ?, 'bench', 1, ?, ?)")
          }`
        ).run(...events.flatMap(({ body, id }) => [id, occurredAt, now, body]))
        const stored = prepared(
          `INSERT INTO webhook_deliveries ${deliveryColumns} VALUES ${
            list(events.length, "(?, ?, 'Bench', 'event', 'pending', 'first', 0, ?)")
          } RETURNING id`
        ).all(...events.flatMap(({ endpointId, id }) => [id, endpointId, now]))
        return (stored as Array<{ readonly id: number }>).map(({ id }) => id)
      }),
    claim: (count) => {
      const now = Date.now()
      const claimed = prepared(
        `UPDATE webhook_deliveries SET lane = 'leased', due_at = ?, fence = ? WHERE id IN (
           SELECT id FROM webhook_deliveries
           WHERE state = 'pending' AND held = 0 AND lane = 'first' AND due_at <= ? LIMIT ?
         ) RETURNING id, message_id AS message,
           (SELECT body_event FROM webhook_messages m WHERE m.id = webhook_deliveries.message_id) AS body`
      ).all(now + lease, fence, now, count)
      return Promise.resolve(claimed as Array<Sent>)
    },
    settle: (batch) =>
      together(() => {
        const now = Date.now()
        const update = prepared(
          `UPDATE webhook_deliveries SET state = 'delivered', lane = 'retry', fence = NULL, attempts = attempts + 1,
             last_status = 204, ended_at = ? WHERE id = ? AND (fence = ? OR fence IS NULL)`
        )
        const insert = prepared(
          "INSERT INTO webhook_attempts (delivery_id, number, started_at, duration, outcome, status) VALUES (?, 1, ?, 1, 'delivered', 204)"
        )
        for (const { id } of batch) {
          update.run(now, id, fence)
          insert.run(id, now)
        }
      }),
    close: () => Promise.resolve(db.close())
  }
}

const openPostgres = (url: string): Bare => {
  const pool = new pg.Pool({ connectionString: url, max: 10 })
  const together = async <A>(work: (client: pg.PoolClient) => Promise<A>): Promise<A> => {
    const client = await pool.connect()
    await client.query("BEGIN")
    const made = await work(client)
    await client.query("COMMIT")
    client.release()
    return made
  }
  return {
    insert: (events, order) =>
      together(async (client) => {
        const now = Date.now()
        const occurredAt = new Date(now).toISOString()
        if (order !== undefined) await client.query("INSERT INTO orders (id) VALUES ($1)", [order])
        const ids = events.map(({ id }) => id)
        await client.query({
          name: "messages",
          text: `INSERT INTO webhook_messages ${messageColumns}
            SELECT id, '', 'Bench', $3, 'bench', 1, $4, body FROM unnest($1::text[], $2::bytea[]) AS v(id, body)`,
          values: [ids, events.map(({ body }) => body), occurredAt, now]
        })
        const { rows } = await client.query<{ readonly id: string }>({
          name: "deliveries",
          text: `INSERT INTO webhook_deliveries ${deliveryColumns}
            SELECT id, endpoint_id, 'Bench', 'event', 'pending', 'first', 0, $3
            FROM unnest($1::text[], $2::text[]) AS v(id, endpoint_id) RETURNING id`,
          values: [ids, events.map(({ endpointId }) => endpointId), now]
        })
        return rows.map(({ id }) => id)
      }),
    claim: async (count) => {
      const now = Date.now()
      const { rows } = await pool.query<Sent>(
        `UPDATE webhook_deliveries d SET lane = 'leased', due_at = $1, fence = $2 FROM webhook_messages m
         WHERE m.id = d.message_id AND d.id = ANY (ARRAY(
           SELECT id FROM webhook_deliveries
           WHERE state = 'pending' AND held = 0 AND lane = 'first' AND due_at <= $3
           LIMIT $4 FOR UPDATE SKIP LOCKED
         )) RETURNING d.id, m.id AS message, m.body_event AS body`,
        [now + lease, fence, now, count]
      )
      return rows
    },
    settle: (batch) =>
      together(async (client) => {
        const now = Date.now()
        const ids = batch.map(({ id }) => id)
        await client.query(
          `UPDATE webhook_deliveries SET state = 'delivered', lane = 'retry', fence = NULL, attempts = attempts + 1,
             last_status = 204, ended_at = $1 WHERE id = ANY ($2::bigint[]) AND (fence = $3 OR fence IS NULL)`,
          [now, ids, fence]
        )
        await client.query(
          `INSERT INTO webhook_attempts (delivery_id, number, started_at, duration, outcome, status)
           SELECT id, 1, $1, 1, 'delivered', 204 FROM unnest($2::bigint[]) AS id`,
          [now, ids]
        )
      }),
    close: () => pool.end()
  }
}
