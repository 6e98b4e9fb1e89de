/** The canary test of the command line: what it prints, with every command, in success and in failure, and what it hands to processes; a receiver can't drive a terminal. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import * as net from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { canaries, find } from "../secrets/canaries.js"
import { isForeign } from "../secrets/messages.js"
import { type Ended, folder, run, start, until } from "./cli.js"
import { fresh, query } from "./databases.js"

/** Repeats all of a request in status, headers and body, and more that would act on a terminal. */
const acts = "\u001b[2J\u001b]0;owned\u0007\u009b31m\u202e"
let receiver: net.Server
let url = ""
beforeAll(async () => {
  receiver = net.createServer((socket) => {
    let text = ""
    socket.on("error", () => {})
    socket.on("data", (data) => {
      text += data.toString("latin1")
      const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1]
      const end = text.indexOf("\r\n\r\n")
      if (end === -1 || text.length < end + 4 + Number(length ?? 0)) return
      const path = /^\S+ \/([^\s?]*)/.exec(text)?.[1] ?? ""
      if (path === "reset") return void socket.resetAndDestroy()
      if (path === "garbage") return void socket.end(`${acts}${text}`)
      const line = text.replace(/[\r\n]+/g, " ")
      const body = `${acts}${text}${Buffer.from(text, "latin1").toString("hex")}`
      socket.end(
        `HTTP/1.1 ${
          /^\d{3}$/.test(path) ? path : "200"
        } ${line}\r\nx-echo: ${line}\r\nlocation: /?${line}\r\nconnection: close\r\n` +
          `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
      )
    })
  })
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve))
  url = `http://127.0.0.1:${(receiver.address() as net.AddressInfo).port}`
})
afterAll(() => receiver.close())

const login = `${canaries["database user"]}:${canaries["database password"]}`

const endpoint = (id: string) => ({
  id,
  url: `${url}/${id}?key=${canaries["query value"]}`,
  secrets: [
    canaries["raw secret"],
    canaries["secret in base64"],
    canaries["whsec_ secret"],
    canaries["ed25519 secret"]
  ],
  headers: {
    Authorization: `Bearer ${canaries["bearer token"]}`,
    "X-Basic": `Basic ${Buffer.from(`${canaries["basic user"]}:${canaries["basic password"]}`).toString("base64")}`,
    "X-Api-Key": canaries["header value"]
  }
})

/** An environment with every kind of secret in it. */
const environment = (...ids: ReadonlyArray<string>) => ({
  WEBHOOKS_CONFIG: JSON.stringify({ "*": ids.map(endpoint) }),
  WEBHOOKS_EGRESS_ALLOW: "127.0.0.1",
  WEBHOOKS_SECRET: `${canaries["raw secret"]} ${canaries["whsec_ secret"]}`,
  WEBHOOKS_API_TOKEN: canaries["API token"],
  WEBHOOKS_LOG_LEVEL: "all",
  WEBHOOKS_MAX_RETRIES: "1",
  WEBHOOKS_BASE_DELAY: "1ms"
})

const acting = /[^\P{Cc}\n]|[\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u

const expectClean = (what: string, { err, out }: Pick<Ended, "err" | "out">) => {
  expect(find([[`${what}: stdout`, out], [`${what}: stderr`, err]])).toEqual([])
  expect([what, [out, err].filter(isForeign)]).toEqual([what, []])
  expect([what, acting.exec(out)?.[0], acting.exec(err)?.[0]]).toEqual([what, undefined, undefined])
}

const event = `{"type":"order.created","data":{"total":42},"id":"msg_1"}\n`

describe("no secret is printed, and nothing that acts on a terminal,", () => {
  it("by commands that deliver, check and store", async () => {
    const ids = ["200", "302", "404", "503", "reset", "garbage"]
    const database = await fresh("sqlite")
    const env = { ...environment(...ids), WEBHOOKS_DATABASE_URL: database.url }
    const check = async (args: ReadonlyArray<string>, code: number, input = "") => {
      const ended = await run(args, { env, input })
      expectClean(args.join(" "), ended)
      expect([args, ended.code]).toEqual([args, code])
    }
    await inTurn([
      () => check(["config", "check"], 0),
      () => check(["dispatch"], 1, event),
      () => check(["dispatch", "--json"], 1, event),
      () => check(["deliveries", "list"], 1)
    ])
    await check(["enqueue"], 0, event)
    const { child, ended, err } = start(["worker"], { env: { ...env, WEBHOOKS_SCHEDULE: "0s,1h" } })
    await until(() => ids.every((id) => err().includes(`endpointId=${id}`)))
    child.kill("SIGTERM")
    expectClean("worker", await ended)
    await inTurn([
      () => check(["deliveries", "list"], 0),
      () => check(["deliveries", "show", "dlv_3", "--json"], 0),
      () => check(["deliveries", "show", "dlv_6"], 0),
      () => check(["messages", "show", "msg_1"], 0),
      () => check(["endpoints", "list"], 0),
      () => check(["endpoints", "test", "404"], 1),
      () => check(["endpoints", "test", "garbage", "--json"], 1),
      () => check(["endpoints", "disable", "503", "--reason", "by hand"], 0),
      () => check(["stats"], 0)
    ])
    // What is stored holds them as little, and the receiver has said all of them.
    const tables = await query(database, "SELECT name FROM sqlite_master WHERE type = 'table'")
    const rows = await Promise.all(tables.map(async ({ name }) =>
      [
        String(name),
        JSON.stringify(await query(database, `SELECT * FROM ${String(name)}`), (_, value: unknown) =>
          value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value)
      ] as const
    ))
    expect(find(rows)).toEqual([])
    expect(rows.find(([name]) => name === "webhook_attempts")?.[1]).toContain("[redacted]")
  })

  it("by a serving API and a listening receiver, whose arguments hold none either", async () => {
    const env = { ...environment("404"), WEBHOOKS_DATABASE_URL: `file:${join(folder, "served.db")}` }
    const serving = start(["serve", "--port", "0"], { env })
    const listening = start(["listen", "--port", "0"], { env })
    await Promise.all([
      until(() => /http:\/\/127\.0\.0\.1:\d+/.test(serving.out() + serving.err())),
      until(() => /http:\/\/127\.0\.0\.1:\d+/.test(listening.out()))
    ])
    const at = (text: string) => /http:\/\/127\.0\.0\.1:\d+/.exec(text)![0]
    const api = at(serving.out() + serving.err())
    const authorization = `Bearer ${canaries["API token"]}`
    for (
      const path of [
        "/v1/endpoints",
        "/v1/deliveries",
        "/v1/stats",
        `/v1/messages/${canaries["raw secret"]}.x`,
        "/openapi.json"
      ]
    ) {
      const answer = await fetch(`${api}${path}`, { headers: { authorization } })
      expectClean(path, { out: await answer.text(), err: "" })
    }
    await fetch(`${api}/v1/stats`, { headers: { authorization: `Bearer ${canaries["bearer token"]}` } })
    const tested = await fetch(`${api}/v1/endpoints/404/test`, { method: "POST", headers: { authorization } })
    expectClean("test", { out: await tested.text(), err: "" })
    expect([tested.status, serving.err()]).toEqual([200, expect.stringContaining("webhook_failed")])
    const port = Number(new URL(at(listening.out())).port)
    await new Promise<void>((resolve) => {
      const socket = net.connect(port, "127.0.0.1", () =>
        socket.write(
          `POST /%1b[2J HTTP/1.1\r\nhost: x\r\nconnection: close\r\nwebhook-id: \u009b31m\u00ad\r\nx-correlation-id: a\u0085b\r\n` +
            `authorization: ${authorization}\r\ncontent-length: 7\r\n\r\n\u001b[2J\u001b[3`,
          "latin1"
        ))
      socket.on("data", () => {}).on("close", () => resolve()).on("error", () => resolve())
    })
    await until(() => listening.out().includes("POST"))
    for (const { child } of [serving, listening]) {
      const arguments_ = readFileSync(`/proc/${child.pid}/cmdline`, "latin1")
      expect(find([["arguments", arguments_]])).toEqual([])
      expect(
        readdirSync(`/proc/${child.pid}/task`).flatMap((task) =>
          readFileSync(`/proc/${child.pid}/task/${task}/children`, "utf8").split(" ").filter((pid) => pid !== "")
        )
      ).toEqual([])
      child.kill("SIGTERM")
    }
    expectClean("serve", await serving.ended)
    expectClean("listen", await listening.ended)
  })

  it("when a database refuses the login, isn't there or isn't one", async () => {
    const { url: good } = await fresh("postgres")
    const wrong = new URL(good)
    wrong.username = canaries["database user"]
    wrong.password = canaries["database password"]
    const other = new URL(good)
    other.pathname = "/none"
    other.searchParams.set("options", canaries["query value"])
    writeFileSync(join(folder, "no.db"), `no database at all, but ${canaries["raw secret"]}`.repeat(100))
    const targets = [
      wrong.href,
      other.href,
      `postgres://${login}@127.0.0.1:1/db`,
      `postgres://${login}@nowhere.invalid/db`,
      `postgres://${login}@127.0.0.1:1/db?sslcert=/nowhere/${canaries["raw secret"]}`,
      `file:${join(folder, "no.db")}`
    ]
    await inTurn(targets.map((target, index) => async () => {
      const args = [["migrate"], ["deliveries", "list", "--json"], ["stats"]][index % 3]!
      const ended = await run(args, { env: { ...environment("200"), WEBHOOKS_DATABASE_URL: target } })
      expectClean(`${args.join(" ")} of target ${index}`, ended)
      expect([index, ended.code]).not.toEqual([index, 0])
      expect(ended.err.trim().split("\n")).toHaveLength(1)
    }))
  })

  it("when secrets stand in the wrong place of the line or of the environment", async () => {
    const whsec = canaries["whsec_ secret"]
    const token = canaries["bearer token"]
    const tried: ReadonlyArray<readonly [args: ReadonlyArray<string>, env: Record<string, string>]> = [
      [[whsec], {}],
      [["dispatch", "--json", whsec], {}],
      [["sign", "--id", "m", "--timestamp", "1", "--secret", `${whsec}!`], {}],
      [["egress", "check", `https://${token}:${token}@example.com/x?key=${token}#${token}`], {}],
      [["egress", "check", "https://example.com/", "--resolve", token], {}],
      [["config", "check"], { WEBHOOKS_CONFIG: `{"A": [{"url": "https://x:${token}@h"` }],
      [["config", "check", "--json"], {
        WEBHOOKS_CONFIG: JSON.stringify({
          A: [{ ...endpoint("200"), secrets: `${whsec}!`, headers: { "X-A": `${token}\r\nX-B: 1` } }]
        }),
        WEBHOOKS_LOG_LEVEL: token,
        WEBHOOKS_TIMEOUT: token
      }],
      [["dispatch"], { WEBHOOKS_CONFIG_FILE: whsec, WEBHOOKS_CA_FILE: `/nowhere/${token}` }],
      [["dispatch"], { WEBHOOKS_PROXY: `${canaries["proxy user"]}:${canaries["proxy password"]}@proxy` }]
    ]
    await inTurn(tried.map(([args, env]) => async () => {
      const ended = await run(args, { env: { WEBHOOKS_LOG_LEVEL: "all", ...env } })
      expectClean(args.slice(0, 2).join(" "), ended)
      expect([args, ended.code]).not.toEqual([args, 0])
    }))
  })

  it("by a fault that nobody foresaw", async () => {
    writeFileSync(
      join(folder, "fault.mjs"),
      `const timer = setInterval(() => {
        if (process.listenerCount("uncaughtException") === 0) return
        clearInterval(timer)
        throw new TypeError(process.env.WEBHOOKS_SECRET)
      }, 10)`
    )
    const env = { ...environment("200"), NODE_OPTIONS: `--import ${join(folder, "fault.mjs")}` }
    const ended = await run(["listen", "--port", "0"], { env })
    expectClean("fault", ended)
    expect(ended).toMatchObject({
      code: 1,
      err: "effect-webhooks: internal error: TypeError at fault.mjs:4; please report\n"
    })
  })

  it("by a proxy's password, or in the help of any command", async () => {
    const port = new URL(url).port
    const proxy = `http://${canaries["proxy user"]}:${canaries["proxy password"]}@127.0.0.1:${port}`
    const env = { ...environment("200"), WEBHOOKS_PROXY: proxy, WEBHOOKS_TIMEOUT: "1s", WEBHOOKS_MAX_RETRIES: "0" }
    expectClean("dispatch by proxy", await run(["dispatch"], { env, input: event }))
    const help = await run(["--help"], { env })
    expectClean("help", help)
    for (const command of ["dispatch", "serve", "sign"]) {
      expectClean(`help ${command}`, await run(["help", command], { env }))
    }
  })
})

/** Two at a time: each is a process. */
const inTurn = async (all: ReadonlyArray<() => Promise<void>>) => {
  const left = [...all]
  await Promise.all(Array.from({ length: 2 }, async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await next()
  }))
}
