import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { inspect } from "node:util"
import * as ApiServer from "../../src/server/ApiServer.js"
import { expectError, secret, serve, token } from "./serving.js"

const tokens = [Redacted.make("another-token-0123456789"), Redacted.make(token)]

describe("with tokens", () => {
  it.scopedLive("everything but health needs one", () =>
    Effect.gen(function*() {
      const api = yield* serve({ tokens })
      for (
        const path of ["/v1/stats", "/v1/deliveries/dlv_1", "/openapi.json", "/docs", "/nope", "/health", "/health/"]
      ) {
        const answer = yield* api.ask("GET", path, { headers: { authorization: "" } })
        expectError(answer, 401, "missing_token")
        expect(answer.headers.get("www-authenticate")).toBe("Bearer realm=\"effect-webhooks\"")
      }
      for (const shown of [secret, `${token}x`, token.slice(0, -1), `${token} ${token}`, token.toUpperCase()]) {
        const answer = yield* api.ask("GET", "/v1/stats", { headers: { authorization: `Bearer ${shown}` } })
        expectError(answer, 401, shown.includes(" ") ? "missing_token" : "unknown_token")
        expect(answer.headers.get("www-authenticate")).toContain("Bearer realm=\"effect-webhooks\"")
      }
      for (const shown of [`Basic ${token}`, token, "Bearer", "Bearer "]) {
        expectError(yield* api.ask("GET", "/v1/stats", { headers: { authorization: shown } }), 401, "missing_token")
      }
      expectError(
        yield* api.ask("POST", `/v1/stats?token=${token}`, { headers: { authorization: "" } }),
        401,
        "missing_token"
      )
      for (const path of ["/health/live", "/health/ready"]) {
        expect((yield* api.ask("GET", path, { headers: { authorization: "" } })).json).toEqual({ status: "ok" })
      }
    }))

  it.scopedLive("each of them lets in", () =>
    Effect.gen(function*() {
      const api = yield* serve({ tokens })
      for (const one of tokens) {
        for (const scheme of ["Bearer", "bearer"]) {
          const headers = { authorization: `${scheme} ${Redacted.value(one)}` }
          expect((yield* api.ask("GET", "/v1/stats", { headers })).status).toBe(200)
          expect((yield* api.ask("GET", "/docs", { headers })).status).toBe(200)
        }
      }
      // Whoever has a token may come from anywhere.
      expect(
        yield* api.raw(
          `GET /v1/stats HTTP/1.1\r\nHost: api.example.com\r\nOrigin: https://example.com\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`
        )
      )
        .toMatch(/^HTTP\/1\.1 200 /)
    }))

  it.scopedLive("no body of a stranger is read", () =>
    Effect.gen(function*() {
      const api = yield* serve({ tokens })
      const answer = yield* api.raw(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
        (received) => received.includes("\r\n\r\n{")
      )
      expect(answer).toMatch(/^HTTP\/1\.1 401 /)
    }))

  it.scopedLive("any address may be bound to", () =>
    Effect.gen(function*() {
      const api = yield* serve({ tokens, host: "0.0.0.0" })
      expect((yield* Effect.promise(() => fetch(`http://127.0.0.1:${api.port}/health/live`))).status).toBe(200)
    }))

  it.scopedLive("one that can't be sent is refused, and not told", () =>
    Effect.gen(function*() {
      for (const wrong of ["", "short", `two words of ${secret}`, `${secret}\n`, "x".repeat(513)]) {
        const error = yield* Effect.flip(serve({ tokens: [...tokens, Redacted.make(wrong)] }))
        expect(error._tag).toBe("UnusableToken")
        expect(error.message).toContain("WEBHOOKS_API_TOKEN: token 3")
        expect(inspect(error, { depth: 9 }) + JSON.stringify(error)).not.toContain(secret)
      }
    }))
})

describe("without a token", () => {
  it.scopedLive("only loopback is bound to", () =>
    Effect.gen(function*() {
      for (
        const host of [
          "0.0.0.0",
          "::",
          "192.0.2.1",
          "example.com",
          "localhost.example.com",
          "127.0.0.1.nip.io",
          "0",
          "2130706433",
          "0x7f.1",
          "127.1",
          "::ffff:127.0.0.1",
          ""
        ]
      ) {
        const error = yield* Effect.flip(serve({ host }))
        expect([host, error._tag]).toEqual([host, "TokenRequired"])
        expect(error.message).toContain("WEBHOOKS_API_TOKEN")
      }
      for (const host of ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST"]) {
        expect([host, (yield* serve({ host })).port > 0]).toEqual([host, true])
      }
    }))

  it.scopedLive("a name of somebody else's that leads here is 403", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const status = (host: string, path = "/v1/stats") =>
        Effect.map(
          api.raw(`GET ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`),
          (received) => received.slice(9, 12) + (received.includes("\"foreign_host\"") ? " foreign_host" : "")
        )
      for (
        const host of [
          "attacker.example",
          `attacker.example:${api.port}`,
          "localhost.attacker.example",
          "127.0.0.1.nip.io",
          "[::2]",
          "127.0.0.1@x",
          ""
        ]
      ) {
        expect([host, yield* status(`Host: ${host}\r\n`)]).toEqual([host, "403 foreign_host"])
      }
      expect(yield* status("")).toBe("403 foreign_host")
      expect(yield* status("Host: attacker.example\r\n", "/health/live")).toBe("403 foreign_host")
      for (
        const host of [
          "localhost",
          `localhost:${api.port}`,
          "127.0.0.1:1",
          "127.0.0.1",
          "[::1]",
          "[::1]:3000",
          "LocalHost"
        ]
      ) {
        expect([host, yield* status(`Host: ${host}\r\n`)]).toEqual([host, "200"])
      }
    }))

  it.scopedLive("a page of another site is 403", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      for (
        const origin of [
          "https://attacker.example",
          "null",
          `http://localhost:${api.port}`,
          `https://127.0.0.1:${api.port}`,
          `http://127.0.0.1:${api.port + 1}`
        ]
      ) {
        expectError(
          yield* api.ask("POST", "/v1/deliveries/dlv_1/replay", { headers: { origin } }),
          403,
          "foreign_origin"
        )
        expectError(yield* api.ask("GET", "/v1/stats", { headers: { origin } }), 403, "foreign_origin")
      }
      expect((yield* api.ask("GET", "/v1/stats", { headers: { origin: api.url } })).status).toBe(200)
    }))

  it.scopedLive("nothing lets a page of another site read an answer", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const { headers } = yield* api.ask("GET", "/v1/stats")
      expect([...headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([])
    }))
})

it.scopedLive("a port that is taken is a typed failure", () =>
  Effect.gen(function*() {
    const api = yield* serve()
    const error = yield* Effect.flip(serve({ port: api.port }))
    expect(error).toBeInstanceOf(ApiServer.ListenFailed)
    expect(error.message).toBe(
      `cannot listen on 127.0.0.1:${api.port}: another program listens there already; choose another port`
    )
    const elsewhere = yield* Effect.flip(serve({ host: "192.0.2.1", tokens }))
    expect(elsewhere.message).toContain("this machine has no such address")
  }))

it.scopedLive("two servers in one program don't share their routes", () =>
  Effect.gen(function*() {
    const [one, two] = [yield* serve(), yield* serve({ tokens })]
    expect((yield* one.ask("GET", "/v1/stats")).status).toBe(200)
    expect((yield* two.ask("GET", "/v1/stats", { headers: { authorization: "" } })).status).toBe(401)
    expect(Layer.isLayer(ApiServer.layer())).toBe(true)
  }))
