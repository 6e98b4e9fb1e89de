/** Ways to store events, by the hand of `bare.ts` and through the library. */
import * as SqlClient from "@effect/sql/SqlClient"
import { Outbox, WebhookEvent } from "effect-webhooks"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { type Bare, encode, openBare, times } from "../bare.js"
import type { Contender, Contenders } from "../contending.js"
import { type DurableSetup, outbox } from "../durable.js"

export interface Setup extends DurableSetup {
  readonly data: unknown
}

const batch = 100
/** Events that are handed in one by one at a time, and transactions of the host that are open at a time. */
const fibers = 32
const transactions = 8

const bare = (run: (bare: Bare, setup: Setup, count: number) => Promise<unknown>) => (setup: Setup): Contender => {
  const database = openBare(setup.database)
  return { run: (count) => run(database, setup, count), close: database.close }
}

const library = (
  run: (
    outbox: Outbox.Outbox["Type"],
    sql: SqlClient.SqlClient,
    event: Effect.Effect<WebhookEvent.WebhookEvent, WebhookEvent.InvalidEvent>,
    count: number
  ) => Effect.Effect<unknown, unknown>
) =>
(setup: Setup): Contender => {
  const runtime = outbox(setup)
  const event = WebhookEvent.make({ type: "e0", data: setup.data })
  return {
    run: (count) =>
      runtime.runPromise(Effect.flatMap(
        Effect.all([Outbox.Outbox, SqlClient.SqlClient]),
        ([outbox, sql]) => run(outbox, sql, event, count)
      )),
    close: () => runtime.dispose()
  }
}

const each = (count: number, concurrency: number, one: Effect.Effect<unknown, unknown>) =>
  Effect.forEach(Array.from({ length: count }), () => one, { concurrency, discard: true })

export const contenders: Contenders<Setup> = {
  "bare/one-by-one": bare((database, { data }, count) =>
    times(count, fibers, () => database.insert([encode("e0", data)]))
  ),
  "bare/batches": bare((database, { data }, count) =>
    times(count / batch, 1, () => database.insert(Array.from({ length: batch }, () => encode("e0", data))))
  ),
  "bare/in-transaction": bare((database, { data }, count) =>
    times(count, transactions, () => database.insert([encode("e0", data)], randomUUID()))
  ),
  "effect-webhooks/one-by-one": library((outbox, _, event, count) =>
    each(count, fibers, Effect.flatMap(event, (event) => outbox.enqueue(event)))
  ),
  "effect-webhooks/batches": library((outbox, _, event, count) =>
    each(count / batch, 1, Effect.flatMap(Effect.all(Array.from({ length: batch }, () => event)), outbox.enqueueAll))
  ),
  "effect-webhooks/in-transaction": library((outbox, sql, event, count) =>
    each(
      count,
      transactions,
      Effect.suspend(() =>
        sql.withTransaction(Effect.zipRight(
          sql`INSERT INTO orders (id) VALUES (${randomUUID()})`,
          Effect.flatMap(event, (event) => outbox.enqueue(event))
        ))
      )
    )
  )
}
