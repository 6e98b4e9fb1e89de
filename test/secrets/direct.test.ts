/** The canary test of the direct path: every end that a delivery can come to, over real sockets, with a receiver that repeats all that it was sent. */
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as EgressPolicy from "../../src/http/EgressPolicy.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import { Endpoint } from "../../src/webhooks/Endpoint.js"
import * as Endpoints from "../../src/webhooks/Endpoints.js"
import * as WebhookDispatcher from "../../src/webhooks/WebhookDispatcher.js"
import * as WebhookEvent from "../../src/webhooks/WebhookEvent.js"
import type * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import { dnsServer } from "../support/dns.js"
import * as Certificates from "../support/hostile/certificates.js"
import { closedPort } from "../support/peers.js"
import { canaries, find } from "./canaries.js"
import { isOurs } from "./messages.js"
import { client, echo, endpoint, headers, local, withUserinfo } from "./sending.js"
import { seeExit, type Watch, watch } from "./watching.js"

/** Sends one event to the endpoints, over a client of its own, and gives the reports by endpoint. */
const dispatch = (
  to: Watch,
  endpoints: ReadonlyArray<Endpoint>,
  over: ReturnType<typeof client>,
  times = 1
): Effect.Effect<Readonly<Record<string, WebhookSender.DeliveryReport>>> =>
  Effect.gen(function*() {
    const { dispatch } = yield* WebhookDispatcher.WebhookDispatcher
    const event = yield* WebhookEvent.make({ type: "order.created", aggregateId: "o-1", data: { total: 42 } })
    const reports: Record<string, WebhookSender.DeliveryReport> = {}
    for (let n = 0; n < times; n++) {
      for (const report of (yield* dispatch(event)).deliveries) {
        to.see(`report of ${report.endpointId}`, report)
        if (report.error !== undefined) to.see(`error of ${report.endpointId}`, report.error)
        reports[report.endpointId] = report
      }
    }
    for (const one of endpoints) to.see(`endpoint ${one.id}`, one)
    return reports
  }).pipe(
    Effect.provide(
      WebhookDispatcher.layerWithoutEndpoints({
        onAttempt: (attempt) => Effect.sync(() => to.see("onAttempt", attempt)),
        onDelivery: (delivery) => Effect.sync(() => to.see("onDelivery", delivery))
      }).pipe(
        Layer.provide(Endpoints.layerOf(endpoints)),
        Layer.provide(over)
      )
    ),
    Effect.provide(to.layer),
    Effect.orDie
  )

/** How each ended: outcome, class or status. */
const ends = (reports: Readonly<Record<string, WebhookSender.DeliveryReport>>) =>
  Object.fromEntries(
    Object.entries(reports).map(([id, { class: failure, outcome, status }]) => [id, status ?? failure ?? outcome])
  )

const expectOurs = (reports: Readonly<Record<string, WebhookSender.DeliveryReport>>) => {
  for (const { error } of Object.values(reports)) {
    if (error !== undefined) expect(isOurs(error.message), error.message).toBe(true)
  }
}

const at = (url: string, ...paths: ReadonlyArray<string>) =>
  Effect.forEach(paths, (path) => endpoint(path, `${url}/${path}`))

const scenario = (run: (to: Watch) => Effect.Effect<void, never, Scope.Scope>) =>
  Effect.suspend(() => {
    const to = watch()
    return Effect.map(run(to), () => to.expectClean())
  })

describe("no secret shows when", () => {
  it.scopedLive("a receiver answers, and repeats all that it was sent", () =>
    scenario((to) =>
      Effect.gen(function*() {
        const peer = yield* echo()
        const made = yield* at(peer.url, "200", "204", "302", "400", "404", "410", "429", "500", "503", "999", "2000")
        const user = withUserinfo(made[0]!, "userinfo")
        const reports = yield* dispatch(to, [...made, user], client())
        expect(ends(reports)).toEqual({
          200: 200,
          204: 204,
          302: 302,
          400: 400,
          404: 404,
          410: 410,
          429: 429,
          500: 500,
          503: 503,
          999: 999,
          2000: "protocol",
          userinfo: 200
        })
        expectOurs(reports)
        // They were there to be told, and the answer that repeats them was read.
        const told = find([["request", peer.received.join("\n")]]).map(({ canary }) => canary)
        expect(told).toEqual(
          expect.arrayContaining(["bearer token", "basic user", "basic password", "header value", "query value"])
        )
        expect(reports["404"]?.excerpt).toContain("[redacted]")
        expect(to.spanNames()).toEqual(["ResilientHttpClient.attempt", "WebhookDispatcher.dispatch"])
        expect(to.lines.some((line) => line.includes("http_retry"))).toBe(true)
      })
    ))

  it.scopedLive("a connection fails or breaks, or nothing comes of it", () =>
    scenario((to) =>
      Effect.gen(function*() {
        const peer = yield* echo()
        const made = yield* at(peer.url, "reset", "silent", "garbage", "length", "broken")
        const refused = yield* endpoint("refused", `${yield* closedPort}/x`)
        const reports = yield* dispatch(to, [...made, refused], client())
        expect(ends(reports)).toEqual({
          reset: "connection",
          silent: "timeout",
          garbage: "protocol",
          length: "protocol",
          broken: 200,
          refused: "connect"
        })
        expectOurs(reports)
      })
    ))

  it.scopedLive("TLS fails", () =>
    scenario((to) =>
      Effect.gen(function*() {
        const { ca, expired, selfSigned, valid, wrongName } = yield* Effect.promise(Certificates.make)
        const peers = yield* Effect.forEach(
          Object.entries({ expired, selfSigned, valid, wrongName }),
          ([id, certificate]) => Effect.flatMap(echo(certificate), ({ url }) => endpoint(id, `${url}/404`))
        )
        const plain = yield* Effect.flatMap(echo(), ({ url }) =>
          endpoint("plain", `${url.replace("http:", "https:")}/200`))
        const reports = yield* dispatch(to, [...peers, plain], client({}, { ca }))
        expect(ends(reports)).toEqual({ expired: "tls", selfSigned: "tls", valid: 404, wrongName: "tls", plain: "tls" })
        expectOurs(reports)
        // What a certificate says of itself is the peer's text.
        for (const [where, text] of to.texts()) {
          expect(`${where}: ${text}`).not.toContain("somebody-else")
        }
      })
    ))

  it.scopedLive("a name can't be resolved, or the egress policy blocks", () =>
    scenario((to) =>
      Effect.gen(function*() {
        const server = yield* dnsServer((name) =>
          name.startsWith("private") ? ["10.1.2.3"] : name.startsWith("servfail") ? "SERVFAIL" : "NXDOMAIN"
        )
        const peer = yield* echo()
        const named = yield* Effect.forEach(
          ["nxdomain", "servfail", "private"],
          (id) => endpoint(id, `https://${id}.example.net/hook`)
        )
        const literal = yield* endpoint("literal", `${peer.url}/200`)
        const nothing = EgressPolicy.defaultPolicy
        const reports = yield* dispatch(to, [...named, literal], client({}, { nameServers: [server.address] }, nothing))
        expect(ends(reports)).toEqual({ nxdomain: "dns", servfail: "dns", private: "blocked", literal: "blocked" })
        expectOurs(reports)
        expect(peer.connections()).toBe(0)
        expect(to.lines.filter((line) => line.includes("egress_blocked"))).toHaveLength(2)
      })
    ))

  it.scopedLive("a breaker is open, the retry budget is used up, all secrets have expired, or a delivery is stopped", () =>
    scenario((to) =>
      Effect.gen(function*() {
        const peer = yield* echo()
        const broken = yield* at(peer.url, "503")
        const opened = yield* dispatch(
          to,
          broken,
          client({ retry: { maxRetries: 0 }, breaker: { consecutiveFailures: 2 } }),
          3
        )
        expect(ends(opened)).toEqual({ 503: "circuit-open" })
        const poor = yield* dispatch(
          to,
          broken,
          client({ budget: { ratio: 0, perSecond: 0 }, retry: { maxRetries: 3 } })
        )
        expect(poor["503"]).toMatchObject({ class: "budget", attempts: 1 })
        const { secrets, ...fields } = yield* endpoint("late", `${peer.url}/200`)
        const late = new Endpoint({ ...fields, secrets: secrets.filter(({ expiresAt }) => expiresAt !== undefined) })
        const unsent = yield* dispatch(to, [late], client())
        expect(unsent["late"]).toMatchObject({ outcome: "rejected", attempts: 0 })
        for (const reports of [opened, poor, unsent]) expectOurs(reports)
        const silent = yield* at(peer.url, "silent")
        yield* Effect.timeoutOption(
          dispatch(to, silent, client({ attemptTimeout: "1 minute", deadline: "2 minutes" })),
          "50 millis"
        )
      })
    ))

  it.scopedLive("a host's own calls fail, or what it makes of their answers is looked at", () =>
    scenario((to) =>
      Effect.gen(function*() {
        const peer = yield* echo()
        const calls = (...paths: ReadonlyArray<string>) =>
          Effect.flatMap(ResilientHttpClient.ResilientHttpClient, (client) =>
            Effect.forEach(paths, (path) => {
              const url = `${peer.url}/${path}?key=${canaries["query value"]}`.replace(
                "://",
                `://${canaries["user of a URL"]}:${canaries["password of a URL"]}@`
              )
              return Effect.all([
                seeExit(to, `execute ${path}`, client.execute(HttpClientRequest.post(url, { headers }))),
                seeExit(to, `postJson ${path}`, client.postJson(url, { a: 1 }, headers))
              ])
            }))
        // None of them is to open the circuit for the next.
        const patient = client({ breaker: { consecutiveFailures: 100, minimumThroughput: 100 } })
        const hasty = client({ attemptTimeout: "50 millis", retry: { maxRetries: 0 } })
        const errors = [
          ...yield* Effect.provide(calls("404", "500", "302", "reset", "garbage"), Layer.merge(patient, to.layer)),
          ...yield* Effect.provide(calls("silent"), Layer.merge(hasty, to.layer))
        ].flat()
        expect(errors.map((error) => error instanceof Error ? error.name : "")).toEqual([
          "ResponseError",
          "ResponseError",
          "ResponseError",
          "ResponseError",
          "ResponseError",
          "ResponseError",
          "RequestError",
          "RequestError",
          "RequestError",
          "RequestError",
          "AttemptTimeout",
          "AttemptTimeout"
        ])
        for (const error of errors) expect(isOurs(String(error instanceof Error && error.message))).toBe(true)
        const undecodable = yield* Effect.flatMap(ResilientHttpClient.ResilientHttpClient, (client) =>
          seeExit(to, "postJson 200", client.postJson(`${peer.url}/200`, { a: 1 }, headers))).pipe(
            Effect.provide(Layer.merge(client(), to.layer))
          )
        expect(undecodable).toMatchObject({ reason: "Decode" })
      })
    ))

  it.scopedLive("a proxy with a password refuses, says nothing or isn't there", () =>
    scenario((to) =>
      Effect.gen(function*() {
        const proxy = yield* echo()
        const login = `${canaries["proxy user"]}:${canaries["proxy password"]}`
        const target = yield* endpoint("target", "https://hooks.canary.test/x")
        for (const url of [proxy.url, yield* closedPort]) {
          const reports = yield* dispatch(
            to,
            [target],
            client({}, { proxy: Redacted.make(url.replace("://", `://${login}@`)) }, local)
          )
          expect(reports["target"]).toMatchObject({ outcome: "failed", status: undefined })
          expectOurs(reports)
        }
        expect(proxy.received.join("\n")).toContain(Buffer.from(login).toString("base64"))
      })
    ))
})
