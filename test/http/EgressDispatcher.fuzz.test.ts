import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import { readFileSync } from "node:fs"
import * as net from "node:net"
import * as EgressDispatcher from "../../src/http/EgressDispatcher.js"
import * as EgressPolicy from "../../src/http/EgressPolicy.js"
import { dnsServer } from "../support/dns.js"
import { quiet } from "../support/recording.js"

const corpus =
  (JSON.parse(readFileSync("../shared/corpora/ssrf-urls.json", "utf8")) as ReadonlyArray<{ readonly url: string }>)
    .map(({ url }) => url)

const special = [
  "127.0.0.1",
  "10.0.0.1",
  "169.254.169.254",
  "::1",
  "::ffff:127.0.0.1",
  "fd00:ec2::254",
  "0.0.0.0",
  "64:ff9b::7f00:1",
  "168.63.129.16"
]
const publicOnes = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"]

const address = fc.oneof(fc.constantFrom(...special, ...publicOnes), fc.ipV4(), fc.ipV6())

const host = fc.oneof(
  address.map((text) => text.includes(":") ? `[${text}]` : text),
  fc.ipV4Extended(),
  fc.domain(),
  fc.constantFrom(
    "localhost",
    "metadata.google.internal",
    "a.example.test",
    "kubernetes",
    "127.1",
    "0x7f.1",
    "017700000001"
  ),
  fc.string()
)

const url = fc.oneof(
  fc.constantFrom(...corpus),
  fc.tuple(
    fc.constantFrom("https://", "http://", "HTTPS:", "https:/\\", "//", "ftp://", "https://u:p@", "https://1.1.1.1@"),
    host,
    fc.oneof(fc.constant(""), fc.integer({ min: -1, max: 70_000 }).map((port) => `:${port}`)),
    fc.constantFrom("", "/", "/hook?x=1", "#@127.0.0.1", "\\@10.0.0.1/")
  ).map((parts) => parts.join("")),
  fc.tuple(fc.constantFrom(...corpus), fc.nat(), fc.string({ maxLength: 3 })).map(([text, at, more]) => {
    const cut = at % (text.length + 1)
    return text.slice(0, cut) + more + text.slice(cut)
  }),
  fc.webUrl(),
  fc.string()
)

/** Where sockets would have gone: every address that a connection may dial. None is dialled. */
const recording = Effect.acquireRelease(
  Effect.sync(() => {
    const connect = net.Socket.prototype.connect
    const dialled: Array<readonly [address: string, port: number]> = []
    net.Socket.prototype.connect = function(this: net.Socket, ...args: ReadonlyArray<unknown>) {
      const options = (Array.isArray(args[0]) ? args[0][0] : args[0]) as net.TcpNetConnectOpts
      if (net.isIP(options.host ?? "") !== 0) dialled.push([options.host!, options.port])
      else {
        options.lookup?.(options.host ?? "", { all: true }, (_, found) => {
          for (const { address } of found as ReadonlyArray<{ readonly address: string }>) {
            dialled.push([address, options.port])
          }
        })
      }
      process.nextTick(() => this.destroy(Object.assign(new Error(), { code: "ECONNREFUSED", syscall: "connect" })))
      return this
    } as typeof connect
    return {
      dialled,
      restore: () => {
        net.Socket.prototype.connect = connect
      }
    }
  }),
  ({ restore }) => Effect.sync(restore)
)

it.scopedLive(
  "whatever is given as a URL is refused, or dials only what the policy allows",
  () =>
    Effect.gen(function*() {
      let answers: ReadonlyArray<string> = []
      const server = yield* dnsServer(() => answers)
      const { dialled } = yield* recording
      const client = yield* Layer.build(
        EgressDispatcher.layerHttpClient({ nameServers: [server.address] }).pipe(Layer.provide(EgressPolicy.layer()))
      ).pipe(quiet)
      const counts = { refused: 0, dialled: 0 }
      const check = fc.asyncProperty(url, fc.array(address, { minLength: 1, maxLength: 3 }), async (text, said) => {
        answers = said
        dialled.length = 0
        const result = await Effect.runPromise(
          Effect.either(
            Effect.flatMap(HttpClient.HttpClient, (client) => client.execute(HttpClientRequest.post(text)))
          ).pipe(Effect.provide(client))
        )
        // Nothing answers here: an error of the client is all that can come.
        expect(result._tag).toBe("Left")
        counts[dialled.length === 0 ? "refused" : "dialled"]++
        for (const [to, port] of dialled) {
          expect(
            EgressPolicy.defaultPolicy.decide(to, port, []),
            `${JSON.stringify(text)} (${said.join(" ")}) dialled ${to} ${port}`
          )
            .toMatchObject({ _tag: "Allowed" })
        }
      })
      yield* Effect.promise(() => fc.assert(check, { numRuns: 1500 }))
      // Both happened, so that neither half of the property is empty.
      expect(counts.refused).toBeGreaterThan(100)
      expect(counts.dialled).toBeGreaterThan(100)
    }),
  60_000
)
