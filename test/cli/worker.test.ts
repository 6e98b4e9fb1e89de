import { readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { bin, folder, json, receive, run, start, until } from "./cli.js"
import { fresh, query } from "./databases.js"

const receivers: Array<{ readonly close: () => void }> = []
afterAll(() => receivers.forEach(({ close }) => close()))

const receiver = async (...args: Parameters<typeof receive>) => {
  const made = await receive(...args)
  receivers.push(made)
  return made
}

const environment = (url: string, receiver?: string, more: Readonly<Record<string, string>> = {}) => ({
  WEBHOOKS_DATABASE_URL: url,
  WEBHOOKS_CONFIG: receiver === undefined ? "" : JSON.stringify({ A: [{ id: "ep", url: receiver }] }),
  WEBHOOKS_EGRESS_ALLOW: "127.0.0.1",
  ...more
})

/** What is printed at the start, of a database as it may be shown: without the login. */
const started = (url: string, endpoints: string) =>
  `worker started; ${endpoints}; database ${url.replace(/\/\/[^@/]*@/, "//")}\n`

const event = (id: string) => JSON.stringify({ type: "A", data: {}, id })

const enqueue = (env: Readonly<Record<string, string>>, ...ids: ReadonlyArray<string>) =>
  run(["enqueue"], { env, input: ids.map((id) => `${event(id)}\n`).join("") })

describe.concurrent.each(["sqlite", "postgres"] as const)("a worker on %s", (backend) => {
  it("delivers what is enqueued, also while it runs, and ends with 0", async () => {
    const database = await fresh(backend)
    const { requests, url } = await receiver()
    const env = environment(database.url, url)
    await enqueue(env, "m1")
    const worker = start(["worker"], { env })
    await until(() => requests.length === 1)
    expect(worker.out()).toBe(started(database.url, "1 endpoint"))
    await enqueue(env, "m2")
    await until(() => requests.length === 2)
    expect(requests.map(({ headers }) => headers["webhook-id"])).toEqual(["m1", "m2"])
    await until(() => worker.err().split("message=webhook_sent").length === 3)
    worker.child.kill("SIGTERM")
    expect(await worker.ended).toMatchObject({
      code: 0,
      signal: null,
      out: started(database.url, "1 endpoint"),
      err: expect.not.stringContaining("warning")
    })
    expect(await query(database, "SELECT state FROM webhook_deliveries")).toEqual([
      { state: "delivered" },
      { state: "delivered" }
    ])
  })
})

describe.concurrent("a worker that was killed", () => {
  it.runIf(process.platform === "linux")(
    "holds its database no longer, though nobody has asked what became of it",
    async () => {
      const database = await fresh("sqlite")
      const env = environment(database.url)
      // A parent that never asks: the process stays as what it is called, a zombie.
      const parent = start(["-c", `"$node" "$cli" worker >/dev/null 2>&1 & echo $!; exec sleep 60`], {
        command: ["bash", "--norc"],
        env: { ...env, node: process.execPath, cli: bin }
      })
      await until(() => parent.out().includes("\n"))
      const pid = Number(parent.out())
      let rows: ReadonlyArray<unknown> = []
      while (rows.length === 0) {
        rows = await query(database, "SELECT value FROM webhook_meta WHERE key = 'worker'").catch(() => [])
      }
      process.kill(pid, "SIGKILL")
      const state = () => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.[0]
      await until(() => state() === "Z")
      const next = start(["worker"], { env })
      await until(() => next.out() !== "" || next.err() !== "")
      expect(next.out()).toBe(started(database.url, "0 endpoints"))
      next.child.kill("SIGTERM")
      parent.child.kill("SIGKILL")
      expect(await next.ended).toMatchObject({ code: 0 })
    }
  )
})

describe.concurrent("a stop", () => {
  it.each(["SIGINT", "SIGHUP"] as const)("by %s lets what is in flight end", async (signal) => {
    const database = await fresh("sqlite")
    const { requests, url } = await receiver((_, response) => setTimeout(() => response.end(), 700))
    const env = environment(database.url, url)
    await enqueue(env, "m1")
    const { child, ended } = start(["worker", "--json"], { env })
    await until(() => requests.length === 1)
    child.kill(signal)
    const { code, err, out } = await ended
    expect(code).toBe(0)
    expect(json(out)).toEqual([{ worker: "started", endpoints: 1, database: database.url }])
    expect(err).toContain("stopping: requests in flight have 10s to end; again to end at once\n")
    expect(err).toMatch(/^timestamp=\S+ level=INFO .*message=webhook_sent .*messageId=m1/m)
    expect(await query(database, "SELECT state FROM webhook_deliveries")).toEqual([{ state: "delivered" }])
  })

  it("hands back what the grace time was too short for", async () => {
    const database = await fresh("sqlite")
    const { requests, url } = await receiver(() => undefined)
    const env = environment(database.url, url, { WEBHOOKS_GRACE: "300ms", WEBHOOKS_LEASE: "5m" })
    await enqueue(env, "m1")
    const { child, ended } = start(["worker"], { env })
    await until(() => requests.length === 1)
    child.kill("SIGTERM")
    expect(await ended).toMatchObject({ code: 0, signal: null })
    const { out } = await run(["deliveries", "list", "--json"], { env })
    expect(json(out)).toMatchObject([{ messageId: "m1", state: "pending", leased: false }])
  })

  it("is the same however often it is said that the terminal was closed", async () => {
    const database = await fresh("sqlite")
    let answer = () => {}
    const { requests, url } = await receiver((_, response) => (answer = () => response.end()))
    const env = environment(database.url, url)
    await enqueue(env, "m1")
    const { child, ended, err } = start(["worker"], { env })
    await until(() => requests.length === 1)
    child.kill("SIGHUP")
    await until(() => err().includes("stopping"))
    await new Promise((resolve) => setTimeout(resolve, 200))
    child.kill("SIGHUP")
    await new Promise((resolve) => setTimeout(resolve, 200))
    answer()
    expect(await ended).toMatchObject({ code: 0, signal: null })
    expect(await query(database, "SELECT state FROM webhook_deliveries")).toEqual([{ state: "delivered" }])
  })

  it("is at once the second time", async () => {
    const database = await fresh("sqlite")
    const { requests, url } = await receiver(() => undefined)
    const env = environment(database.url, url, { WEBHOOKS_GRACE: "1m" })
    await enqueue(env, "m1")
    const { child, ended, err } = start(["worker"], { env })
    await until(() => requests.length === 1)
    child.kill("SIGTERM")
    await until(() => err().includes("stopping"))
    await new Promise((resolve) => setTimeout(resolve, 200))
    child.kill("SIGTERM")
    expect(await ended).toMatchObject({ code: null, signal: "SIGTERM" })
  })
})

describe.concurrent("one clear line", () => {
  const line = async (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>, code = 1) => {
    const ended = await run(args, { env })
    expect({ code: ended.code, out: ended.out }).toEqual({ code, out: "" })
    expect(ended.err).toMatch(/^effect-webhooks: [^\n]+\n$/)
    return ended.err.slice("effect-webhooks: ".length, -1)
  }

  it("says that a worker is running already, until that one is gone", async () => {
    const database = await fresh("sqlite")
    const env = environment(database.url)
    const first = start(["worker"], { env })
    await until(() => first.out() !== "")
    expect(await line(["worker"], env)).toMatch(/^a worker is already running on this database \(process \d+ on .+\)/)
    first.child.kill("SIGKILL")
    await first.ended
    const second = start(["worker"], { env })
    await until(() => second.out() !== "")
    second.child.kill("SIGTERM")
    expect((await second.ended).code).toBe(0)
  })

  it("says that the database can't be reached", async () => {
    const server = createServer()
    const port = await new Promise<number>((resolve) =>
      server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port))
    )
    await new Promise((resolve) => server.close(resolve))
    expect(await line(["worker"], environment(`postgres://app:HUSHHUSH@127.0.0.1:${port}/app`))).toBe(
      `the database at 127.0.0.1:${port} can't be reached, or the connection broke; check that it runs, its address and the ` +
        "network (ECONNREFUSED)"
    )
  })

  it("says that the login is refused", async () => {
    const url = new URL((await fresh("postgres")).url)
    const place = `the database at ${url.host} refuses the login; check user, password and database name`
    url.password = "HUSHHUSH"
    expect(await line(["worker"], environment(url.href))).toBe(`${place} (28P01)`)
    url.password = ""
    expect(await line(["worker"], environment(url.href))).toBe(place)
  })

  it.each(["sqlite", "postgres"] as const)("says that %s is not migrated, and changes nothing", async (backend) => {
    const database = await fresh(backend)
    if (backend === "sqlite") await query(database, "CREATE TABLE orders (id TEXT)")
    const env = environment(database.url)
    for (const args of [["stats"], ["deliveries", "list"], ["endpoints", "list"], ["purge"]]) {
      expect(await line(args, env)).toMatch(/^the database .* is not migrated; run `effect-webhooks migrate`$/)
    }
    expect(await run(["migrate", "--json"], { env })).toMatchObject({
      code: 0,
      out: "{\"from\":0,\"to\":1}\n",
      err: ""
    })
    expect(await run(["migrate"], { env })).toMatchObject({ code: 0, out: expect.stringContaining("is up to date") })
    expect(await run(["stats"], { env })).toMatchObject({ code: 0 })
  }, 60_000)

  it("says that there is no file, and makes none", async () => {
    const env = environment("file:nowhere.db")
    expect(await line(["stats"], env)).toBe(
      "the database file nowhere.db does not exist; run `effect-webhooks migrate` to make it"
    )
    expect(await line(["stats"], env)).toContain("does not exist")
    expect(await line(["worker"], environment("file:nowhere/at/all.db"))).toBe(
      "the database file nowhere/at/all.db can't be made: its folder does not exist (ENOENT)"
    )
    expect(await line(["worker"], environment("file:."))).toBe("the database file . is a directory (EISDIR)")
  })

  it("says that a file is no database", async () => {
    writeFileSync(join(folder, "text.db"), "HUSHHUSH".repeat(1000))
    expect(await line(["worker"], environment("file:text.db"))).toBe(
      "the database file text.db is damaged, or is not a database (SQLITE_NOTADB)"
    )
  })

  it("says that the schema is newer", async () => {
    const database = await fresh("sqlite")
    const env = environment(database.url)
    await run(["migrate"], { env })
    await query(database, "UPDATE webhook_meta SET value = '99' WHERE key = 'version'")
    for (const args of [["worker"], ["stats"], ["migrate"]]) {
      expect(await line(args, env)).toMatch(
        /^the database file .* has schema version 99, newer than version \d+ of effect-webhooks .*; update effect-webhooks$/
      )
    }
  })

  it("says that the database is read-only", async () => {
    const database = await fresh("postgres")
    await query(
      database,
      `ALTER DATABASE ${new URL(database.url).pathname.slice(1)} SET default_transaction_read_only = on`
    )
    expect(await line(["migrate"], environment(database.url))).toMatch(
      /^the database at 127\.0\.0\.1:\d+ is read-only; check the permissions .* \(25006\)$/
    )
  })

  it("says that the driver of SQLite is not installed", async () => {
    const name = "@effect/sql-sqlite-node"
    const hooks = `export const resolve = (specifier, context, next) => {
      if (specifier !== ${JSON.stringify(name)} && !specifier.startsWith(${JSON.stringify(`${name}/`)})) {
        return next(specifier, context)
      }
      throw Object.assign(new Error("Cannot find package '" + ${
      JSON.stringify(name)
    } + "' imported from here"), { code: "ERR_MODULE_NOT_FOUND" })
    }`
    const register = `import { register } from "node:module"; register(${
      JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)
    })`
    const { child, ended } = start(["worker"], {
      command: [process.execPath, "--import", `data:text/javascript,${encodeURIComponent(register)}`, bin],
      env: environment("file:x.db")
    })
    child.stdin.end()
    const { code, err } = await ended
    expect(err).toBe(
      "effect-webhooks: an SQLite file needs a package that is not installed: npm install @effect/sql-sqlite-node @effect/sql\n"
    )
    expect(code).toBe(2)
  })
})

it("tells all that is wrong with its settings at once, and shows nothing of them", async () => {
  const ended = await run(["worker", "--json"], {
    env: {
      WEBHOOKS_DATABASE_URL: "mysql://u:HUSHHUSH@h/x",
      WEBHOOKS_CONFIG: "{",
      WEBHOOKS_LEASE: "10ms",
      WEBHOOKS_SCHEDULE: "0s,HUSHHUSH",
      WEBHOOKS_POLL: "HUSHHUSH",
      WEBHOOKS_CONCURRENCY: "0",
      WEBHOOKS_ENDPOINT_CONCURRENCY: "-1",
      WEBHOOKS_GRACE: "HUSHHUSH",
      WEBHOOKS_RETENTION: "1d,2d,3d",
      WEBHOOKS_API_TOKEN: "HUSHHUSH, 0123456789abcdef0",
      WEBHOOKS_TIMEOUT: "0s",
      WEBHOOKS_LOG_LEVEL: "loud"
    }
  })
  expect(ended.code).toBe(2)
  const [{ errors }] = json(ended.out)
  expect(errors.map(({ path }: { readonly path: string }) => path).toSorted()).toEqual([
    "WEBHOOKS_API_TOKEN",
    "WEBHOOKS_CONCURRENCY",
    "WEBHOOKS_CONFIG",
    "WEBHOOKS_DATABASE_URL",
    "WEBHOOKS_ENDPOINT_CONCURRENCY",
    "WEBHOOKS_GRACE",
    "WEBHOOKS_LEASE",
    "WEBHOOKS_LOG_LEVEL",
    "WEBHOOKS_POLL",
    "WEBHOOKS_RETENTION",
    "WEBHOOKS_SCHEDULE",
    "WEBHOOKS_TIMEOUT"
  ])
  expect(ended.err.match(/^effect-webhooks: WEBHOOKS_/gm)).toHaveLength(12)
  expect(ended.out + ended.err).not.toContain("HUSH")
  expect(ended.err).toContain("WEBHOOKS_API_TOKEN: token 1: must be 16 to 512 visible ASCII characters")
})
