/** What a caller is told when the database has fallen silent, has been taken away, or can't keep up. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { copyFileSync, renameSync } from "node:fs"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { vi } from "vitest"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import { OutboxUnavailable } from "../../src/outbox/OutboxError.js"
import { postgres, sqlite } from "../support/backends.js"
import { count, enqueue, event, outbox } from "../support/outboxing.js"
import { freshFile } from "../support/sqlite.js"
import { eventually, rest } from "../support/working.js"

describe("a PostgreSQL that says nothing any more", () => {
  it.live("is unreachable after 15 seconds, its connection is ended, and the next event is stored when it answers again", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyOf((yield* postgres.database).url)
      // As a host may have it: without a limit to the time that a connection takes.
      const client = Layer.orDie(PgClient.layer({ url: Redacted.make(proxy.url), idleTimeout: "1 hour" }))
      yield* Effect.gen(function*() {
        const { stats } = yield* Deliveries.Deliveries
        const advance = yield* virtualTimers
        const stop = (call: Effect.Effect<unknown, unknown, Outbox.Outbox>) =>
          Effect.gen(function*() {
            proxy.silence()
            const calling = yield* Effect.fork(call)
            yield* eventually(Effect.sync(() => proxy.heldBack() > 0))
            yield* advance(14)
            expect(proxy.ended()).toBe(0)
            yield* advance(1)
            yield* eventually(Effect.sync(() => proxy.ended() === 1))
            return calling
          })
        const isUnreachable = (calling: Fiber.RuntimeFiber<unknown, unknown>) =>
          Effect.gen(function*() {
            yield* eventually(Effect.map(Fiber.poll(calling), Option.isSome))
            expect(yield* Effect.flip(Fiber.join(calling))).toMatchObject({
              _tag: "OutboxUnavailable",
              reason: "unreachable"
            })
          })
        yield* enqueue({ id: "before" })
        yield* stats
        // Who is done in time keeps the connection.
        yield* advance(16)
        yield* stats
        expect(proxy.ended()).toBe(0)
        const enqueueing = yield* stop(enqueue({ id: "lost" }))
        // It tries twice more, on new connections that are accepted and say as little.
        for (const connections of [1, 2]) {
          yield* advance(1)
          yield* eventually(Effect.sync(() => proxy.open() === connections))
          expect(yield* Fiber.poll(enqueueing)).toMatchObject({ _tag: "None" })
          yield* advance(15)
        }
        yield* isUnreachable(enqueueing)
        proxy.speak()
        yield* enqueue({ id: "after" })
        yield* isUnreachable(yield* stop(stats))
        proxy.speak()
        expect((yield* stats).states.pending).toBe(4)
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`SELECT id FROM webhook_messages ORDER BY id`).toEqual([{ id: "after" }, { id: "before" }])
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Deliveries.layer, outbox({ layer: client }))))
    }).pipe(Effect.scoped))
})

describe("an SQLite file", () => {
  it.live.each(["removed", "replaced"])(
    "that has been %s under the program takes nothing more, until it is back",
    (how) =>
      Effect.gen(function*() {
        const file = yield* freshFile
        const client = Layer.orDie(SqliteClient.layer({ filename: file }))
        yield* Effect.gen(function*() {
          yield* enqueue({ id: "before" })
          renameSync(file, `${file}.away`)
          if (how === "replaced") copyFileSync(`${file}.away`, file)
          expect(yield* Effect.flip(enqueue({ id: "lost" }))).toMatchObject({
            _tag: "OutboxUnavailable",
            reason: "unreachable",
            code: "SQLITE_READONLY_DBMOVED"
          })
          expect(yield* count("webhook_messages")).toBe(1)
          renameSync(`${file}.away`, file)
          expect(yield* enqueue({ id: "lost" })).toMatchObject({ duplicate: false })
          expect(yield* count("webhook_messages")).toBe(2)
        }).pipe(Effect.provide(outbox({ layer: client })))
      }).pipe(Effect.scoped)
  )
})

describe("more than can be stored", () => {
  it.effect("is refused at once beyond 10 000 events that wait, and those are stored", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox.Outbox
      const one = yield* event()
      const gate = yield* Effect.acquireRelease(Deferred.make<void>(), (gate) => Deferred.succeed(gate, undefined))
      // SQLite has one connection, and a transaction of the host's has it.
      const holding = yield* Effect.fork(sql.withTransaction(Deferred.await(gate)))
      yield* rest
      const first = yield* Effect.fork(outbox.enqueue(one))
      yield* rest
      const waiting = yield* Effect.forEach(Array.from({ length: 10_000 }), () => Effect.fork(outbox.enqueue(one)))
      yield* rest
      const refused = yield* Effect.forEach(Array.from({ length: 3 }), () => Effect.fork(outbox.enqueue(one)))
      yield* rest
      for (const fiber of refused) {
        // No word of another process, which there isn't.
        expect(yield* Fiber.poll(fiber)).toEqual(
          Option.some(Exit.fail(new OutboxUnavailable({ reason: "queue-full" })))
        )
      }
      expect(yield* Fiber.poll(first)).toMatchObject({ _tag: "None" })
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(holding)
      yield* Effect.forEach([first, ...waiting], Fiber.join, { discard: true })
      expect(yield* count("webhook_messages")).toBe(10_001)
      expect(yield* outbox.enqueue(one)).toMatchObject({ duplicate: false })
    }).pipe(Effect.scoped, Effect.provide(outbox(sqlite, {}))))
})

/** Timers and the monotonic clock: they go by themselves as time does, and further when they are told to. */
const virtualTimers = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const timers = vi.useFakeTimers({
        toFake: ["setTimeout", "clearTimeout"],
        shouldAdvanceTime: true,
        advanceTimeDelta: 5
      })
      const nanoseconds = process.hrtime.bigint
      let ahead = 0n
      const clock = vi.spyOn(process.hrtime, "bigint").mockImplementation(() => nanoseconds() + ahead)
      return {
        advance: (seconds: number) => {
          ahead += BigInt(seconds) * 1_000_000_000n
          timers.advanceTimersByTime(1000 * seconds)
        },
        stop: () => {
          clock.mockRestore()
          timers.useRealTimers()
        }
      }
    }),
    ({ stop }) => Effect.sync(stop)
  ),
  ({ advance }) => (seconds: number) => Effect.zipRight(Effect.sync(() => advance(seconds)), rest)
)

/** Between a client and PostgreSQL; while it is silent it keeps what either says, and accepts connections. */
const proxyOf = (databaseUrl: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => {
        const target = new URL(databaseUrl)
        const sockets = new Set<Socket>()
        let silent = false
        let ended = 0
        let held: Array<() => void> = []
        const server = createServer((client) => {
          const database = connect(Number(target.port), target.hostname)
          sockets.add(client)
          client.on("close", () => {
            sockets.delete(client)
            ended++
            database.destroy()
          })
          database.on("close", () => client.destroy())
          for (const [from, to] of [[client, database], [database, client]] as const) {
            from.on("error", () => {})
            from.on("data", (chunk) => {
              const pass = () => to.destroyed || to.write(chunk)
              if (silent) held.push(pass)
              else pass()
            })
          }
        })
        return new Promise<{ readonly close: () => void; readonly proxy: Proxy }>((resolve) =>
          server.listen(0, "127.0.0.1", () => {
            const url = new URL(databaseUrl)
            url.port = String((server.address() as AddressInfo).port)
            resolve({
              close: () => {
                server.close()
                for (const socket of sockets) socket.destroy()
              },
              proxy: {
                url: url.href,
                silence: () => {
                  silent = true
                  ended = 0
                },
                speak: () => {
                  silent = false
                  for (const pass of held) pass()
                  held = []
                },
                heldBack: () => held.length,
                open: () => sockets.size,
                ended: () => ended
              }
            })
          })
        )
      }),
      ({ close }) => Effect.sync(close)
    ),
    ({ proxy }) => proxy
  )

interface Proxy {
  readonly url: string
  readonly silence: () => void
  readonly speak: () => void
  /** Chunks that wait. */
  readonly heldBack: () => number
  /** Connections of the client, and those that it has ended, in this silence if there has been one. */
  readonly open: () => number
  readonly ended: () => number
}
