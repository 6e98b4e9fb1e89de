import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as http from "node:http"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { inspect } from "node:util"
import { CircuitBreakers } from "../../src/http/CircuitBreakers.js"
import * as EgressDispatcher from "../../src/http/EgressDispatcher.js"
import * as EgressPolicy from "../../src/http/EgressPolicy.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import { dnsServer, type Said } from "../support/dns.js"
import { head } from "../support/driving.js"
import { httpPeer } from "../support/peers.js"
import { logs, quiet } from "../support/recording.js"

const rulesOf = (text: string) => Either.getOrThrow(EgressPolicy.parseRules(text))

/** The resilient client behind the guard, with this policy and these name servers. */
const guarded = (
  policy: EgressPolicy.Policy,
  options: EgressDispatcher.Options = {},
  client: ResilientHttpClient.Options = {}
) =>
  ResilientHttpClient.layer({ retry: { maxRetries: 2, baseDelay: "1 millis", jitter: 0 }, ...client }).pipe(
    Layer.provide(EgressDispatcher.layerHttpClient(options)),
    Layer.provide(Layer.succeed(EgressPolicy.EgressPolicy, policy))
  )

/** A request that doesn't go over the dispatcher itself. */
const streamed = (url: string) =>
  Effect.flatMap(
    ResilientHttpClient.ResilientHttpClient,
    (client) =>
      Effect.asVoid(
        client.execute(HttpClientRequest.bodyStream(HttpClientRequest.post(url), Stream.make(Buffer.from("x"))))
      )
  )

const allowing = (allow: string, deny = "") => EgressPolicy.make({ allow: rulesOf(allow), deny: rulesOf(deny) })

const ok = httpPeer((_, response) => {
  response.writeHead(204).end()
})

const portOf = (url: string) => Number(new URL(url).port)

const blocked = (host: string, rule: string, by: "name" | "url") => ({ _tag: "EgressBlocked", host, rule, by })

const says = (answers: Readonly<Record<string, Said>>) => dnsServer((name) => answers[name] ?? "NXDOMAIN")

describe("an address literal", () => {
  it.scopedLive("that isn't allowed is not connected to, and not retried", () =>
    Effect.gen(function*() {
      const peer = yield* ok
      const error = yield* Effect.flip(head(peer.url))
      expect(error).toMatchObject(blocked("127.0.0.1", "loopback", "url"))
      expect(peer.connections()).toBe(0)
    }).pipe(Effect.provide(guarded(EgressPolicy.defaultPolicy)), quiet))

  it.scopedLive("that is allowed gets the request as its caller wrote it, each header once", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const peer = yield* httpPeer((request, response) => {
        const { rawHeaders } = request
        const values = rawHeaders.flatMap((name, at) =>
          at % 2 === 0 && /^x-/i.test(name) ? [[name, rawHeaders[at + 1]]] : []
        )
        seen.push([request.method, request.url, values])
        response.end()
      })
      const client = yield* ResilientHttpClient.ResilientHttpClient
      for (const own of ["given", "not one"]) {
        const request = HttpClientRequest.put(`${peer.url}/a?b=c`, {
          headers: { "x-own": "1", "x-correlation-id": own }
        })
        yield* client.executeHead(Effect.succeed(request), { url: peer.url, correlationId: "cid_1" })
      }
      expect(seen).toEqual(["given", "cid_1"].map((id) => [
        "PUT",
        "/a?b=c",
        [["x-own", "1"], ["x-correlation-id", id]]
      ]))
    }).pipe(Effect.provide(guarded(allowing("127.0.0.1"))), quiet))

  it.scopedLive("that is allowed is reached", () =>
    Effect.gen(function*() {
      const peer = yield* ok
      expect(yield* head(peer.url)).toMatchObject({ status: 204 })
    }).pipe(Effect.provide(guarded(allowing("127.0.0.1"))), quiet))

  it.scopedLive("says nothing to the breaker", () =>
    Effect.gen(function*() {
      const peer = yield* ok
      for (let i = 0; i < 20; i++) yield* Effect.flip(head(peer.url))
      const breakers = yield* CircuitBreakers
      expect((yield* breakers.state(peer.url)).name).toBe("Closed")
    }).pipe(Effect.provide(guarded(EgressPolicy.defaultPolicy)), quiet))
})

describe("a name", () => {
  const to = (answers: Readonly<Record<string, Said>>, policy: EgressPolicy.Policy, host: string) =>
    Effect.gen(function*() {
      const peer = yield* ok
      const server = yield* says(answers)
      const log = logs()
      const result = yield* Effect.either(head(`http://${host}:${portOf(peer.url)}/`)).pipe(
        Effect.provide(guarded(policy, { nameServers: [server.address] })),
        Effect.provide(log.layer)
      )
      return { result, peer, questions: server.questions(), lines: log.lines }
    })

  // A range with a host's http: the policy lets a name use http only where it is listed, so the range stands in a policy of its own.
  const ranges = (allow: string): EgressPolicy.Policy => ({
    ...allowing(allow),
    decideUrl: () => ({ _tag: "Allowed", addresses: [] })
  })

  it.scopedLive("is resolved by DNS once, and what was judged is what is dialled", () =>
    Effect.gen(function*() {
      const { peer, questions, result } = yield* to(
        { "a.example.test": ["127.0.0.1"] },
        ranges("127.0.0.1"),
        "a.example.test"
      )
      expect(result).toMatchObject({ right: { status: 204 } })
      expect(peer.connections()).toBe(1)
      expect([...questions].sort()).toEqual(["A a.example.test", "AAAA a.example.test"])
    }))

  it.scopedLive("whose answer has one address that isn't allowed is blocked as a whole; the addresses are in the log only", () =>
    Effect.gen(function*() {
      const { lines, peer, result } = yield* to(
        { "a.example.test": ["127.0.0.1", "10.1.2.3"] },
        ranges("127.0.0.1"),
        "a.example.test"
      )
      expect(result).toMatchObject({ left: blocked("a.example.test", "private", "name") })
      expect(peer.connections()).toBe(0)
      expect(JSON.stringify(Either.getLeft(result))).not.toContain("10.1.2.3")
      expect(lines.filter(({ message }) => message === "egress_blocked").map(({ annotations }) => annotations)).toEqual(
        [
          expect.objectContaining({ host: "a.example.test", rule: "private", addresses: "127.0.0.1 10.1.2.3" })
        ]
      )
    }))

  it.scopedLive("with one bad address in its other family is blocked as well", () =>
    Effect.gen(function*() {
      const { peer, result } = yield* to(
        { "a.example.test": ["127.0.0.1", "::ffff:169.254.169.254"] },
        ranges("127.0.0.1"),
        "a.example.test"
      )
      expect(result).toMatchObject({ left: { _tag: "EgressBlocked", by: "name" } })
      expect(peer.connections()).toBe(0)
    }))

  it.scopedLive.each([32, 33, 1000])(
    "with %i addresses is judged by their number, too",
    (count) =>
      Effect.gen(function*() {
        const addresses = Array.from({ length: count }, (_, i) => `127.0.${i >> 8}.${i & 255}`)
        const { result } = yield* to({ "a.example.test": addresses }, ranges("127.0.0.0/8"), "a.example.test")
        if (count > 32) expect(result).toMatchObject({ left: blocked("a.example.test", "too-many-addresses", "name") })
        else expect(JSON.stringify(result)).not.toContain("EgressBlocked")
      })
  )

  it.scopedLive("that changes its answer is judged anew with each connection, and never dialled elsewhere", () =>
    Effect.gen(function*() {
      const peer = yield* httpPeer((_, response) => {
        response.writeHead(204, { connection: "close" }).end()
      })
      const server = yield* dnsServer((_, n) => n === 1 ? ["127.0.0.1"] : ["127.0.0.2"])
      const url = `http://a.example.test:${portOf(peer.url)}/`
      yield* Effect.gen(function*() {
        expect(yield* head(url)).toMatchObject({ status: 204 })
        expect(yield* Effect.flip(head(url))).toMatchObject(blocked("a.example.test", "loopback", "name"))
      }).pipe(Effect.provide(guarded(ranges("127.0.0.1"), { nameServers: [server.address] })), quiet)
      expect(peer.connections()).toBe(1)
    }))

  it.scopedLive.each(["NXDOMAIN", "SERVFAIL", []] as ReadonlyArray<Said>)(
    "that DNS answers with %o is a DNS failure, not a matter of policy",
    (said) =>
      Effect.gen(function*() {
        const { result } = yield* to({ "a.example.test": said }, ranges("127.0.0.1"), "a.example.test")
        const error = Either.getOrThrow(Either.flip(result))
        expect(ResilientHttpClient.transportFailure(error)).toMatchObject({ kind: "dns", neverLeft: true })
      })
  )

  it.scopedLive("of one family only, the other unanswered, is reached after a moment", () =>
    Effect.gen(function*() {
      const peer = yield* ok
      const server = yield* dnsServer((_, __, type) => type === "A" ? ["127.0.0.1"] : "silent")
      const result = yield* head(`http://a.example.test:${portOf(peer.url)}/`).pipe(
        Effect.provide(
          guarded(ranges("127.0.0.1"), { nameServers: [server.address] }, { attemptTimeout: "2 seconds" })
        ),
        quiet
      )
      expect(result).toMatchObject({ status: 204 })
    }))

  it.scopedLive("that nobody answers for ends with the attempt, and holds up no other", () =>
    Effect.gen(function*() {
      const peer = yield* ok
      const server = yield* dnsServer((name) => name === "a.example.test" ? ["127.0.0.1"] : "silent")
      yield* Effect.gen(function*() {
        const silent = yield* Effect.fork(
          Effect.all(
            Array.from(
              { length: 8 },
              (_, i) => Effect.flip(head(`http://silent${i}.example.test:${portOf(peer.url)}/`))
            ),
            { concurrency: "unbounded" }
          )
        )
        yield* Effect.sleep("20 millis")
        expect(yield* head(`http://a.example.test:${portOf(peer.url)}/`)).toMatchObject({ status: 204 })
        expect(silent.unsafePoll()).toBe(null)
        expect((yield* silent).map(({ _tag }) => _tag)).toEqual(Array(8).fill("AttemptTimeout"))
      }).pipe(
        Effect.provide(
          guarded(ranges("127.0.0.1"), { nameServers: [server.address] }, {
            attemptTimeout: "400 millis",
            retry: { maxRetries: 0 }
          })
        ),
        quiet
      )
    }))

  it.scopedLive("on the allow list is resolved by the system", () =>
    Effect.gen(function*() {
      const { questions, result } = yield* to({}, allowing("localhost"), "localhost")
      expect(result).toMatchObject({ right: { status: 204 } })
      expect(questions).toEqual([])
    }))

  it.scopedLive("of a cloud's metadata service asks nobody", () =>
    Effect.gen(function*() {
      const { questions, result } = yield* to(
        { "metadata.google.internal": ["127.0.0.1"] },
        allowing("0.0.0.0/0,metadata.google.internal"),
        "metadata.google.internal"
      )
      expect(result).toMatchObject({ left: blocked("metadata.google.internal", "metadata", "url") })
      expect(questions).toEqual([])
    }))
})

describe("a URL of another scheme", () => {
  for (
    const [url, host] of [
      ["ftp://files.example.test/x", "files.example.test"],
      ["ws://[::1]:81/", "[::1]"],
      ["postgres://user:s3cret@db.example.test/x", "db.example.test"],
      ["mailto:s3cret", ""]
    ] as const
  ) {
    for (
      const [way, send] of [["itself", (url: string) => Effect.asVoid(head(url))], ["a stream", streamed]] as const
    ) {
      it.scopedLive(`is blocked, and not retried: ${url} by ${way}`, () =>
        Effect.gen(function*() {
          const log = logs()
          const error = yield* Effect.flip(send(url)).pipe(
            Effect.provide(guarded(allowing("0.0.0.0/0,::/0"))),
            Effect.provide(log.layer)
          )
          expect(error).toMatchObject({ _tag: "EgressBlocked", rule: "scheme", by: "url" })
          if (way === "itself") expect(error).toMatchObject({ host })
          expect(log.lines.filter(({ message }) => message === "egress_blocked")).toHaveLength(1)
          expect(inspect([error, log.lines], { depth: 9 })).not.toContain("s3cret")
        }))
    }
  }
})

interface Row {
  readonly id: string
  readonly category: string
  readonly url: string
  readonly expect: "allow" | "block"
  readonly resolved?: ReadonlyArray<string>
  readonly rebind?: ReadonlyArray<ReadonlyArray<string>>
}

describe("the corpus", () => {
  const rows = JSON.parse(readFileSync("../shared/corpora/ssrf-urls.json", "utf8")) as ReadonlyArray<Row>
  // Only what is refused may be tried: nothing here may reach the internet. Redirects and second answers have tests of their own, userinfo is a matter of configuration.
  const refused = rows.filter((row) =>
    row.expect === "block" && URL.canParse(row.url) && row.category !== "redirect" && row.rebind === undefined &&
    !(row.category === "userinfo" && row.resolved !== undefined)
  )

  it.scopedLive.each(refused)("$id $url opens no socket", (row) =>
    Effect.gen(function*() {
      const server = yield* dnsServer(() => row.resolved ?? "NXDOMAIN")
      const connect = net.Socket.prototype.connect
      const dialled: Array<unknown> = []
      net.Socket.prototype.connect = function(this: net.Socket, ...args: Array<never>) {
        dialled.push(args)
        return Reflect.apply(connect, this, args) as net.Socket
      } as typeof connect
      const result = yield* Effect.either(head(row.url)).pipe(
        Effect.provide(
          guarded(EgressPolicy.defaultPolicy, { nameServers: [server.address] }, { retry: { maxRetries: 0 } })
        ),
        Effect.ensuring(Effect.sync(() => {
          net.Socket.prototype.connect = connect
        })),
        quiet
      )
      expect(Either.isLeft(result)).toBe(true)
      expect(dialled).toEqual([])
    }))
})

describe("TLS", () => {
  it.scoped("switched off for the process is refused at the start, wherever the settings come from", () =>
    Effect.gen(function*() {
      const exitWith = (provider: ConfigProvider.ConfigProvider) =>
        Effect.exit(Effect.scoped(EgressDispatcher.make())).pipe(
          Effect.provide(EgressPolicy.layer()),
          Effect.withConfigProvider(provider)
        )
      const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
          else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before
        })
      )
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"
      for (const provider of [ConfigProvider.fromEnv(), ConfigProvider.fromMap(new Map())]) {
        const exit = yield* exitWith(provider)
        expect(Exit.isFailure(exit) && exit.cause).toMatchObject({ error: { _tag: "TlsVerificationOff" } })
      }
      // Elsewhere it switches nothing off.
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
      const exit = yield* exitWith(ConfigProvider.fromMap(new Map([["NODE_TLS_REJECT_UNAUTHORIZED", "0"]])))
      expect(Exit.isSuccess(exit)).toBe(true)
    }))
})

describe("the environment", () => {
  const client = (env: Readonly<Record<string, string>>) =>
    Layer.build(EgressDispatcher.layerHttpClientFromEnv).pipe(
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env)))),
      Effect.provide(NodeFileSystem.layer)
    )
  const get = (url: string) => Effect.flatMap(HttpClient.HttpClient, (client) => client.get(url))

  it.scopedLive("allows and denies", () =>
    Effect.gen(function*() {
      const peer = yield* ok
      const allowed = yield* client({ WEBHOOKS_EGRESS_ALLOW: "127.0.0.0/8" })
      expect((yield* Effect.provide(get(peer.url), allowed)).status).toBe(204)
      const denied = yield* client({ WEBHOOKS_EGRESS_ALLOW: "127.0.0.0/8", WEBHOOKS_EGRESS_DENY: "127.0.0.1" })
      expect(yield* Effect.flip(Effect.provide(get(peer.url), denied))).toMatchObject({
        _tag: "RequestError",
        cause: blocked("127.0.0.1", "denied", "url")
      })
      expect(peer.connections()).toBe(1)
    }).pipe(quiet))

  it.scopedLive.each([
    [{ WEBHOOKS_CA_FILE: "no-such-file.pem" }, "WEBHOOKS_CA_FILE: names no file that can be read (PEM, at most 1 MiB)"],
    [{ WEBHOOKS_CA_FILE: "." }, "WEBHOOKS_CA_FILE: names no file that can be read (PEM, at most 1 MiB)"],
    [{ WEBHOOKS_CA_FILE: "package.json" }, "WEBHOOKS_CA_FILE: names a file without a certificate in PEM form"],
    [{ WEBHOOKS_PROXY: "proxy-s3cret" }, "WEBHOOKS_PROXY: is not the URL of a proxy; write http://HOST:PORT"],
    [{ WEBHOOKS_PROXY: "socks5://p:s3cret@a:1" }, "WEBHOOKS_PROXY: is not the URL of a proxy; write http://HOST:PORT"],
    [
      { WEBHOOKS_PROXY_FILE: "no-such-s3cret" },
      "WEBHOOKS_PROXY_FILE: names no file that can be read (a URL, at most 64 KiB)"
    ],
    [{ WEBHOOKS_PROXY_FILE: "/dev/zero" }, "WEBHOOKS_PROXY_FILE: names no file that can be read"],
    [
      { WEBHOOKS_PROXY_FILE: "package.json" },
      "WEBHOOKS_PROXY_FILE: names a file that doesn't hold the URL of a proxy; write http://HOST:PORT"
    ],
    [
      { WEBHOOKS_PROXY: "http://p:s3cret@a:1", WEBHOOKS_PROXY_FILE: "s3cret" },
      "WEBHOOKS_PROXY: is set together with WEBHOOKS_PROXY_FILE; set one of the two"
    ],
    [{ WEBHOOKS_EGRESS_DENY: "a b" }, "entry 1: is not a host name"]
  ] as ReadonlyArray<readonly [Record<string, string>, string]>)(
    "refuses %o",
    ([env, message]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(client(env))
        expect(error.message).toContain(message)
        expect(inspect(error, { depth: 10 })).not.toContain("s3cret")
      })
  )

  it.scopedLive("proxies only when told to; what the URL says is judged all the same", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const target = yield* ok
      const proxy = yield* Effect.acquireRelease(
        Effect.async<http.Server>((resume) => {
          const server = http.createServer()
          server.on("connect", (request, socket) => {
            asked.push(request.url ?? "")
            const through = net.connect(portOf(target.url), "127.0.0.1", () => {
              socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
              through.pipe(socket).pipe(through)
            })
            socket.on("error", () => through.destroy())
            through.on("error", () => socket.destroy())
          })
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = proxy.address() as net.AddressInfo
      const allow = { WEBHOOKS_EGRESS_ALLOW: "hooks.example.test" }
      const file = yield* Effect.acquireRelease(
        Effect.sync(() => join(mkdtempSync(join(tmpdir(), "effect-webhooks-")), "proxy")),
        (path) => Effect.sync(() => rmSync(dirname(path), { recursive: true }))
      )
      writeFileSync(file, `http://127.0.0.1:${port}\n`)
      const inFile = yield* client({ ...allow, WEBHOOKS_PROXY: " ", WEBHOOKS_PROXY_FILE: file })
      expect((yield* Effect.provide(get("http://hooks.example.test/in"), inFile)).status).toBe(204)
      const through = yield* client({ ...allow, WEBHOOKS_PROXY: `http://127.0.0.1:${port}` })
      expect((yield* Effect.provide(get("http://hooks.example.test/in"), through)).status).toBe(204)
      expect(asked.splice(0, 1)).toEqual(["hooks.example.test:80"])
      expect(asked).toEqual(["hooks.example.test:80"])
      expect(yield* Effect.flip(Effect.provide(get("https://10.0.0.1/in"), through)))
        .toMatchObject({ cause: blocked("10.0.0.1", "private", "url") })
      expect(asked).toHaveLength(1)
    }).pipe(quiet))
})
