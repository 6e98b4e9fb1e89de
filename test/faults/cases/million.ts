/** A million pending deliveries: a claim touches what it takes, as with a thousand, and the worker's memory doesn't know the difference. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { startPostgres } from "../../support/postgres.js"
import { type Database, postgres, sqlite } from "../databases.js"
import { stop } from "../processes.js"
import { type Case, expect, parse, type Trial } from "../trial.js"
import { until } from "../waiting.js"

const few = 1000
const many = 1_000_000
const endpoints = Array.from({ length: 20 }, (_, index) => `e${index}`)
/** Deliveries that the worker makes of the million. */
const sample = 10_000

export const cases: ReadonlyArray<Case> = [{
  name: "a million pending",
  on: ["postgres"],
  run: async (trial) => {
    const server = await startPostgres({ fsync: false })
    trial.onEnd(server.stop)
    const admin = await postgres(server)
    // The server counts rows and buffers of every statement as it carries it out, which is what EXPLAIN (ANALYZE, BUFFERS) would show of one.
    await admin.query("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
    await server.restart()
    await admin.query("CREATE EXTENSION pg_stat_statements")

    const measured: Array<Measured> = []
    for (const count of [few, many]) {
      const database = await postgres(server)
      const name = new URL(database.url).pathname.slice(1)
      const run = await deliver(trial, database, count, {
        before: async () => {
          await admin.query("SELECT pg_stat_statements_reset()")
        }
      })
      const statements = await counted(admin, name)
      measured.push({ ...run, statements })
    }
    const [small, large] = measured as [Measured, Measured]
    const claims = measured.map(({ statements }) => {
      const claim = statements.find(({ text }) =>
        text.includes("UPDATE webhook_deliveries") && text.includes("LATERAL")
      )
      if (claim === undefined || claim.rows === 0) throw new Error("the server has seen no claim")
      return { rows: claim.rows / claim.calls, buffers: claim.buffers / claim.rows }
    })
    const [a, b] = claims as [typeof claims[0] & object, typeof claims[0] & object]
    expect(b.buffers <= 2 * a.buffers, `buffers a claimed row: ${a.buffers.toFixed(1)} and ${b.buffers.toFixed(1)}`)
    const worst = [...large.statements].sort((left, right) => perCall(right) - perCall(left))[0]!
    // Whatever else a worker asks, it never reads the backlog: the smallest of its indices has thousands of pages.
    expect(perCall(worst) < 5000, `${perCall(worst).toFixed(0)} buffers for ${worst.text.slice(0, 300)}`)
    flat(small, large)
    return {
      pending: `${few} | ${many}`,
      "rows a claim": claims.map(({ rows }) => rows.toFixed(0)).join(" | "),
      "buffers a claimed row": claims.map(({ buffers }) => buffers.toFixed(1)).join(" | "),
      "buffers of a look for what is due": measured.map(({ statements }) =>
        perCall(statements.find(({ text }) => text.startsWith("WITH RECURSIVE"))).toFixed(0)
      ).join(" | "),
      "most buffers of any statement": measured.map(({ statements }) => Math.max(...statements.map(perCall)).toFixed(0))
        .join(" | "),
      ...figures(small, large)
    }
  }
}, {
  name: "a million pending",
  soak: true,
  on: ["sqlite"],
  run: async (trial) => {
    const measured: Array<Measured> = []
    for (const count of [few, many]) {
      const plans = join(trial.folder, `plans-${count}`)
      const run = await deliver(trial, sqlite(trial.folder, `of-${count}.db`), count, {
        env: { PLANS_FILE: plans },
        preload: ["sqlite-plans.mjs"]
      })
      measured.push({ ...run, statements: [] })
      const scanning = parse(readFileSync(plans, "utf8")).filter(({ plan }) =>
        (plan as ReadonlyArray<string>).some((step) => /^SCAN (?:webhook_deliveries|d)\b/.test(step))
      )
      expect(scanning.length === 0, `a statement of the worker scans: ${JSON.stringify(scanning[0])}`)
    }
    const [small, large] = measured as [Measured, Measured]
    // Reading the backlog's index once would be more than 20 MB a claim, 100 kB for each delivery that it takes.
    expect(
      large.read < 50_000 + 4 * small.read,
      `${small.read.toFixed(0)} and ${large.read.toFixed(0)} bytes a delivery`
    )
    flat(small, large)
    return {
      pending: `${few} | ${many}`,
      plans: "no statement of the worker scans the deliveries",
      "kB read a delivery": measured.map(({ read }) => (read / 1000).toFixed(1)).join(" | "),
      ...figures(small, large)
    }
  }
}]

// --- internal

interface Statement {
  readonly text: string
  readonly calls: number
  /** Rows and buffers of all calls. */
  readonly rows: number
  readonly buffers: number
}

interface Delivering {
  /** Bytes that the worker read a delivery, sockets included. */
  readonly read: number
  /** Resident memory in bytes, after so many deliveries as are pending in the small database, in the middle and at the end. */
  readonly memory: ReadonlyArray<number>
  readonly perSecond: number
}

interface Measured extends Delivering {
  readonly statements: ReadonlyArray<Statement>
}

/** Fills a database and lets a worker deliver some of it. */
const deliver = async (
  trial: Trial,
  database: Database,
  count: number,
  options: {
    readonly before?: () => Promise<void>
    readonly env?: Readonly<Record<string, string>>
    readonly preload?: ReadonlyArray<string>
  }
): Promise<Delivering> => {
  trial.configure(Object.fromEntries(endpoints.map((id) => [id, {}])))
  const env = { WEBHOOKS_DATABASE_URL: database.url, WEBHOOKS_LEASE: "60s" }
  for (
    const [args, input] of [[["migrate"], ""], [
      ["enqueue"],
      `{"type":"OrderCreated","data":{"n":1},"id":"t"}\n`
    ]] as const
  ) {
    const { code, err } = await trial.start(args, { env, input }).ended
    expect(code === 0, `${args[0]}: ${err}`)
  }
  await fill(database, count)
  await options.before?.()
  const wanted = Math.min(count, sample)
  const before = trial.receiver.arrivals.length
  const worker = trial.start(["worker"], {
    name: `worker-${count}`,
    env: { ...env, ...options.env },
    preload: options.preload
  })
  const arrived = () => trial.receiver.arrivals.length - before
  await until("the first request", () => arrived() > 0, 30)
  const [start, since, first] = [io(worker.pid), performance.now(), arrived()]
  const memory: Array<number> = []
  for (const share of [few, wanted / 2, wanted]) {
    await until(() => `${share} deliveries (${arrived()})`, () => arrived() >= share, 60)
    memory.push(resident(worker.pid))
  }
  const deliveries = arrived() - first
  const run = {
    read: (io(worker.pid) - start) / deliveries,
    memory,
    perSecond: deliveries * 1000 / (performance.now() - since)
  }
  await stop(worker)
  return run
}

/** Copies the one event that was enqueued, with its deliveries, until so many deliveries are pending. */
const fill = async (database: Database, count: number): Promise<void> => {
  const columns = {
    messages: "digest, event_type, occurred_at, correlation_id, deliveries, created_at, body_event",
    deliveries: "endpoint_id, event_type, format, state, lane, due_at, created_at"
  }
  const series = (last: number) =>
    database.dialect === "postgres"
      ? `generate_series(1, ${last}) AS s(g)`
      : `(WITH RECURSIVE s(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM s WHERE g < ${last}) SELECT g FROM s) AS s`
  const messages = count / endpoints.length
  await database.query(
    `INSERT INTO webhook_messages (id, ${columns.messages})
     SELECT 'm' || g, ${columns.messages} FROM ${series(messages)} CROSS JOIN webhook_messages t WHERE t.id = 't'`
  )
  await database.query(
    `INSERT INTO webhook_deliveries (message_id, ${columns.deliveries})
     SELECT 'm' || g, ${columns.deliveries} FROM ${
      series(messages)
    } CROSS JOIN webhook_deliveries t WHERE t.message_id = 't'`
  )
  await database.query(database.dialect === "postgres" ? "VACUUM ANALYZE" : "ANALYZE")
  const pending = await database.count("SELECT count(*) AS n FROM webhook_deliveries WHERE state = 'pending'")
  expect(pending >= count, `${pending} pending of ${count}`)
}

/** What the server counted in a database. */
const counted = async (admin: Database, name: string): Promise<ReadonlyArray<Statement>> => {
  const rows = await admin.query(
    `SELECT s.query, s.calls, s.rows, s.shared_blks_hit + s.shared_blks_read AS buffers
     FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
     WHERE d.datname = '${name}' AND s.query ~ 'webhook_' AND s.query !~ '^(VACUUM|CREATE)'`
  )
  return rows.map(({ buffers, calls, query, rows }) => ({
    text: String(query).replace(/\s+/g, " ").trim(),
    calls: Number(calls),
    rows: Number(rows),
    buffers: Number(buffers)
  }))
}

const perCall = (statement: Statement | undefined): number =>
  statement === undefined ? NaN : statement.buffers / statement.calls

const flat = (small: Delivering, large: Delivering): void => {
  const shown = [...small.memory, ...large.memory].map(megabytes).join(", ")
  expect(large.memory[0]! < small.memory[0]! + 80e6, `memory with a thousand and with a million: ${shown}`)
  expect(large.memory[2]! < large.memory[1]! + 80e6, `memory as the worker goes on: ${shown}`)
}

const figures = (small: Delivering, large: Delivering) => ({
  "memory of the worker": `${megabytes(small.memory[0]!)} | ${large.memory.map(megabytes).join(", ")}`,
  "deliveries/s": `${small.perSecond.toFixed(0)} | ${large.perSecond.toFixed(0)}`
})

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`

const io = (pid: number): number => Number(/rchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1])

const resident = (pid: number): number =>
  1024 * Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1])
