/** One run of a case: its database, its receiver, the programs that it starts, and what it has to answer for. */
import { Endpoints, Outbox, OutboxSchema, WebhookConfig, WebhookEvent } from "effect-webhooks"
import * as Arr from "effect/Array"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { check, keyOf, type Ledger, makeLedger, type Options, type Verdict } from "./checker.js"
import type { Database, Dialect } from "./databases.js"
import * as Processes from "./processes.js"
import { type Arrival, type Receiver, secret, startReceiver } from "./receiver.js"
import { until } from "./waiting.js"

/** What a case prints, in this order. */
export type Figures = Readonly<Record<string, number | string>>

export interface Case {
  readonly name: string
  /** The databases that it is run on. */
  readonly on: ReadonlyArray<Dialect>
  /** On PostgreSQL once more with polling off, so that a listener that has gone deaf shows. */
  readonly deaf?: boolean | "only" | undefined
  /** Waits more than it works: such cases run beside the others. */
  readonly idle?: boolean | undefined
  /** Takes so long that it is run with `--all` only. */
  readonly soak?: boolean | undefined
  readonly run: (trial: Trial) => Promise<Figures>
}

/** An endpoint's settings beyond its id and URL. */
export type EndpointSettings = Readonly<Record<string, unknown>>

export interface Event {
  readonly n: number
  readonly type?: string
  readonly id?: string
  readonly aggregateId?: string
  /** Characters of text to make it bigger. */
  readonly padding?: number
}

/** What `POST /v1/events` answers. */
export interface Answered {
  readonly messages?: ReadonlyArray<{ readonly messageId: string; readonly duplicate: boolean }>
  readonly error?: { readonly code: string; readonly message: string }
}

/** A running `serve`. */
export interface Service {
  readonly process: Processes.Running
  /** The status of `/health/ready`; 0 without an answer. */
  readonly ready: () => Promise<number>
  /** Posts events; status 0 without an answer. */
  readonly offer: (events: ReadonlyArray<Event>) => Promise<{ readonly status: number; readonly body: Answered }>
  /** Posts events, which must be accepted; their message ids. */
  readonly post: (events: ReadonlyArray<Event>) => Promise<ReadonlyArray<string>>
}

export class Trial {
  readonly folder: string
  /** A case may put another in its place. */
  database: Database
  readonly receiver: Receiver
  readonly ledger: Ledger = makeLedger()
  /** `WEBHOOKS_POLL` of the workers. */
  readonly poll: string
  private readonly supervisors: Array<Processes.Supervised> = []
  private readonly cleanups: Array<() => Promise<unknown>> = []
  private endpoints: ReadonlyArray<string> = []
  private config = "{}"
  private readonly processes: Array<Processes.Running> = []

  constructor(folder: string, database: Database, receiver: Receiver, poll: string) {
    this.folder = folder
    this.database = database
    this.receiver = receiver
    this.poll = poll
  }

  get dialect(): Dialect {
    return this.database.dialect
  }

  /** Endpoints for every event, by their ids; each tells the receiver which worker is calling. */
  configure(endpoints: Readonly<Record<string, EndpointSettings>>): void {
    this.endpoints = Object.keys(endpoints)
    this.config = JSON.stringify({
      "*": Object.entries(endpoints).map(([id, settings]) => ({
        id,
        url: `${this.receiver.url}/${id}`,
        secret,
        headers: { "X-Worker": { env: "WORKER_NAME" } },
        ...settings
      }))
    })
  }

  /** The environment of every program of this trial. */
  env(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      WEBHOOKS_CONFIG: this.config,
      WEBHOOKS_EGRESS_ALLOW: "127.0.0.1",
      WEBHOOKS_DATABASE_URL: this.database.url,
      WEBHOOKS_LEASE: "4s",
      WEBHOOKS_POLL: this.poll,
      WEBHOOKS_LOG_LEVEL: "warning",
      ...more
    }
  }

  onEnd(cleanup: () => Promise<unknown>): void {
    this.cleanups.unshift(cleanup)
  }

  /** Starts a program of the command line. */
  start(
    args: ReadonlyArray<string>,
    options: Partial<Omit<Processes.StartOptions, "cwd">> & { readonly name?: string } = {}
  ): Processes.Running {
    const { env, name, ...rest } = options
    const process = Processes.start(name ?? `${args[0] ?? "program"}-${this.processes.length + 1}`, args, {
      cwd: this.folder,
      env: this.env(env),
      ...rest
    })
    this.processes.push(process)
    return process
  }

  worker(name: string, env: Readonly<Record<string, string>> = {}, preload?: ReadonlyArray<string>): Processes.Running {
    return this.start(["worker"], { name, env, preload })
  }

  /** A worker that is started again whenever it was killed. */
  supervised(
    name: string,
    env: Readonly<Record<string, string>> = {},
    preload?: ReadonlyArray<string>
  ): Processes.Supervised {
    const supervised = Processes.supervise(name, (each) => this.worker(each, env, preload), () => this.counting)
    this.supervisors.push(supervised)
    return supervised
  }

  /** Starts the HTTP service with its worker, and waits until it is ready. */
  async serve(name: string, env: Readonly<Record<string, string>> = {}): Promise<Service> {
    const port = await freePort()
    const process = this.start(["serve", "--port", String(port)], { name, env })
    const url = `http://127.0.0.1:${port}`
    const ready = async () => {
      try {
        return (await fetch(`${url}/health/ready`)).status
      } catch {
        return 0
      }
    }
    await until(() => `${name} is ready: ${process.err().slice(-500)}`, async () => await ready() === 200, 30)
    const offer: Service["offer"] = async (events) => {
      try {
        const response = await fetch(`${url}/v1/events`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(events.map(wire))
        })
        return { status: response.status, body: await response.json() as Answered }
      } catch {
        return { status: 0, body: {} }
      }
    }
    const post: Service["post"] = async (events) => {
      const { body, status } = await offer(events)
      if (status !== 202) throw new Error(`POST /v1/events answered ${status} ${JSON.stringify(body)}`)
      return (body.messages ?? []).map(({ messageId }) => messageId)
    }
    return { process, ready, offer, post }
  }

  async migrate(): Promise<void> {
    await Effect.runPromise(Effect.provide(OutboxSchema.migrate(), this.database.client))
  }

  /** Takes down that events are handed over. */
  handOver(events: ReadonlyArray<Event>): void {
    for (const { n } of events) this.ledger.enqueued.add(n)
  }

  /** Takes down that the system has answered for an event. */
  acknowledge(id: string): void {
    this.ledger.acknowledged.add(id)
  }

  /** Enqueues as a host does, a hundred events at a time, and takes down what the outbox acknowledges. */
  async enqueue(events: ReadonlyArray<Event>): Promise<void> {
    this.handOver(events)
    const outbox = Outbox.layer().pipe(
      Layer.provide(Layer.provideMerge(OutboxSchema.layer(), this.database.client)),
      Layer.provide(Endpoints.layer),
      Layer.provide(WebhookConfig.layer(JSON.parse(this.config), { allow: "127.0.0.1" })),
      Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["WORKER_NAME", "host"]]))))
    )
    const stored = Effect.flatMap(
      Outbox.Outbox,
      ({ enqueueAll }) =>
        Effect.forEach(
          Arr.chunksOf(events, 100),
          (some) => Effect.flatMap(Effect.forEach(some, (event) => WebhookEvent.decodeInput(wire(event))), enqueueAll)
        )
    )
    for (const { messageId } of (await Effect.runPromise(Effect.provide(stored, outbox))).flat()) {
      this.acknowledge(messageId)
    }
  }

  /** Enqueues through the command line, and takes down what it acknowledges. */
  async enqueueByCommand(events: ReadonlyArray<Event>): Promise<void> {
    this.handOver(events)
    const { code, err, out, signal } = await this.start(["enqueue", "--json"], { input: lines(events) }).ended
    const answered = parse(out)
    for (const { messageId } of answered) if (typeof messageId === "string") this.acknowledge(messageId)
    if (code !== 0) throw new Error(`enqueue ended with ${code ?? signal}: ${err.slice(-1000)}`)
    if (answered.length !== events.length) throw new Error(`enqueue answered ${answered.length} of ${events.length}`)
  }

  /** Waits until the database says that every delivery has ended. */
  async settled(seconds = 60): Promise<void> {
    let pending = NaN
    await until(
      () => `all deliveries ended (${pending} are pending)`,
      async () => {
        pending = await this.database.count("SELECT count(*) AS n FROM webhook_deliveries WHERE state = 'pending'")
        return pending === 0
      },
      seconds,
      // Each look is a connection of its own.
      250
    )
  }

  /** SIGKILL now; what the worker had under way is taken down as soon as it is dead. Called by the receiver, with a request open. */
  kill(worker: Processes.Running): Promise<number> {
    const counted = this.killed(worker)
    this.counting = counted
    return counted
  }

  /** The count of what was under way at the last kill: the next worker would change it. */
  private counting: Promise<unknown> = Promise.resolve()

  private async killed(worker: Processes.Running): Promise<number> {
    worker.signal("SIGKILL")
    await worker.ended
    const rows = await this.database.query(
      "SELECT message_id, endpoint_id FROM webhook_deliveries WHERE state = 'pending' AND lane = 'leased'"
    )
    const unsettled = new Set(rows.map((row) => `${String(row.endpoint_id)}/${String(row.message_id)}`))
    const under = () =>
      this.receiver.arrivals.filter((arrival) => arrival.worker === worker.name && unsettled.has(keyOf(arrival)))
    this.deaths.push(under)
    return under().length
  }

  /** What each of the dead had under way: a receiver that is late reads its last requests after its death. */
  private readonly deaths: Array<() => ReadonlyArray<Arrival>> = []

  /** Everything that must hold after any run, at all endpoints or at those that are named. */
  check(endpoints = this.endpoints, options: Options = {}): Verdict {
    for (const arrival of this.deaths.splice(0).flatMap((under) => under())) {
      this.ledger.inFlight.set(keyOf(arrival), (this.ledger.inFlight.get(keyOf(arrival)) ?? 0) + 1)
    }
    return check(
      this.ledger,
      endpoints,
      this.receiver.arrivals.filter(({ endpoint }) => endpoints === this.endpoints || endpoints.includes(endpoint)),
      options
    )
  }

  /** What the database holds that has not been delivered; for a case that has failed. */
  async left(): Promise<string> {
    try {
      const rows = await this.database.query(
        `SELECT endpoint_id, state, reason, lane, held, min(due_at) AS due_from, max(due_at) AS due_to, max(lapses) AS lapses, count(*) AS n
         FROM webhook_deliveries WHERE state <> 'delivered' GROUP BY endpoint_id, state, reason, lane, held`
      )
      return [`now ${Date.now()}`, ...rows.slice(0, 10).map((row) => JSON.stringify(row))].join("\n")
    } catch (error) {
      return `the database can't tell what is left: ${String(error)}`
    }
  }

  /** The last words of the programs that wrote any. */
  said(): string {
    return this.processes.filter((process) => process.err() !== "" && !process.name.startsWith("enqueue-")).slice(-8)
      .map((process) => `${process.name}: ${process.err().trim().slice(-700)}`).join("\n")
  }

  async close(): Promise<void> {
    for (const supervised of this.supervisors) supervised.abandon()
    await Processes.killAll(this.folder)
    for (const cleanup of this.cleanups) await cleanup()
  }
}

/** Runs a case once; the figures that it gave. */
export const attempt = async (
  { run }: Case,
  makeDatabase: (folder: string) => Promise<Database>,
  poll: string
): Promise<Figures> => {
  const folder = mkdtempSync(join(tmpdir(), "effect-webhooks-faults-"))
  const receiver = await startReceiver()
  const trial = new Trial(folder, await makeDatabase(folder), receiver, poll)
  try {
    return await run(trial)
  } catch (error) {
    throw new Error(`${await trial.left()}\n${trial.said()}`, { cause: error })
  } finally {
    await trial.close()
    await receiver.close()
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Events with the numbers `from` to `from + count - 1`. */
export const numbered = (count: number, from = 1, more: (n: number) => Omit<Event, "n"> = () => ({})): Array<Event> =>
  Array.from({ length: count }, (_, index) => ({ n: from + index, ...more(from + index) }))

/** Events as `enqueue` reads them. */
export const lines = (events: ReadonlyArray<Event>): string =>
  events.map((event) => `${JSON.stringify(wire(event))}\n`).join("")

/** One event as `enqueue` and the HTTP API read it. */
export const wire = ({ aggregateId, id, n, padding, type }: Event): object => ({
  type: type ?? "OrderCreated",
  data: { n, ...(padding === undefined ? {} : { padding: "x".repeat(padding) }) },
  ...(aggregateId === undefined ? {} : { aggregate_id: aggregateId }),
  ...(id === undefined ? {} : { id })
})

export const parse = (text: string): ReadonlyArray<Readonly<Record<string, unknown>>> =>
  text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Record<string, unknown>)

/** Fails the case unless it holds. */
export const expect = (holds: boolean, otherwise: string): void => {
  if (!holds) throw new Error(otherwise)
}

// --- internal

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
