/**
 * `outbox-sqlite`, `outbox-postgres`: what it costs to store events and to deliver what is stored, against the same tables with nothing around them, at the
 * same durability.
 */
import { compare } from "./contending.js"
import { type Dialect, query, startDatabases } from "./databases.js"
import { drain, startWorkers, type Workers } from "./draining.js"
import { layers } from "./durable.js"
import { type Benchmark, figure } from "./figures.js"
import { type Receiver, startReceiver } from "./receiving.js"

export const outboxSqlite: Benchmark = {
  name: "outbox-sqlite",
  about: "storing and delivering, SQLite file in WAL mode with synchronous = FULL",
  layers,
  run: () => run("sqlite", [1])
}

export const outboxPostgres: Benchmark = {
  name: "outbox-postgres",
  about: "storing and delivering, PostgreSQL with synchronous_commit = on; one, two and four workers",
  layers,
  run: () => run("postgres", [1, 2, 4])
}

/** About 500 bytes as JSON. */
export const data = {
  items: Array.from({ length: 10 }, (_, n) => ({ sku: `sku-${n}`, price: n * 1.5 })),
  note: "x".repeat(200)
}

/** So many that a worker's slots can all be in use: ten an endpoint. */
export const endpoints = (count: number, url: string): Readonly<Record<string, string>> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`e${n}`, `${url}e${n}`]))

/** Deliveries of the endpoints `e0`, `e1`, …, one a message, that are due at once. */
export const dueNow = {
  deliveries: 1,
  endpoint: "e",
  lane: "first",
  dueAt: 0,
  body: Buffer.from(JSON.stringify(data))
} as const

// --- internal

const rounds = 5
/**
 * Ways to store, and events a round. Of batches so many that what a process does first when another has written to the file (3 000 events show little else: 0.66
 * where 12 000 show 0.75), and a checkpoint more or less, are lost in them.
 */
const modes = { "one-by-one": 500, batches: 12_000, "in-transaction": 300 }
const contenders = ["bare", "effect-webhooks"] as const
const endpointCount = 10

async function* run(dialect: Dialect, fleets: ReadonlyArray<number>) {
  const databases = await startDatabases(dialect)
  const receiver = await startReceiver()
  const name = `outbox-${dialect}`
  const to = endpoints(endpointCount, `${receiver.origin}/`)
  try {
    for (const [mode, count] of Object.entries(modes)) {
      const database = await databases.fresh()
      await query(database, "CREATE TABLE orders (id TEXT PRIMARY KEY)")
      const samples = await compare({
        module: new URL("./contenders/enqueue.ts", import.meta.url).href,
        names: contenders.map((contender) => `${contender}/${mode}`),
        setup: { database, endpoints: to, data },
        rounds,
        count
      })
      for (const [index, contender] of contenders.entries()) {
        yield figure(
          `${name}/${contender}/enqueue-${mode}`,
          "a second",
          `${name}/bare/enqueue-${mode}`,
          samples.map((row) => ({ value: row[index]!.perSecond, reference: row[0]!.perSecond }))
        )
      }
    }
    for (const fleet of fleets) {
      const sides = await Promise.all(
        contenders.map(async (contender) =>
          startWorkers(contender, { database: await databases.fresh(), endpoints: to }, fleet)
        )
      )
      try {
        const samples = await drainAll(sides, receiver)
        const what = fleet === 1 ? "delivered" : `delivered-by-${fleet}`
        for (const [index, contender] of contenders.entries()) {
          yield figure(
            `${name}/${contender}/${what}`,
            "a second",
            `${name}/bare/${what}`,
            samples.map((row) => ({ value: row[index]!.perSecond, reference: row[0]!.perSecond }))
          )
          yield figure(
            `${name}/${contender}/${what}-cpu`,
            "µs a delivery",
            `${name}/bare/${what}-cpu`,
            samples.map((row) => ({ value: row[index]!.cpu, reference: row[0]!.cpu }))
          )
          if (dialect === "sqlite") continue
          yield figure(
            `${name}/${contender}/${what}-wal`,
            "bytes a delivery",
            `${name}/bare/${what}-wal`,
            samples.map((row) => ({ value: row[index]!.wal, reference: row[0]!.wal }))
          )
        }
      } finally {
        await Promise.all(sides.map((side) => side.close()))
      }
    }
  } finally {
    receiver.close()
    await databases.close()
  }
}

type Drained = Awaited<ReturnType<typeof drain>> & {
  /** Bytes that PostgreSQL wrote to its log for a delivery, from storing to settling. */
  readonly wal: number
}

/** Deliveries before those that count. */
const warmUp = 6000

/** Samples a row a round. What the first round shows, which warms up, says how many deliveries make two seconds. */
const drainAll = async (
  sides: ReadonlyArray<Workers>,
  receiver: Receiver
): Promise<ReadonlyArray<ReadonlyArray<Drained>>> => {
  const samples: Array<ReadonlyArray<Drained>> = []
  for (let round = 0; round <= rounds; round++) {
    const row: Array<Drained> = []
    for (const [index, side] of sides.entries()) {
      const messages = round === 0 ? warmUp : Math.floor(samples[0]![index]!.perSecond * 2)
      const from = await written(side)
      const drained = await drain(side, receiver, {
        ...dueNow,
        prefix: `r${round}_`,
        messages,
        endpoints: endpointCount
      })
      row.push({ ...drained, wal: (await written(side) - from) / messages })
    }
    samples.push(row)
  }
  return samples.slice(1)
}

/** Bytes of PostgreSQL's log so far. */
const written = async ({ setup: { database } }: Workers): Promise<number> => {
  if (database.startsWith("file:")) return 0
  const [row] = await query(database, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS bytes")
  return Number(row?.["bytes"])
}
