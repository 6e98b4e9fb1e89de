/**
 * Deliveries to one hostile receiver, and what must hold of every one of them and after them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Supervisor from "effect/Supervisor"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as EgressDispatcher from "../../../src/http/EgressDispatcher.js"
import * as EgressPolicy from "../../../src/http/EgressPolicy.js"
import * as ResilientHttpClient from "../../../src/http/ResilientHttpClient.js"
import * as Endpoint from "../../../src/webhooks/Endpoint.js"
import * as Message from "../../../src/webhooks/Message.js"
import * as WebhookEvent from "../../../src/webhooks/WebhookEvent.js"
import * as WebhookSender from "../../../src/webhooks/WebhookSender.js"
import { dnsServer, type Said } from "../dns.js"
import { eventually } from "../peers.js"
import { quiet } from "../recording.js"
import * as Certificates from "./certificates.js"
import { attemptTimeout, type HostilePeer, type Running, type World } from "./peer.js"

/** What is asked of a trial. */
export interface Options {
  readonly repetitions: number
  /** Milliseconds beyond the attempt timeout, its tenth and twice the longest time that the process stood still. */
  readonly allowance: number
}

/** What came of one. */
export interface Result {
  /** What was wrong, each once; empty is good. */
  readonly problems: ReadonlyArray<string>
  /** Milliseconds of the longest delivery. */
  readonly longest: number
  /** Milliseconds of the longest time in which the process did nothing else. */
  readonly stall: number
  /** Connections of the receiver that were open after the last hostile answer, and fibers that still ran when the sender was gone. */
  readonly open: number
  readonly fibers: number
}

/** What all trials share. */
export const world: Effect.Effect<World & { readonly nameServer: string }, never, Scope.Scope> = Effect.gen(
  function*() {
    const names = new Map<string, (n: number) => Said>()
    const certificates = yield* Effect.promise(Certificates.make)
    const dns = yield* dnsServer((name, n) => names.get(name)?.(n) ?? "NXDOMAIN")
    return { names, certificates, nameServer: dns.address }
  }
)

/** Delivers to a peer as often as is wanted, then once more when it has recovered. */
export const trial = (
  world: World & { readonly nameServer: string },
  peer: HostilePeer,
  { allowance, repetitions }: Options
): Effect.Effect<Result> =>
  Effect.gen(function*() {
    const problems = new Set<string>()
    let longest = 0
    let open = 0
    const timeout = peer.waits === true ? attemptTimeout : patience
    const stalls = monitorEventLoopDelay({ resolution: 5 })
    stalls.enable()
    const supervisor = yield* Supervisor.track
    const expectedOf = (n: number) => typeof peer.expected === "function" ? peer.expected(n) : peer.expected

    const deliveries = (running: Running) =>
      Effect.gen(function*() {
        const toTarget = Effect.suspend(() =>
          Endpoint.make({ id: "hostile", url: running.target, secret, headers, maxConcurrency: 64 }, { policy })
        )
        const endpoint = yield* toTarget
        const { send } = yield* WebhookSender.WebhookSender
        let attempts = 0
        const deliver = (id: string, to = endpoint) =>
          Effect.gen(function*() {
            const event = yield* WebhookEvent.make({ type: "hostile.tested", data: "x".repeat(peer.bytes ?? 10), id })
            const message = yield* Message.toMessage(event, ["event"])
            const sent = send(message, to)
            return yield* peer.retries === true ? sent : ResilientHttpClient.withSingleAttempt(sent, 1)
          })

        yield* Effect.forEach(Array.from({ length: repetitions }, (_, index) => index + 1), (n) =>
          Effect.map(deliver(`msg_${n}`), (report) => {
            longest = Math.max(longest, report.duration)
            attempts += report.attempts
            for (const problem of differences(report, expectedOf(n))) {
              problems.add(problem)
            }
          }).pipe(Effect.zipLeft(Effect.sleep(peer.pause ?? 0))), { concurrency: peer.atOnce ?? 50, discard: true })
        const { kept = false } = expectedOf(repetitions)
        if (!kept) {
          yield* Effect.exit(eventually("their end", () => running.open() === 0))
        }
        open = running.open()
        if (open > (kept ? peer.atOnce ?? 50 : 0)) {
          problems.add(`${open} connections are still open`)
        }

        // An attempt takes a connection at most.
        if (running.connections() > attempts) {
          problems.add(`${running.connections()} connections for ${attempts} attempts`)
        }

        running.recover()
        // Once it behaves, a peer has all the time it wants.
        const patient = new Endpoint.Endpoint({ ...yield* toTarget, timeout: Duration.millis(patience) })
        for (const id of ["msg_next", "msg_last"]) {
          const { class: failure, excerpt, outcome } = yield* deliver(id, patient)
          if (outcome !== "delivered" || excerpt !== id) {
            problems.add(`the delivery after it: ${outcome} ${failure ?? ""} ${excerpt ?? ""}`)
          }
        }
        const complaint = running.complaint?.()
        if (complaint !== undefined) {
          problems.add(complaint)
        }
      })

    yield* Effect.flatMap(
      peer.start(world),
      (running) => Effect.provide(deliveries(running), sender(world, timeout, running))
    ).pipe(
      Effect.scoped,
      Effect.catchAllCause((cause) => Effect.sync(() => problems.add(String(cause)))),
      Effect.provide(Supervisor.addSupervisor(supervisor)),
      quiet
    )
    stalls.disable()
    const stall = stalls.max / 1e6
    if (longest > timeout * 1.1 + allowance + 2 * stall) {
      problems.add(`a delivery took ${Math.round(longest)} ms, the longest stall ${Math.round(stall)} ms`)
    }
    const fibers = (yield* supervisor.value).length
    if (fibers > 0) problems.add(`${fibers} fibers still run`)
    return { problems: [...problems], longest, stall, open, fibers }
  })

/** What the senders of hostile runs may connect to: all that the receivers listen on, and not all of loopback. */
export const policy = EgressPolicy.make({
  allow: Either.getOrThrow(EgressPolicy.parseRules("127.0.0.1,127.1.0.0/16"))
})

// --- internal

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

const headers = { "X-Api-Key": "header-canary" }

/** Milliseconds that no peer needs that doesn't make us wait. */
const patience = 5000

const sender = (
  { certificates, nameServer }: World & { readonly nameServer: string },
  attemptTimeout: number,
  { proxy, target }: Running
) =>
  WebhookSender.layer().pipe(
    Layer.provide(
      ResilientHttpClient.layer({
        attemptTimeout,
        keyConcurrency: 64,
        budget: { ratio: 2 },
        retry: { baseDelay: "10 seconds" }
      })
    ),
    Layer.provide(EgressDispatcher.layerHttpClient({
      // Reading the authorities takes 45 ms.
      ca: target.startsWith("https:") ? certificates.ca : undefined,
      nameServers: [nameServer],
      proxy: proxy === undefined ? undefined : Redacted.make(proxy)
    })),
    Layer.provide(Layer.succeed(EgressPolicy.EgressPolicy, policy))
  )

const differences = (
  report: WebhookSender.DeliveryReport,
  { also, attempts, kept: _, ...expected }: ReturnType<Extract<HostilePeer["expected"], (n: number) => unknown>>
): ReadonlyArray<string> => {
  const problems: Array<string> = []
  for (const [field, value] of Object.entries({ class: undefined, ...expected })) {
    const found = report[field as keyof typeof report]
    if (found !== value) problems.push(`${field} ${String(found)} instead of ${String(value)}`)
  }
  if (also === undefined && report.attempts !== (attempts ?? 1)) problems.push(`${report.attempts} attempts`)
  const other = also?.(report)
  if (other !== undefined) problems.push(other)
  return problems
}
