/** The worker and its database: one worker an SQLite, a backlog, failures, and how little it asks when there is nothing to do. */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { hostname } from "node:os"
import { vi } from "vitest"
import * as DeliveryWorker from "../../src/outbox/DeliveryWorker.js"
import { backends, sqlite } from "../support/backends.js"
import { enqueue } from "../support/outboxing.js"
import { logs, quiet, spans } from "../support/recording.js"
import {
  calls,
  eventually,
  fleet,
  leave,
  pass,
  prepared,
  receiver,
  start,
  states,
  times,
  wake,
  working
} from "../support/working.js"

const second = 1000

describe("on SQLite", () => {
  it.effect("a second worker doesn't start while one runs, and does when it has stopped", () =>
    Effect.gen(function*() {
      const database = yield* sqlite.database
      const error = yield* Effect.gen(function*() {
        yield* fleet(1, database, {})
        return yield* Effect.flip(fleet(1, database, {}))
      }).pipe(Effect.scoped)
      expect(error).toMatchObject({ _tag: "WorkerAlreadyRunning", pid: process.pid, host: hostname() })
      expect(error.message).toContain("PostgreSQL")
      yield* Effect.scoped(fleet(1, database, {}))
    }).pipe(Effect.scoped, Effect.provide(receiver({})), quiet))

  const put = (holder: object) =>
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) =>
        sql`INSERT INTO webhook_meta (key, value) VALUES ('worker', ${JSON.stringify(holder)})
          ON CONFLICT (key) DO UPDATE SET value = excluded.value`
    )

  /** A lock as a worker of this process writes it, for a minute, but for what is given. */
  const locked = (holder: object) =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const scope = yield* Scope.make()
      yield* Scope.extend(start(), scope)
      const [row] = yield* sql<{ readonly value: string }>`SELECT value FROM webhook_meta WHERE key = 'worker'`
      yield* Scope.close(scope, Exit.void)
      const own = JSON.parse(row!.value) as object
      yield* put({ ...own, token: "x", until: (yield* Clock.currentTimeMillis) + 60_000, ...holder })
    })

  const starts = Effect.map(Effect.either(Effect.scoped(start())), Either.isRight)

  const child = Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, ["-e", "process.stdin.resume()"])),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

  it.effect("the lock of a process that is dead, or of this one in an earlier life, is taken over at once", () =>
    Effect.gen(function*() {
      for (const holder of [{ pid: 2 ** 22 + 1 }, {}, { started: "1" }]) {
        yield* locked(holder)
        expect(yield* starts).toBe(true)
      }
    }).pipe(Effect.provide(prepared()), quiet))

  it.effect("that of a process that lives is respected as long as it is renewed, or until it is dead", () =>
    Effect.gen(function*() {
      const other = yield* child
      const living = { pid: other.pid, started: undefined }
      yield* locked(living)
      yield* pass("59 seconds")
      expect(yield* Effect.flip(Effect.scoped(start()))).toMatchObject({
        _tag: "WorkerAlreadyRunning",
        pid: other.pid,
        host: hostname(),
        endsIn: 1000
      })
      yield* pass("1 second")
      expect(yield* starts).toBe(true)
      yield* locked(living)
      expect(yield* starts).toBe(false)
      other.kill("SIGKILL")
      yield* Effect.promise(() => once(other, "exit"))
      expect(yield* starts).toBe(true)
    }).pipe(Effect.scoped, Effect.provide(prepared()), quiet))

  it.effect.skipIf(process.platform !== "linux")(
    "that of a process whose id is another's by now is taken over at once",
    () =>
      Effect.gen(function*() {
        const other = yield* child
        yield* locked({ pid: other.pid, started: "1" })
        expect(yield* starts).toBe(true)
      }).pipe(Effect.scoped, Effect.provide(prepared()), quiet)
  )

  it.effect("that of another user's process, which may not be asked, is respected, too", () =>
    Effect.gen(function*() {
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          vi.spyOn(process, "kill").mockImplementation(() => {
            throw Object.assign(new Error(), { code: "EPERM" })
          })
        ),
        (kill) => Effect.sync(() => kill.mockRestore())
      )
      yield* locked({ pid: 2 ** 22 + 1 })
      expect(yield* starts).toBe(false)
    }).pipe(Effect.scoped, Effect.provide(prepared()), quiet))

  it.effect.each<[string, { readonly host?: string; readonly pid?: number; readonly place: string | undefined }]>([
    ["of another machine", { host: "elsewhere", place: "elsewhere" }],
    // The same name, and process ids that mean others.
    ["of another container", { pid: 2 ** 22 + 1, place: "boot pid:[1]" }],
    ["of another container, of the same id", { place: "boot pid:[1]" }],
    ["of a process that doesn't know where it is", { pid: 2 ** 22 + 1, place: undefined }]
  ])("that %s only when its time is over", ([, holder]) =>
    Effect.gen(function*() {
      yield* locked(holder)
      yield* pass("59 seconds")
      expect(yield* Effect.flip(Effect.scoped(start()))).toMatchObject({
        _tag: "WorkerAlreadyRunning",
        host: holder.host ?? hostname()
      })
      yield* pass("1 second")
      expect(yield* starts).toBe(true)
    }).pipe(Effect.provide(prepared()), quiet))

  it.effect("a worker that has lost the lock claims nothing", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* pass("2 minutes")
      yield* sql`DELETE FROM webhook_meta WHERE key = 'worker'`
      yield* put({ token: "x", pid: 1, host: "elsewhere", until: 600_000 })
      // It looks whether the lock is its own at a third of its time: here every minute.
      yield* pass("1 minute")
      yield* enqueue()
      yield* pass("6 minutes")
      expect(yield* calls()).toHaveLength(0)
      yield* pass("2 minutes")
      expect(yield* calls()).toHaveLength(1)
    }).pipe(Effect.provide(working({ worker: { poll: "1 minute" } })), quiet))

  it.live("somebody else's write lock blocks nothing but the writing", () =>
    Effect.gen(function*() {
      const database = yield* sqlite.database
      const [one] = yield* fleet(1, database, { worker: { poll: "10 millis" } })
      const other = Context.get(
        yield* Layer.build(SqliteClient.layer({ filename: database.url.slice("file:".length) })),
        SqlClient.SqlClient
      )
      yield* other`BEGIN IMMEDIATE`
      const enqueueing = yield* Effect.fork(Effect.provide(enqueue(), one!))
      // The event loop goes round meanwhile: a driver that waits for the lock would hold it for five seconds.
      let longest = 0
      for (let turn = 0; turn < 20; turn++) {
        const from = performance.now()
        yield* Effect.sleep(5)
        longest = Math.max(longest, performance.now() - from)
      }
      expect(longest).toBeLessThan(2500)
      expect(yield* Fiber.poll(enqueueing)).toMatchObject({ _tag: "None" })
      yield* other`COMMIT`
      yield* Fiber.join(enqueueing)
      yield* eventually(Effect.map(Effect.provide(states, one!), ([state]) => state === "delivered"))
      expect(yield* calls()).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(receiver({})), quiet))
})

describe.each(backends)("a backlog on $name", (backend) => {
  it.effect("of 10 000 retries that hang: a fresh event to another endpoint goes with the next claim", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 10 }, (_, n) => `hangs-${n}`)
      const [one] = yield* fleet(1, yield* backend.database, {
        endpoints: {
          ...Object.fromEntries(ids.map((id) => [id, { events: ["t"] }])),
          healthy: { events: ["order.created"] }
        }
      })
      const program = Effect.gen(function*() {
        yield* leave(Array.from({ length: 10_000 }, (_, n) => ({ endpoint: ids[n % 10]! })))
        yield* wake
        yield* eventually(Effect.map(calls(), ({ length }) => length >= 48))
        // Fair, and never all the slots.
        const shares = yield* Effect.forEach(ids, (id) => Effect.map(calls(id), ({ length }) => length))
        expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1)
        expect(yield* calls()).toHaveLength(48)
        for (let n = 0; n < 10; n++) yield* enqueue()
        yield* eventually(Effect.map(calls("healthy"), ({ length }) => length === 10))
        // Nothing has ended in between: no time has passed.
        expect((yield* times("healthy")).every((at) => at === 0)).toBe(true)
        expect(yield* calls()).toHaveLength(58)
      })
      yield* Effect.provide(program, one!)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        receiver(Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`hangs-${n}`, ["timeout" as const]])))
      ),
      quiet
    ))
})

describe("a database that fails", () => {
  it.effect("is asked again with longer and longer waits, one line is logged, and then the work goes on", () => {
    const { layer, lines } = logs()
    const { layer: tracing, recorded } = spans()
    const looks = () => recorded.filter(({ name }) => name === "sql.execute").length
    return Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const worker = yield* DeliveryWorker.DeliveryWorker
      yield* enqueue()
      yield* pass(0)
      expect(yield* worker.ready).toBe(true)
      yield* sql`ALTER TABLE webhook_deliveries RENAME TO elsewhere`
      yield* wake
      const before = looks()
      yield* pass("1 minute")
      expect(yield* worker.ready).toBe(false)
      // 100 ms, doubling to 5 s: 17 looks; a recovery each 10 days.
      expect(looks() - before).toBeGreaterThan(10)
      expect(looks() - before).toBeLessThan(25)
      yield* sql`ALTER TABLE elsewhere RENAME TO webhook_deliveries`
      yield* enqueue()
      yield* pass("5 seconds")
      expect(yield* worker.ready).toBe(true)
      expect(yield* states).toEqual(["delivered", "delivered"])
      expect(lines.map(({ message }) => message).filter((message) => String(message).startsWith("webhook_worker")))
        .toEqual(["webhook_worker_waiting", "webhook_worker_resumed"])
      expect(JSON.stringify(lines)).not.toContain("no such table")
    }).pipe(Effect.provide(Layer.provideMerge(working(), tracing)), Effect.provide(layer))
  })

  it.effect("when an attempt ends: what it came to is written when it works again, and nothing is sent twice", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      // One that works, since the client keeps for ten minutes what it could not prepare.
      yield* enqueue()
      yield* pass("6 seconds")
      yield* enqueue()
      yield* pass("1 second")
      yield* sql`ALTER TABLE webhook_attempts RENAME TO elsewhere`
      yield* pass("10 seconds")
      expect(yield* states).toEqual(["delivered", "pending"])
      yield* sql`ALTER TABLE elsewhere RENAME TO webhook_attempts`
      yield* pass("3 seconds")
      expect(yield* states).toEqual(["delivered", "delivered"])
      expect(yield* times("a")).toEqual([0, 6 * second])
    }).pipe(Effect.provide(working({ steps: { a: [{ status: 200, delay: "5 seconds" }] } })), quiet))
})

it.effect("a result that the database refuses for good doesn't keep others from being written, and is tried again later", () =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.replicateEffect(enqueue(), 3)
    yield* pass("1 second")
    yield* sql.unsafe(
      `CREATE TRIGGER refuses BEFORE UPDATE OF state ON webhook_deliveries WHEN new.id = 2 AND new.state = 'delivered'
      BEGIN SELECT RAISE(ABORT, 'planted'); END`
    )
    yield* pass("10 seconds")
    expect(yield* states).toEqual(["delivered", "pending", "delivered"])
    yield* sql.unsafe("DROP TRIGGER refuses")
    yield* pass("2 minutes")
    expect(yield* states).toEqual(["delivered", "delivered", "delivered"])
    expect(yield* calls()).toHaveLength(4)
  }).pipe(Effect.provide(working({ steps: { a: [{ status: 200, delay: "5 seconds" }] } })), quiet))

describe("with nothing to do", () => {
  it.effect.each(["nothing pending", "retries that wait"])("a few statements a second at most: %s", (backlog) => {
    const { layer, recorded } = spans()
    return Effect.gen(function*() {
      if (backlog !== "nothing pending") yield* leave(Array.from({ length: 100 }, () => ({ dueAt: 3600 * second })))
      yield* wake
      yield* pass("2 seconds")
      const from = recorded.length
      yield* pass("20 seconds")
      const statements = recorded.slice(from).filter(({ name }) => name === "sql.execute").length
      expect(statements).toBeGreaterThan(20)
      expect(statements / 20).toBeLessThanOrEqual(4)
    }).pipe(Effect.provide(Layer.provideMerge(working({ worker: { poll: "1 second" } }), layer)), quiet)
  })
})
