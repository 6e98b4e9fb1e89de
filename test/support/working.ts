/** What the tests of the worker share: a worker over a database, and a receiver that records what came and what is under way. */
import * as HttpClient from "@effect/platform/HttpClient"
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { turn } from "../../src/http/internal/turn.js"
import * as ResilientHttpClient from "../../src/http/ResilientHttpClient.js"
import * as Deliveries from "../../src/outbox/Deliveries.js"
import * as DeliveryWorker from "../../src/outbox/DeliveryWorker.js"
import * as EndpointHealth from "../../src/outbox/EndpointHealth.js"
import * as Outbox from "../../src/outbox/Outbox.js"
import * as OutboxSchema from "../../src/outbox/Schema.js"
import type { Endpoints } from "../../src/webhooks/Endpoints.js"
import * as testing from "../../src/webhooks/testing.js"
import * as WebhookSender from "../../src/webhooks/WebhookSender.js"
import type { Database } from "./backends.js"
import { type EndpointFields, endpoints } from "./outboxing.js"

/** A request that reached the receiver. Times in milliseconds of the monotonic clock. */
export interface Call {
  /** `webhook-id` */
  readonly id: string
  readonly endpoint: string
  /** As the worker counts it. */
  readonly attempt: number
  readonly at: number
  endedAt: number | undefined
  /** The other calls that were under way when it came. */
  readonly beside: ReadonlyArray<Call>
}

/** What reached the receiver so far, oldest first. */
export class Traffic extends Context.Tag("test/Traffic")<Traffic, Array<Call>>() {}

/** Steps by endpoint id; an endpoint without any answers 200. */
export type Steps = Readonly<Record<string, ReadonlyArray<testing.Step>>>

/** A receiver that answers by steps, for all that is built over it. */
export const receiver = (
  steps: Steps
): Layer.Layer<HttpClient.HttpClient | Traffic | testing.FakeHttpClient> =>
  Layer.effectContext(Effect.gen(function*() {
    const fake = yield* testing.make(script(steps))
    const calls: Array<Call> = []
    const underWay = new Set<Call>()
    const client = HttpClient.make((request, url) =>
      Effect.gen(function*() {
        const call: Call = {
          id: request.headers["webhook-id"] ?? "",
          endpoint: url.pathname.slice(1),
          attempt: yield* ResilientHttpClient.currentAttempt,
          at: yield* monotonic,
          endedAt: undefined,
          beside: [...underWay]
        }
        calls.push(call)
        underWay.add(call)
        return yield* Effect.ensuring(
          fake.client.execute(request),
          Effect.map(monotonic, (at) => {
            call.endedAt = at
            underWay.delete(call)
          })
        )
      })
    )
    return Context.make(testing.FakeHttpClient, fake).pipe(
      Context.add(HttpClient.HttpClient, client),
      Context.add(Traffic, calls)
    )
  }))

/** Replaces what the receiver answers. */
export const play = (steps: Steps) => Effect.flatMap(testing.FakeHttpClient, (fake) => fake.play(script(steps)))

/** The calls so far, or those to one endpoint. */
export const calls = (endpoint?: string): Effect.Effect<ReadonlyArray<Call>, never, Traffic> =>
  Effect.map(Traffic, (calls) => calls.filter((call) => endpoint === undefined || call.endpoint === endpoint))

/** When they came. */
export const times = (endpoint?: string) => Effect.map(calls(endpoint), (calls) => calls.map(({ at }) => at))

/** What a worker is made over. */
export interface Setup {
  /** By id; default: `a`. */
  readonly endpoints?: Readonly<Record<string, EndpointFields>>
  /** In place of them. */
  readonly directory?: Layer.Layer<Endpoints>
  readonly steps?: Steps
  readonly worker?: DeliveryWorker.Options
  readonly client?: ResilientHttpClient.Options
  /** What chance comes to, 0 to 1; default 0. */
  readonly chance?: number
  readonly database?: Layer.Layer<OutboxSchema.OutboxSchema | SqlClient.SqlClient>
}

/** Everything but the worker, over the receiver in context. */
const parts = (
  { chance = 0, client, database = OutboxSchema.layerTest, directory, endpoints: all = { a: {} } }: Setup
) =>
  Outbox.layer().pipe(
    Layer.provideMerge(Layer.mergeAll(Deliveries.layer, EndpointHealth.layer)),
    Layer.provideMerge(WebhookSender.layer()),
    Layer.provideMerge(ResilientHttpClient.layer(client)),
    Layer.provideMerge(directory ?? endpoints(all)),
    Layer.provideMerge(database),
    Layer.provideMerge(Layer.setRandom(Random.fixed([chance])))
  )

/** The same over a receiver of its own: for tests that start the worker themselves. */
export const prepared = (setup: Setup = {}) => Layer.provideMerge(parts(setup), receiver(setup.steps ?? {}))

/** No wake without a reason: under `TestClock` each costs milliseconds. */
const unhurried: DeliveryWorker.Options = { poll: "10 days", retention: false, listen: false }

/** A worker with all that it is made of. Its end is hastened: what is under way when a test is over would wait for the clock. */
export const working = (setup: Setup = {}) =>
  Layer.provideMerge(hastened(DeliveryWorker.layer({ ...unhurried, ...setup.worker })), prepared(setup))

/** Starts a worker in the scope. */
export const start = (options: DeliveryWorker.Options = {}) => DeliveryWorker.make({ ...unhurried, ...options })

/** Several programs, each with a worker, over one database and one receiver, which the effect must have in context. */
export const fleet = (size: number, { url: _, ...database }: Database, setup: Omit<Setup, "database" | "steps">) =>
  Effect.flatMap(
    Effect.context<HttpClient.HttpClient | Traffic | testing.FakeHttpClient>(),
    (shared) =>
      Effect.forEach(Array.from({ length: size }), () =>
        Layer.build(
          hastened(DeliveryWorker.layer({ ...unhurried, ...setup.worker })).pipe(
            Layer.provideMerge(parts({
              ...setup,
              database: Layer.provideMerge(OutboxSchema.layerMigrated({ clock: "process" }), database.client).pipe(
                Layer.orDie
              )
            })),
            Layer.provideMerge(Layer.succeedContext(shared))
          )
        ))
  )

/**
 * Lets time pass, and what each moment set off come to rest before the next one: the worker writes when the event loop has gone round, for which no
 * clock is asked.
 */
export const pass = (duration: Duration.DurationInput): Effect.Effect<void> =>
  Effect.gen(function*() {
    const clock = yield* TestClock.testClock()
    const end = (yield* Clock.currentTimeMillis) + Duration.toMillis(duration)
    for (;;) {
      yield* rest
      const next = Math.min(...yield* clock.sleeps)
      if (next > end) break
      yield* TestClock.setTime(next)
    }
    yield* TestClock.setTime(end)
    yield* rest
  })

/** The event loop goes round a few times. */
export const rest = Effect.repeatN(turn, 9)

/** Waits, in real time, for something that a database or a timer brings about. */
export const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    for (let turn = 0; turn < 2000; turn++) {
      if (yield* condition) return
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
    }
    return yield* Effect.dieMessage("it has not come about within ten seconds")
  })

/** Operator events from now on; read them when it is time. */
export const operatorEvents = Effect.gen(function*() {
  const { events } = yield* EndpointHealth.EndpointHealth
  const seen: Array<EndpointHealth.OperatorEvent> = []
  const fiber = yield* Effect.fork(Stream.runForEach(events, (event) => Effect.sync(() => seen.push(event))))
  yield* Effect.repeatN(Effect.yieldNow(), 5)
  return { seen, types: () => seen.map(({ type }) => type), stop: Fiber.interrupt(fiber) }
})

/** All deliveries, oldest first. */
export const deliveries = Effect.flatMap(
  Deliveries.Deliveries,
  ({ list }) => Effect.map(list({}, { limit: 1000 }), ({ items }) => [...items].reverse())
)

/** Their states, in their order: `delivered`, `discarded:gone`, … */
export const states = Effect.map(
  deliveries,
  (items) => items.map(({ reason, state }) => reason === undefined ? state : `${state}:${reason}`)
)

/** A delivery to be stored as a worker, alive or dead, has left it. */
export interface Left {
  readonly endpoint?: string
  readonly lane?: "first" | "leased" | "retry"
  readonly dueAt?: number
  readonly lapses?: number
  readonly attempts?: number
  readonly step?: number
  readonly fence?: string
}

/** Stores deliveries as they are given, each with a message of its own: `msg_0`, `msg_1`, … */
export const leave = (all: ReadonlyArray<Left>, prefix = "msg_") =>
  Effect.gen(function*() {
    const { rows, sql, tables } = yield* OutboxSchema.OutboxSchema
    const items = all.map((one, n) => ({
      n,
      message: `${prefix}${n}`,
      endpoint: one.endpoint ?? "a",
      lane: one.lane ?? "retry",
      due_at: one.dueAt ?? 0,
      lapses: one.lapses ?? 0,
      attempts: one.attempts ?? (one.lane === "first" ? 0 : 1),
      step: one.step ?? 1,
      fence: one.fence ?? null
    }))
    yield* sql`INSERT INTO ${tables.messages} (id, digest, event_type, occurred_at, correlation_id, deliveries, created_at, body_event)
      SELECT v.message, 'x', 't', '2026-01-01T00:00:00Z', 'c', 1, 0, ${Buffer.from("{}")}
      FROM ${rows(items, { message: "text" })}`
    yield* sql`INSERT INTO ${tables.deliveries} (message_id, endpoint_id, event_type, format, state, lane, due_at, lapses, step, attempts, fence, created_at)
      SELECT v.message, v.endpoint, 't', 'event', 'pending', v.lane, v.due_at, v.lapses, v.step, v.attempts, v.fence, 0
      FROM ${
      rows(items, {
        n: "integer",
        message: "text",
        endpoint: "text",
        lane: "text",
        due_at: "bigint",
        lapses: "integer",
        step: "integer",
        attempts: "integer",
        fence: "text"
      })
    } ORDER BY v.n`
  })

/** A delivery as it is stored. */
export const row = (id: number) =>
  Effect.gen(function*() {
    const { sql, tables } = yield* OutboxSchema.OutboxSchema
    const [row] = yield* sql`SELECT state, reason, lane, held, due_at, fence, lapses, step, attempts
      FROM ${tables.deliveries} WHERE id = ${id}`
    const number = (name: string) => Number(row?.[name])
    return {
      state: row?.["state"],
      reason: row?.["reason"],
      lane: row?.["lane"],
      fence: row?.["fence"],
      held: number("held"),
      dueAt: number("due_at"),
      lapses: number("lapses"),
      step: number("step"),
      attempts: number("attempts")
    }
  })

/** Wakes the workers of this program. */
export const wake = Effect.flatMap(OutboxSchema.OutboxSchema, ({ signal }) => signal)

/** Milliseconds that only go forward. */
export const monotonic = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos) / 1_000_000)

// --- internal

/** While the layer ends, time passes, and no longer: what closes after it has time limits of its own. */
const hastened = <A, E, R>(layer: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> =>
  Layer.suspend(() => {
    let passing: Fiber.RuntimeFiber<unknown> | undefined
    const begin = Effect.forever(Effect.zipRight(rest, TestClock.adjust("5 seconds"))).pipe(
      Effect.interruptible,
      Effect.forkDaemon,
      Effect.map((fiber) => passing = fiber)
    )
    const end = Effect.suspend(() => passing === undefined ? Effect.void : Fiber.interrupt(passing))
    const finalizer = (effect: Effect.Effect<unknown>) => Layer.scopedDiscard(Effect.addFinalizer(() => effect))
    return finalizer(begin).pipe(Layer.provideMerge(layer), Layer.provideMerge(finalizer(end)))
  })

const script = (steps: Steps): testing.Script => ({
  ...Object.fromEntries(Object.entries(steps).map(([id, list]) => [`https://hooks.example.com/${id}`, list])),
  "*": [200]
})
