import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { bin, folder, json, run, shell, start, until } from "./cli.js"
import { fresh, locking, query } from "./databases.js"

const config = { A: [{ id: "one", url: "https://one.example/" }], "A.*": [{ id: "two", url: "https://two.example/" }] }

const environment = (url: string, more: Readonly<Record<string, string>> = {}) => ({
  WEBHOOKS_DATABASE_URL: url,
  WEBHOOKS_CONFIG: JSON.stringify(config),
  ...more
})

const event = (id: string, n = 1, type = "A") => JSON.stringify({ type, data: { n }, id })

const lines = (count: number, prefix = "m") =>
  Array.from({ length: count }, (_, n) => `${event(`${prefix}${n}`, n)}\n`).join("")

const messageIds = async (database: Awaited<ReturnType<typeof fresh>>) =>
  (await query(database, "SELECT id FROM webhook_messages")).map(({ id }) => String(id))

/** Until a connection to this database waits for a lock. */
const untilWaiting = async (database: Awaited<ReturnType<typeof fresh>>) => {
  const text = `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
  while ((await query(database, text)).length === 0) await new Promise((resolve) => setTimeout(resolve, 50))
}

describe.concurrent.each(["sqlite", "postgres"] as const)("events on %s", (backend) => {
  it("are stored, and reported in the order of the input", async () => {
    const database = await fresh(backend)
    const env = environment(database.url)
    const input = `${event("m1")}\nnope\n${event("m2", 1, "Z")}\n${event("m1")}\n`
    const ended = await run(["enqueue", "--json"], { env, input })
    expect(json(ended.out)).toEqual([
      { messageId: "m1", duplicate: false, deliveries: 1 },
      { line: 2, outcome: "invalid", error: "not valid JSON" },
      { messageId: "m2", duplicate: false, deliveries: 0 },
      { messageId: "m1", duplicate: true, deliveries: 1 }
    ])
    expect(ended.err).toBe("2 events stored (1 unrouted), 1 duplicate, 1 invalid line; 1 new delivery\n")
    expect(ended.code).toBe(1)
    expect((await messageIds(database)).toSorted()).toEqual(["m1", "m2"])
    const again = await run(["enqueue", "-"], { env, input: event("m1") })
    expect(again).toMatchObject({
      code: 0,
      out: "duplicate  A  m1  1 delivery\n",
      err: "0 events stored (0 unrouted), 1 duplicate, 0 invalid lines; 0 new deliveries\n"
    })
  })

  it("that are refused take no others of their batch with them", async () => {
    const database = await fresh(backend)
    const env = environment(database.url)
    const good = Array.from({ length: 60 }, (_, n) => event(`g${n}`))
    const large = JSON.stringify({ type: "A", data: "x".repeat(300_000), id: "large" })
    const input = [...good.slice(0, 20), large, ...good.slice(20, 40), event("g3", 2), ...good.slice(40)].join("\n")
    const ended = await run(["enqueue", "--json"], { env, input })
    expect(ended.code).toBe(1)
    const results = json(ended.out)
    expect(results.filter(({ outcome }) => outcome === "invalid")).toEqual([
      { line: 21, outcome: "invalid", error: expect.stringContaining("262144 are allowed: send a link") },
      { line: 42, outcome: "invalid", error: expect.stringContaining("the event's id has been used before") }
    ])
    expect(results.flatMap(({ messageId }) => messageId ?? [])).toEqual(good.map((_, n) => `g${n}`))
    expect((await messageIds(database)).length).toBe(60)
    expect(ended.err).toContain("60 events stored (0 unrouted), 0 duplicates, 2 invalid lines; 60 new deliveries\n")
  })
})

describe.concurrent("a constraint of the host's own", () => {
  const rules = {
    sqlite: [
      `CREATE TRIGGER host_rule BEFORE INSERT ON webhook_messages WHEN NEW.event_type = 'B'
      BEGIN SELECT RAISE(ABORT, 'HUSHHUSH'); END`
    ],
    postgres: [
      "CREATE FUNCTION host_rule() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''HUSHHUSH''; END'",
      `CREATE TRIGGER host_rule BEFORE INSERT ON webhook_messages FOR EACH ROW WHEN (NEW.event_type = 'B')
      EXECUTE FUNCTION host_rule()`,
      "ALTER TABLE webhook_messages ADD CHECK (event_type <> 'C')"
    ]
  }
  it.each(["sqlite", "postgres"] as const)("refuses its own event only, on %s", async (backend) => {
    const database = await fresh(backend)
    const env = environment(database.url)
    await run(["migrate"], { env })
    for (const rule of rules[backend]) await query(database, rule)
    const types = Array.from({ length: 40 }, (_, n) => n === 8 ? "B" : n === 31 && backend === "postgres" ? "C" : "A")
    const input = types.map((type, n) => `${event(`m${n}`, n, type)}\n`).join("")
    const ended = await run(["enqueue", "--json"], { env, input })
    expect(ended.code).toBe(1)
    const error = expect.stringMatching(
      /^a constraint of the database refused .* \((?:SQLITE_CONSTRAINT_TRIGGER|P0001|23514)\)$/
    )
    expect(json(ended.out)).toEqual(
      types.map((type, n) =>
        type === "A"
          ? { messageId: `m${n}`, duplicate: false, deliveries: 1 }
          : { line: n + 1, outcome: "invalid", error }
      )
    )
    expect(ended.out + ended.err).not.toContain("HUSH")
  })
})

describe.concurrent("batches", () => {
  it("hold up to a hundred events each", async () => {
    const database = await fresh("postgres")
    const { code } = await run(["enqueue"], { env: environment(database.url), input: lines(1000) })
    expect(code).toBe(0)
    const transactions = await query(database, "SELECT count(DISTINCT xmin::text) AS n FROM webhook_messages")
    expect(Number(transactions[0]?.n)).toBeGreaterThanOrEqual(10)
    expect(Number(transactions[0]?.n)).toBeLessThan(30)
  })

  it("don't wait where the input pauses", async () => {
    const database = await fresh("sqlite")
    const { child, ended, out } = start(["enqueue", "--json"], { env: environment(database.url) })
    child.stdin.write(`${event("m1")}\n`)
    await until(() => out().includes("m1"))
    expect(await messageIds(database)).toEqual(["m1"])
    child.stdin.write(`${event("m2")}\n`)
    await until(() => out().includes("m2"))
    child.stdin.end()
    expect(await ended).toMatchObject({ code: 0 })
  })
})

describe.concurrent("a stop", () => {
  it.each(
    [
      ["SIGINT", 130, "Ctrl-C"],
      ["SIGTERM", 143, "SIGTERM"],
      ["SIGHUP", 129, "the terminal was closed"]
    ] as const
  )(
    "by %s leaves stored what was acknowledged, and nothing else",
    async (signal, code, reason) => {
      const database = await fresh("sqlite")
      const { child, ended, out } = start(["enqueue", "--json"], { env: environment(database.url) })
      child.stdin.write(lines(250))
      await until(() => out().includes("\"m249\""))
      child.kill(signal)
      const { code: exit, err } = await ended
      expect(exit).toBe(code)
      expect(err).toContain(`stopped (${reason}): nothing that comes after event 250 (line 250) was stored\n`)
      expect((await messageIds(database)).length).toBe(250)
    }
  )

  it("in the middle names the line", async () => {
    const database = await fresh("sqlite")
    writeFileSync(join(folder, "stream"), lines(30_000))
    const { child, ended, out } = start(["enqueue", "--json", "stream"], { env: environment(database.url) })
    await until(() => out().split("\n").length > 500)
    child.kill("SIGINT")
    const { code, err, out: text } = await ended
    expect(code).toBe(130)
    const acknowledged = json(text).map(({ messageId }) => messageId)
    expect(acknowledged.length).toBeLessThan(30_000)
    expect((await messageIds(database)).toSorted()).toEqual(acknowledged.toSorted())
    const count = acknowledged.length
    expect(err).toContain(`stopped (Ctrl-C): nothing that comes after event ${count} (line ${count}) was stored\n`)
  })

  it("waits for the batch that is being stored", async () => {
    const database = await fresh("postgres")
    const env = environment(database.url)
    await run(["migrate"], { env })
    const { release } = await locking(database, "webhook_messages")
    const { child, ended, err } = start(["enqueue", "--json"], { env })
    child.stdin.write(`${event("m1")}\n`)
    await untilWaiting(database)
    child.kill("SIGTERM")
    await until(() => err().includes("stopping: what is being stored has 10 seconds to end; again to end at once\n"))
    await release()
    const { code, err: notes, out } = await ended
    expect(code).toBe(143)
    expect(json(out)).toEqual([{ messageId: "m1", duplicate: false, deliveries: 1 }])
    expect(notes).toContain("stopped (SIGTERM): nothing that comes after event 1 (line 1) was stored\n")
  })

  it("is at once the second time, and says what nobody knows", async () => {
    const database = await fresh("postgres")
    const env = environment(database.url)
    await run(["migrate"], { env })
    const { release } = await locking(database, "webhook_messages")
    const { child, ended, err } = start(["enqueue", "--json"], { env })
    child.stdin.write(`${event("m1")}\n${event("m2")}\n`)
    await untilWaiting(database)
    child.kill("SIGINT")
    await until(() => err().includes("stopping: "))
    const before = performance.now()
    child.kill("SIGINT")
    const { code, err: notes, out } = await ended
    expect(performance.now() - before).toBeLessThan(5000)
    await release()
    expect({ code, out }).toEqual({ code: 130, out: "" })
    expect(notes).toContain(
      "stopped (Ctrl-C): no event was stored, except perhaps lines 1 to 2: their storing was cut off\n"
    )
  })

  it("because nobody reads", async () => {
    const database = await fresh("sqlite")
    writeFileSync(join(folder, "unread"), lines(5000))
    const ended = await shell("$cli enqueue --json unread | head -1; exit ${PIPESTATUS[0]}", environment(database.url))
    expect(ended).toMatchObject({ code: 1, out: "{\"messageId\":\"m0\",\"duplicate\":false,\"deliveries\":1}\n" })
    const [, line] =
      /^stopped \(nobody reads standard output\): nothing that comes after event (\d+)/.exec(ended.err) ??
        []
    expect((await messageIds(database)).length).toBe(Number(line))
  })

  it("because the database went away", async () => {
    const database = await fresh("postgres")
    const { child, ended, out } = start(["enqueue", "--json"], { env: environment(database.url) })
    child.stdin.write(`${event("m1")}\n`)
    await until(() => out().includes("m1"))
    await query(database, "DROP TABLE webhook_messages CASCADE")
    child.stdin.write(`\n${event("m2")}\n`)
    const { code, err } = await ended
    expect(code).toBe(1)
    expect(err).toContain(
      "stopped (an error, see below): nothing that comes after event 1 (line 1) was stored, except perhaps lines 3 to 3"
    )
    expect(err).toMatch(
      /\neffect-webhooks: the database at 127\.0\.0\.1:\d+ is not migrated; run `effect-webhooks migrate` \(42P01\)\n$/
    )
  })
})

describe.concurrent("input", () => {
  it.each(["", "\n \n", "[]"])("may hold nothing: %j", async (input) => {
    const { url } = await fresh("sqlite")
    expect(await run(["enqueue", "--json"], { env: environment(url), input }))
      .toEqual({ code: 0, signal: null, out: "", err: "nothing to store: no events\n" })
  })

  it("can't be read from everywhere", async () => {
    const { url } = await fresh("sqlite")
    expect(await run(["enqueue", "missing"], { env: environment(url) }))
      .toMatchObject({ code: 2, err: "effect-webhooks: cannot read missing: no such file\n" })
  })
})

it("takes constant memory", async () => {
  writeFileSync(
    join(folder, "peak.mjs"),
    "process.on('exit', () => console.error(`peak ${process.resourceUsage().maxRSS}`))"
  )
  const peak = async (count: number) => {
    const { url } = await fresh("sqlite")
    writeFileSync(join(folder, `of-${count}`), lines(count))
    const { ended } = start(["enqueue", `of-${count}`], {
      command: [process.execPath, "--import", join(folder, "peak.mjs"), bin],
      env: environment(url)
    })
    const { code, err } = await ended
    expect(code).toBe(0)
    return Number(/peak (\d+)/.exec(err)?.[1]) / 1024
  }
  const few = await peak(2000)
  expect(await peak(16_000) - few).toBeLessThan(80)
}, 60_000)
