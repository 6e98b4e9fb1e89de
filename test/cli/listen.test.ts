import { createHmac } from "node:crypto"
import { once } from "node:events"
import * as http from "node:http"
import * as net from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { json, run, type Running, start, until } from "./cli.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

const listen = async (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) => {
  const running = start(["listen", "--port", "0", "--json", ...args], { env })
  await until(() => running.out().includes("\n") || running.err() !== "")
  expect(running.err()).toBe("")
  const [first] = json(running.out())
  expect(first).toEqual({ listening: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) })
  return { running, url: first.listening as string }
}

const post = (
  url: string,
  body: string | Uint8Array,
  headers: http.OutgoingHttpHeaders = {}
): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", headers, agent: false }, (response) => {
      response.resume()
      response.on("end", () => resolve(response.statusCode))
    })
    request.on("error", reject)
    request.end(body)
  })

const signed = async (body: string, id = "msg_1") =>
  json(
    (await run(["sign", "--id", id, "--timestamp", String(Math.floor(Date.now() / 1000)), "--json"], {
      input: body,
      env: { WEBHOOKS_SECRET: secret }
    })).out
  )[0]

const stop = async (running: Running, signal: NodeJS.Signals, err = "") => {
  running.child.kill(signal)
  expect(await running.ended).toMatchObject({ code: 0, signal: null, err })
}

/** Writes text to a socket and closes it a little later. */
const raw = (url: string, text: string): Promise<void> =>
  new Promise((resolve) => {
    const socket = net.connect(Number(new URL(url).port), "127.0.0.1", () => {
      socket.write(text, () => setTimeout(() => socket.destroy(), 50))
    })
    socket.on("error", () => undefined).on("close", () => resolve())
  })

describe("with a secret", () => {
  let running: Running
  let url: string
  beforeAll(async () => {
    ;({ running, url } = await listen(["--respond", "503,503,200"], { WEBHOOKS_SECRET: secret }))
  })
  afterAll(() => stop(running, "SIGTERM"))
  const lines = () => running.out().split("\n").length
  /** Posts; the answer comes before the line about it is read here. */
  const told = async (...args: Parameters<typeof post>) => {
    const before = lines()
    const status = await post(...args)
    await until(() => lines() > before)
    return status
  }
  /** Posts, and what is shown of it. */
  const shown = async (...args: Parameters<typeof post>) => {
    await told(...args)
    return json(running.out()).at(-1)
  }

  it("answers in order, and the last again", async () => {
    const statuses = []
    const before = lines()
    for (let n = 0; n < 4; n++) statuses.push(await told(url, ""))
    expect(statuses).toEqual([503, 503, 200, 200])
    // The answers come before the lines, which the next test must not take for its own.
    await until(() => lines() === before + 4)
  })

  it("shows a request and that its signature is valid", async () => {
    expect(await shown(`${url}/hook?x=1`, "héllo", await signed("héllo"))).toEqual({
      method: "POST",
      path: "/hook?x=1",
      headers: expect.objectContaining({ "webhook-id": "msg_1", host: url.slice(7) }),
      body: "héllo",
      signature: "valid"
    })
  })

  it("tells unsigned from invalid", async () => {
    expect(await shown(url, "x", { "webhook-id": "m" })).toMatchObject({ body: "x", signature: "unsigned" })
    expect(await shown(url, "y", await signed("x"))).toMatchObject({
      body: "y",
      signature: "invalid",
      reason: "no-match"
    })
    expect(await shown(url, "y", { "webhook-signature": "v1,x" })).toMatchObject({
      signature: "invalid",
      reason: "missing-header"
    })
    expect(await shown(url, "y", { "x-webhook-signature": createHmac("sha256", secret).update("y").digest("hex") }))
      .toMatchObject({ signature: "valid" })
    expect(await shown(url, "z", { "x-webhook-signature": createHmac("sha256", secret).update("y").digest("hex") }))
      .toMatchObject({ signature: "invalid", reason: "no-match" })
  })

  it("keeps bytes that are not UTF-8", async () => {
    expect(await shown(url, Buffer.from([0xff, 0xfe, 0x00, 0x80]))).toMatchObject({
      bodyBase64: "//4AgA==",
      signature: "unsigned"
    })
  })

  it("bounds bodies", async () => {
    expect(await told(url, Buffer.alloc(1_048_576))).toBe(200)
    expect(await told(url, Buffer.alloc(1_048_577))).toBe(413)
    expect(await shown(url, Buffer.alloc(1_048_577))).toMatchObject({
      body: "",
      signature: "invalid",
      reason: "body-too-large"
    })
  })

  it("escapes what a terminal would obey", async () => {
    const body = "\u009b31m \u202e \u007f \u{e0041} é"
    expect(await shown(url, body)).toMatchObject({ body })
    expect(running.out()).toContain("\"body\":\"\\u009b31m \\u202e \\u007f \\udb40\\udc41 é\"")
  })

  it("says that its port is in use", async () => {
    const { port } = new URL(url)
    expect(await run(["listen", "--port", port])).toMatchObject({
      code: 1,
      out: "",
      err: `effect-webhooks: cannot listen on 127.0.0.1:${port}: the port is in use\n`
    })
  })
})

describe("listen", () => {
  it("tells of a request that breaks off, of one that Node.js would answer by itself, and of what isn't HTTP", async () => {
    const { running, url } = await listen(["--respond", "204"])
    await raw(url, "POST /half HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab")
    await raw(url, "nonsense\r\n\r\n")
    await raw(url, "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example\r\n\r\n")
    expect(await post(url, "x", { expect: "miracles" })).toBe(204)
    expect(await post(url, "after")).toBe(204)
    // A sender may have its answer before the line about it is read here.
    await until(() => running.out().split("\n").length > 5)
    expect(json(running.out()).slice(1)).toMatchObject([
      { method: "POST", path: "/half", body: "ab", signature: "invalid", reason: "incomplete" },
      { method: "CONNECT", path: "a.example:443", body: "", signature: "unsigned" },
      { method: "POST", body: "x" },
      { method: "POST", body: "after" }
    ])
    await stop(
      running,
      "SIGINT",
      "a connection sent something that is not HTTP, or broke off before its request was whole\n"
    )
  })

  it("waits before it answers, and has no verdict without a secret", async () => {
    const { running, url } = await listen(["--delay", "300ms"])
    const before = performance.now()
    expect(await post(url, "x", { "webhook-signature": "v1,x" })).toBe(200)
    expect(performance.now() - before).toBeGreaterThan(290)
    await until(() => running.out().split("\n").length > 2)
    expect(json(running.out()).at(-1)).toMatchObject({ signature: "invalid", reason: "no-secret" })
    await stop(running, "SIGINT")
  })

  it("shows lines to people, with control characters escaped", async () => {
    const running = start(["listen", "--port", "0", "--respond", "204", "--secret", secret])
    await until(() => running.out().includes("\n"))
    const url = running.out().trim().replace("listening on ", "")
    await post(`${url}/a`, "x", { ...await signed("x"), "x-correlation-id": "cid_1" })
    await post(url, Buffer.from("x"), { "webhook-id": "\u009b31m" })
    await until(() => running.out().split("\n").length > 3)
    expect(running.out().split("\n").slice(1)).toEqual([
      "POST /a -> 204  signature=valid  webhook-id=msg_1  x-correlation-id=cid_1",
      "POST / -> 204  signature=unsigned  webhook-id=\\u009b31m",
      ""
    ])
    await stop(running, "SIGINT")
  })

  it("ends when nobody reads it any more", async () => {
    const { running, url } = await listen([])
    // What is written before the pipe is closed at this end finds it open.
    const closed = once(running.child.stdout, "close")
    running.child.stdout.destroy()
    await closed
    await post(url, "x").catch(() => undefined)
    expect(await running.ended).toMatchObject({ code: 0, signal: null, err: "" })
  })

  it.each([
    ["--port", "65536"],
    ["--port", "http"],
    ["--respond", "200,99"],
    ["--respond", ""],
    ["--delay", "soon"],
    ["--secret", "whsec_!"]
  ])("refuses %s %j", async (...args) => {
    const ended = await run(["listen", ...args])
    expect(ended).toMatchObject({ code: 2, out: "" })
    expect(ended.err.trimEnd().split("\n")).toHaveLength(1)
  })
})
