import { writeFileSync } from "node:fs"
import { get } from "node:http"
import { connect, createServer } from "node:net"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { folder, json, receive, run, type Running, start, until } from "./cli.js"
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

/** The database as it may be shown: without the login. */
const shown = (url: string) => url.replace(/\/\/[^@/]*@/, "//")

const listening = async ({ out }: Running): Promise<string> => {
  await until(() => out().includes("\n"))
  return json(out())[0].listening
}

const post = (url: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  fetch(`${url}/v1/events`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body)
  })

describe.concurrent.each(["sqlite", "postgres"] as const)("a server on %s", (backend) => {
  it("takes events, delivers them and ends with 0", async () => {
    const database = await fresh(backend)
    const { requests, url: target } = await receiver()
    const server = start(["serve", "--port", "0", "--json"], { env: environment(database.url, target) })
    const url = await listening(server)
    expect((await fetch(`${url}/health/ready`)).status).toBe(200)
    const answer = await post(url, { type: "A", data: {}, id: "m1" })
    expect(answer.status).toBe(202)
    expect(await answer.json()).toEqual({ messages: [{ messageId: "m1", duplicate: false, deliveries: 1 }] })
    await until(() => requests.length === 1)
    expect(requests[0]?.headers["webhook-id"]).toBe("m1")
    await until(() => server.err().includes("message=webhook_sent"))
    server.child.kill("SIGTERM")
    const ended = await server.ended
    expect(ended).toMatchObject({ code: 0, signal: null })
    expect(json(ended.out)).toEqual([{ listening: url, endpoints: 1, database: shown(database.url) }])
    expect(ended.err).not.toContain("warning")
    expect(await query(database, "SELECT state FROM webhook_deliveries")).toEqual([{ state: "delivered" }])
  })
})

describe.concurrent("serve", () => {
  it("shows people where it listens and that nothing is configured, and takes the database of its argument", async () => {
    const database = await fresh("sqlite")
    const server = start(["serve", "--port", "0", "--database", database.url], {
      env: environment("postgres://nobody@127.0.0.1:1/none")
    })
    await until(() => server.out() !== "")
    expect(server.out().replace(/:\d+;/, ":PORT;"))
      .toBe(`listening on http://127.0.0.1:PORT; 0 endpoints; database ${database.url}\n`)
    await until(() => server.err().includes("\n"))
    expect(server.err()).toBe(
      "warning: no endpoints are configured, so nothing is delivered; set WEBHOOKS_CONFIG or WEBHOOKS_CONFIG_FILE and start again\n"
    )
    server.child.kill("SIGINT")
    expect(await server.ended).toMatchObject({ code: 0 })
  })

  it("asks for a token if there is one", async () => {
    const database = await fresh("sqlite")
    const tokens = ["0123456789abcdef-one", "0123456789abcdef-two"]
    const server = start(["serve", "--port", "0", "--host", "0.0.0.0", "--json"], {
      env: environment(database.url, undefined, { WEBHOOKS_API_TOKEN: tokens.join(", ") })
    })
    const url = (await listening(server)).replace("0.0.0.0", "127.0.0.1")
    const event = { type: "A", data: {} }
    expect((await post(url, event)).status).toBe(401)
    for (const token of tokens) {
      expect((await post(url, event, { authorization: `Bearer ${token}` })).status).toBe(202)
    }
    server.child.kill("SIGTERM")
    const { err, out } = await server.ended
    expect(out + err).not.toContain("0123456789abcdef")
  })

  it("takes its token and its database from files, and is asked by the names that are listed", async () => {
    const database = await fresh("sqlite")
    const token = "0123456789abcdef-file"
    writeFileSync(join(folder, "token"), `${token}\n`)
    writeFileSync(join(folder, "database"), `${database.url}\n`)
    const server = start(["serve", "--port", "0", "--json"], {
      env: {
        WEBHOOKS_API_TOKEN_FILE: "token",
        WEBHOOKS_DATABASE_URL_FILE: "database",
        WEBHOOKS_API_HOSTS: "hooks.example.com,third.example.com other.example.com"
      }
    })
    const url = await listening(server)
    expect(json(server.out())[0]).toMatchObject({ database: database.url })
    const status = (host: string, shown: string) =>
      new Promise<number | undefined>((resolve, reject) =>
        get(`${url}/v1/stats`, { headers: { host, authorization: `Bearer ${shown}` } }, (answer) => {
          answer.resume()
          resolve(answer.statusCode)
        }).on("error", reject)
      )
    expect(await status("localhost", token)).toBe(200)
    expect(await status("other.example.com:8080", token)).toBe(200)
    expect(await status("hooks.example.com", "0123456789abcdef-else")).toBe(401)
    expect(await status("attacker.example", token)).toBe(403)
    server.child.kill("SIGTERM")
    const { err, out } = await server.ended
    expect(out + err).not.toContain("0123456789abcdef")
  })

  it("stops at once, though a stranger holds a request back", async () => {
    const database = await fresh("sqlite")
    const server = start(["serve", "--port", "0", "--json"], {
      env: environment(database.url, undefined, { WEBHOOKS_GRACE: "1h" })
    })
    const url = new URL(await listening(server))
    const half = connect(Number(url.port), url.hostname)
    half.on("error", () => undefined)
    await new Promise<void>((resolve) => half.write("GET /v1/stats HTTP/1.1\r\nhost: x\r\n", () => resolve()))
    // What comes later has been read later.
    expect((await fetch(`${url.href}health/live`)).status).toBe(200)
    const from = performance.now()
    server.child.kill("SIGTERM")
    expect(await server.ended).toMatchObject({ code: 0, signal: null })
    // After ten seconds the request would be too late in any case.
    expect(performance.now() - from).toBeLessThan(8000)
    half.destroy()
  })

  it("says what is wrong with a file of a secret, and with a name", async () => {
    writeFileSync(join(folder, "short"), "HUSHHUSH\n")
    const ended = await run(["serve", "--json"], {
      env: {
        WEBHOOKS_API_TOKEN_FILE: "short",
        WEBHOOKS_API_HOSTS: "https://HUSHHUSH",
        WEBHOOKS_DATABASE_URL_FILE: "HUSHHUSH"
      }
    })
    expect(ended.code).toBe(2)
    expect(json(ended.out)[0].errors).toEqual(expect.arrayContaining([
      { path: "WEBHOOKS_API_TOKEN", message: expect.stringContaining("must be 16 to 512") },
      {
        path: "WEBHOOKS_API_HOSTS",
        message: expect.stringMatching(/^name 1: must be a host name .*separated by spaces or commas$/)
      },
      { path: "WEBHOOKS_DATABASE_URL_FILE", message: "names a file that can't be read: no such file" }
    ]))
    expect(ended.out + ended.err).not.toContain("HUSH")
  })

  it("stays on loopback without one", async () => {
    const database = await fresh("sqlite")
    expect(await run(["serve", "--port", "0", "--host", "0.0.0.0"], { env: environment(database.url) })).toEqual({
      code: 2,
      signal: null,
      out: "",
      err: "effect-webhooks: to listen on 0.0.0.0 a token is needed: set WEBHOOKS_API_TOKEN, or listen on 127.0.0.1\n"
    })
  })

  it("fails where the port is in use", async () => {
    const database = await fresh("sqlite")
    const taken = createServer()
    const port = await new Promise<number>((resolve) =>
      taken.listen(0, "127.0.0.1", () => resolve((taken.address() as { port: number }).port))
    )
    const ended = await run(["serve", "--port", String(port)], { env: environment(database.url) })
    taken.close()
    expect(ended).toMatchObject({
      code: 1,
      out: "",
      err:
        `effect-webhooks: cannot listen on 127.0.0.1:${port}: another program listens there already; choose another port\n`
    })
  })

  it("stops server and worker within the one grace time", async () => {
    const database = await fresh("sqlite")
    const { requests, url: target } = await receiver(() => undefined)
    const server = start(["serve", "--port", "0", "--json"], {
      env: environment(database.url, target, { WEBHOOKS_GRACE: "2s" })
    })
    const url = await listening(server)
    await post(url, { type: "A", data: {}, id: "m1" })
    // A request of the API that never ends, and a delivery that never ends.
    const unfinished = fetch(`${url}/v1/endpoints/ep/test`, { method: "POST" }).catch(() => undefined)
    await until(() => requests.length === 2)
    const before = performance.now()
    server.child.kill("SIGTERM")
    expect(await server.ended).toMatchObject({ code: 0, signal: null })
    const took = performance.now() - before
    await unfinished
    expect(took).toBeGreaterThan(1500)
    expect(took).toBeLessThan(3900)
  })
})
