import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import * as ApiServer from "../../src/server/ApiServer.js"
import { expectError, secret, serve, type Serving, token } from "./serving.js"

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
        expect(answer.json).toMatchObject({ error: { message: expect.stringMatching(/^a token is needed: /) } })
      }
      for (const shown of [secret, `${token}x`, token.slice(0, -1), `${token} ${token}`, token.toUpperCase()]) {
        const answer = yield* api.ask("GET", "/v1/stats", { headers: { authorization: `Bearer ${shown}` } })
        expectError(answer, 401, shown.includes(" ") ? "missing_token" : "unknown_token")
        expect(answer.headers.get("www-authenticate")).toContain("Bearer realm=\"effect-webhooks\"")
      }
      const unknown = yield* api.ask("GET", "/v1/stats", { headers: { authorization: "Bearer wrong" } })
      expect(unknown.json).toMatchObject({
        error: { message: expect.stringMatching(/^the token that was sent is none of this server's: /) }
      })
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
      // Whoever has a token may come from any page.
      expect(
        yield* api.raw(
          `GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nOrigin: https://example.com\r\nSec-Fetch-Site: cross-site\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`
        )
      )
        .toMatch(/^HTTP\/1\.1 200 /)
    }))

  it.scopedLive("no body of a stranger is read", () =>
    Effect.gen(function*() {
      const api = yield* serve({ tokens })
      const answer = yield* api.raw(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
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

  it.scopedLive("a target that is a whole URL, or two names, can't get round it", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      const status = (target: string, hosts: string) =>
        Effect.map(api.raw(`GET ${target} HTTP/1.1\r\n${hosts}Connection: close\r\n\r\n`), (text) => text.slice(9, 12))
      expect(yield* status("http://attacker.example/v1/stats", "Host: localhost\r\n")).toBe("403")
      expect(yield* status("http://localhost@attacker.example/v1/stats", "Host: localhost\r\n")).toBe("403")
      expect(yield* status("http://localhost/v1/stats", "Host: attacker.example\r\n")).toBe("200")
      expect(yield* status("/v1/stats", "Host: localhost\r\nHost: attacker.example\r\n")).toBe("403")
    }))

  it.scopedLive("a form or a script of another site changes nothing", () =>
    Effect.gen(function*() {
      const api = yield* serve()
      yield* api.post("/v1/events", { type: "order.paid", data: 1 })
      const [{ id }] = (yield* api.ask("GET", "/v1/deliveries")).json.deliveries
      const paths = [`/v1/deliveries/${id}/cancel`, `/v1/deliveries/${id}/replay`, "/v1/endpoints/orders/test"]
      const json = "application/json"
      for (const path of paths) {
        for (
          const [status, headers] of [
            // A browser of today, by any of what it says; one that says nothing of it, by what a form can be.
            [403, { origin: "https://attacker.example", "content-type": json }],
            [403, { origin: "null" }],
            [403, { "sec-fetch-site": "cross-site" }],
            [403, { "sec-fetch-site": "same-site", "content-type": json }],
            [403, { origin: api.url, "sec-fetch-site": "cross-site" }],
            [415, { "content-type": "application/x-www-form-urlencoded" }],
            [415, { "content-type": "text/plain;charset=UTF-8" }],
            [415, { "content-type": "multipart/form-data; boundary=x" }]
          ] as const
        ) {
          expect([headers, (yield* api.ask("POST", path, { headers })).status]).toEqual([headers, status])
          const { status: withBody } = yield* api.ask("POST", path, { headers, body: new Uint8Array([0x7b, 0x7d]) })
          expect([headers, withBody]).toEqual([headers, status])
        }
        expect((yield* api.ask("POST", path, { body: new Uint8Array(1) })).status).toBe(415)
      }
      expect((yield* api.ask("GET", `/v1/deliveries/${id}`)).json).toMatchObject({ state: "pending", attempts: 0 })
      // What is of this site, or of no page at all, does.
      const own = { origin: api.url, "sec-fetch-site": "same-origin" }
      expect((yield* api.ask("POST", paths[0]!, { headers: own })).status).toBe(200)
      expect((yield* api.ask("POST", paths[1]!, { headers: { "content-type": json } })).status).toBe(200)
      expect((yield* api.ask("POST", paths[1]!)).status).toBe(200)
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

  it.scopedLive("nothing lets a page of another site read an answer, and a preflight gets nothing", () =>
    Effect.gen(function*() {
      const [open, closed] = [yield* serve(), yield* serve({ tokens })]
      const preflight = {
        headers: {
          "access-control-request-headers": "authorization, content-type",
          "access-control-request-method": "POST",
          "access-control-request-private-network": "true"
        }
      }
      for (const api of [open, closed]) {
        for (const origin of [{ origin: api.url }, { origin: "https://attacker.example" }]) {
          const answers = [
            yield* api.ask("GET", "/v1/stats", { headers: origin }),
            yield* api.ask("OPTIONS", "/v1/events", { headers: { ...origin, ...preflight.headers, authorization: "" } })
          ]
          for (const { headers } of answers) {
            expect([...headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([])
            expect(headers.get("cross-origin-resource-policy")).toBe("same-origin")
          }
          expect(answers[1]!.status).toBeGreaterThanOrEqual(400)
        }
      }
    }))
})

describe("the names that a server is asked by", () => {
  /** Status of a request with this `Host`, with the token or without. */
  const asker = (api: Serving) => (host: string | undefined, path = "/v1/stats", shown = token) =>
    Effect.map(
      api.raw(
        `GET ${path} HTTP/1.1\r\n${
          host === undefined ? "" : `Host: ${host}\r\n`
        }Authorization: Bearer ${shown}\r\nConnection: close\r\n\r\n`
      ),
      (text) => Number(text.slice(9, 12))
    )

  it.scopedLive("on loopback are those of loopback, token or not, and what is listed", () =>
    Effect.gen(function*() {
      const ask = asker(yield* serve({ tokens }))
      for (const host of ["attacker.example", "192.0.2.1", "[2001:db8::1]", undefined]) {
        for (const path of ["/v1/stats", "/nope"]) expect(yield* ask(host, path)).toBe(403)
        // A probe may name none.
        expect(yield* ask(host, "/health/live")).toBe(host === undefined ? 200 : 403)
        expect(yield* ask(host, "/v1/stats", "wrong-0123456789abcdef")).toBe(403)
      }
      expect(yield* ask("localhost:3000")).toBe(200)
      const listed = yield* serve({ hosts: ["Hooks.Example.com", "2001:db8:0::1", "other.example."] })
      const named = asker(listed)
      for (
        const host of ["hooks.example.com", "HOOKS.example.com.:8443", "[2001:db8::1]:80", "other.example", "[::1]"]
      ) {
        expect([host, yield* named(host)]).toEqual([host, 200])
      }
      for (
        const host of ["example.com", "x.hooks.example.com", "hooks.example.com.attacker.example", "[2001:db8::2]"]
      ) {
        expect([host, yield* named(host)]).toEqual([host, 403])
      }
      // A proxy before it may speak TLS; this machine's own names don't.
      const page = (host: string, origin: string) =>
        Effect.map(
          listed.raw(`GET /v1/stats HTTP/1.1\r\nHost: ${host}\r\nOrigin: ${origin}\r\nConnection: close\r\n\r\n`),
          (text) => Number(text.slice(9, 12))
        )
      expect(yield* page("hooks.example.com", "https://hooks.example.com")).toBe(200)
      expect(yield* page("hooks.example.com", "https://example.com")).toBe(403)
      expect(yield* page("localhost", "https://localhost")).toBe(403)
    }))

  it.scopedLive("on all addresses are any address, and of names those that are listed", () =>
    Effect.gen(function*() {
      for (const hosts of [[], ["hooks.example.com"]]) {
        const ask = asker(yield* serve({ tokens, host: "0.0.0.0", hosts }))
        for (const own of ["192.0.2.1:80", "[2001:db8::1]", "localhost", ...hosts]) {
          expect([own, yield* ask(own), yield* ask(own, "/health/live", "none")]).toEqual([own, 200, 200])
          expect(yield* ask(own, "/nope", "wrong-0123456789abcdef")).toBe(401)
        }
        for (const foreign of ["attacker.example", "1.attacker.example", "127.0.0.1.nip.io", "hooks", undefined]) {
          expect([foreign, yield* ask(foreign), yield* ask(foreign, "/health/live", "none")])
            .toEqual([foreign, 403, foreign === undefined ? 200 : 403])
        }
      }
    }))

  it.scopedLive("are refused where they aren't any", () =>
    Effect.gen(function*() {
      for (
        const wrong of [
          "",
          "https://a.example",
          "a.example:80",
          "a b",
          "caf\u00e9.example",
          "*.example",
          "a..b",
          "[::1]"
        ]
      ) {
        const error = yield* Effect.flip(serve({ hosts: ["a.example", wrong] }))
        expect([error._tag, error.message]).toEqual([
          "UnusableHost",
          expect.stringContaining("WEBHOOKS_API_HOSTS: name 2")
        ])
      }
    }))
})

describe("whoever has no token", () => {
  it.scopedLive("gets the same answer, whatever was asked for", () =>
    Effect.gen(function*() {
      const api = yield* serve({ tokens })
      yield* api.post("/v1/events", { type: "order.paid", data: 1, id: "there" })
      const json = "Content-Type: application/json\r\n"
      const requests = [
        "GET /v1/stats",
        "GET /docs",
        "GET /openapi.json",
        "GET /nope",
        "DELETE /v1/stats",
        "OPTIONS *",
        "GET /v1/messages/there",
        "GET /v1/messages/not-there",
        "GET /v1/messages/%zz",
        "GET /v1/deliveries?limit=0&nope=1",
        "POST /v1/deliveries/dlv_1/replay",
        "POST /health/../v1/events",
        "GET /health/live/../../v1/stats",
        "GET /%68ealth/live",
        ["POST /v1/events", `${json}Content-Length: 1\r\n`, "{"],
        ["POST /v1/events", "Content-Type: text/plain\r\nContent-Length: 2\r\n", "{}"],
        ["POST /v1/events", `${json}Content-Length: 99999999\r\n`, ""],
        ["POST /v1/events", `${json}Idempotency-Key: two words\r\nContent-Length: 2\r\n`, "{}"],
        ["POST /v1/events", `${json}Transfer-Encoding: chunked\r\n`, ""]
      ]
      const answers = yield* Effect.forEach(requests, (request) => {
        const [line = "", headers = "", body = ""] = typeof request === "string" ? [request] : request
        return Effect.map(
          api.raw(`${line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n${body}`, (received) =>
            received.includes("\r\n\r\n{")),
          (text) =>
            text.replace(/^(?:date|x-correlation-id): .*\r\n/gim, "").replace(/\}\}.*$/s, "}}")
        )
      })
      expect(answers[0]).toMatch(/^HTTP\/1\.1 401 /)
      expect(answers).toEqual(answers.map(() => answers[0]))
      const [head] = [yield* api.raw("HEAD /nope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")]
      expect(head).toMatch(/^HTTP\/1\.1 401 /)
    }))

  it.scopedLive("writes into no trace of somebody else's", () =>
    Effect.gen(function*() {
      const parents: Array<string | undefined> = []
      const tracer = Tracer.make({
        context: (execute) => execute(),
        span: (name, parent, context, links, startTime, kind) => {
          const span: Tracer.Span = {
            _tag: "Span",
            spanId: "2".repeat(16),
            traceId: "2".repeat(32),
            name,
            parent,
            context,
            links,
            kind,
            sampled: true,
            attributes: new Map(),
            status: { _tag: "Started", startTime },
            end: () => {},
            attribute: () => {},
            event: () => {},
            addLinks: () => {}
          }
          if (name === "ApiServer.request") parents.push(Option.getOrUndefined(parent)?.traceId)
          return span
        }
      })
      const api = yield* Effect.withTracer(serve({ tokens }), tracer)
      const trace = "1".repeat(32)
      const headers = { traceparent: `00-${trace}-${"1".repeat(16)}-01` }
      yield* api.ask("GET", "/v1/stats", { headers })
      yield* api.ask("GET", "/v1/stats", { headers: { ...headers, authorization: "" } })
      yield* api.ask("GET", "/v1/stats", { headers: { ...headers, authorization: "Bearer wrong-0123456789abcdef" } })
      expect(parents).toEqual([trace, undefined, undefined])
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
