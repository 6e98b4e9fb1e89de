/** A delivered delivery that is replayed gets one attempt more and stays delivered, whatever comes between. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import { enqueue } from "../support/outboxing.js"
import { quiet } from "../support/recording.js"
import { calls, pass, play, prepared, row, start, states, times, wake, working } from "../support/working.js"

const second = 1000
const slow = { status: 500, delay: "5 seconds" } as const

const replay = (id: string) => Effect.flatMap(Deliveries.Deliveries, ({ replay }) => replay(id))

/** Delivers one and replays it; its worker is dead while the attempt is under way, after so many lapses before. */
const crashed = (lapses: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* enqueue()
    yield* pass("1 second")
    yield* replay("dlv_1")
    yield* pass("1 second")
    yield* sql`UPDATE webhook_deliveries SET fence = 'dead', due_at = 3000, lapses = ${lapses} WHERE lane = 'leased'`
    yield* wake
    yield* pass("30 days")
  })

it.effect("the worker dies of it or beside it: the attempt that makes up for that is the last", () =>
  Effect.gen(function*() {
    yield* crashed(0)
    expect(yield* states).toEqual(["delivered"])
    expect(yield* times("a")).toEqual([0, 1 * second, 6 * second])
  }).pipe(Effect.provide(working({ steps: { a: [200, slow, 500] } })), quiet))

it.effect("the worker dies of it five times over: it has been delivered all the same", () =>
  Effect.gen(function*() {
    yield* crashed(4)
    expect(yield* states).toEqual(["delivered"])
    expect(yield* calls("a")).toHaveLength(2)
    expect(yield* row(1)).toMatchObject({ lapses: 0, fence: null })
  }).pipe(Effect.provide(working({ steps: { a: [200, slow] } })), quiet))

it.effect("the worker stops and hands it back: the next one's attempt is the last", () =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Scope.extend(start({ grace: 0 }), scope)
    yield* enqueue()
    yield* pass(0)
    yield* replay("dlv_1")
    yield* pass("1 second")
    yield* Effect.fork(Scope.close(scope, Exit.void))
    yield* pass("1 second")
    expect(yield* states).toEqual(["pending"])
    const next = yield* Scope.make()
    yield* Scope.extend(start(), next)
    yield* pass("30 days")
    expect(yield* states).toEqual(["delivered"])
    expect(yield* calls("a")).toHaveLength(3)
    yield* Scope.close(next, Exit.void)
  }).pipe(Effect.provide(prepared({ steps: { a: [200, slow, 500] } })), quiet))

it.effect("the endpoint wants nothing more: those that were never delivered are discarded, and it is not", () =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.replicateEffect(enqueue(), 2)
    yield* pass("1 second")
    yield* play({ a: [{ status: 410, delay: "5 seconds" }] })
    // The first takes the only slot, and brings the answer; the others wait for it.
    yield* replay("dlv_1")
    yield* pass("1 second")
    yield* replay("dlv_2")
    yield* enqueue()
    yield* pass("1 minute")
    expect(yield* calls("a")).toHaveLength(3)
    expect(yield* states).toEqual(["delivered", "delivered", "discarded:disabled"])
    expect(yield* sql`SELECT DISTINCT once FROM webhook_deliveries`).toEqual([{ once: 0 }])
  }).pipe(Effect.provide(working({ endpoints: { a: { maxConcurrency: 1 } } })), quiet))
