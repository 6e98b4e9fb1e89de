import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Outbox from "../../src/outbox/Outbox.js"
import { backends } from "../support/backends.js"
import { count, enqueue, event, outbox } from "../support/outboxing.js"

describe.each(backends)("calls that overlap in one transaction on $name", (backend) => {
  it.effect("one that fails takes nothing of the other with it", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { enqueueAll } = yield* Outbox.Outbox
      yield* enqueue({ id: "known", data: 1 })
      const good = yield* Effect.forEach(["g1", "g2", "g3"], (id) => event({ id }))
      const bad = [yield* event({ id: "new" }), yield* event({ id: "known", data: 2 })]
      const [refused, stored] = yield* sql.withTransaction(
        Effect.all([Effect.either(enqueueAll(bad)), Effect.either(enqueueAll(good))], { concurrency: "unbounded" })
      )
      expect([refused._tag, stored._tag]).toEqual(["Left", "Right"])
      expect(yield* count("webhook_messages")).toBe(4)
    }).pipe(Effect.provide(outbox(backend))))
})
