/** One soak: the receivers, the sender and its traffic for a time, then the end of all deliveries, and what is to be said of it. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { freshFile } from "../support/sqlite.js"
import { attemptTimeout, hostile } from "./agreed.js"
import * as Flat from "./flat.js"
import * as Processes from "./processes.js"
import * as Sampling from "./sampling.js"
import * as Sender from "./sender.js"
import * as Traffic from "./traffic.js"

export interface Options {
  readonly seconds: number
  readonly fibers: Sampling.Fibers
  readonly say: (text: string) => void
  readonly complain: (problem: string) => void
}

/** Ends when all is said; what was wrong has gone to `complain`. */
export const run = ({ complain, fibers, say, seconds }: Options): Effect.Effect<void> =>
  Effect.gen(function*() {
    const misbehaving = yield* Processes.misbehaving
    const receivers = yield* Processes.receivers
    const directory = yield* Sender.makeDirectory(receivers.urls)
    const attempts = countAttempts()

    const sender = Sender.layer(yield* freshFile, misbehaving, directory, attempts.onAttempt, complain)
    yield* Effect.provide(
      Effect.gen(function*() {
        const traffic = yield* Traffic.make(receivers.acknowledge, complain)
        const { totals } = traffic
        const began = performance.now()
        const cpu = process.cpuUsage()
        const turnSeconds = seconds / (2 * misbehaving.turns)

        const begin = (turn: number) =>
          Effect.gen(function*() {
            const { receivers } = yield* misbehaving.begin(turn)
            yield* directory.point(receivers.map(({ url }) => url), `${attemptTimeout}ms`)
            attempts.begin(receivers.map(({ name }) => name))
            yield* traffic.mend
          })
        const end = (turn: number) =>
          Effect.suspend(() => Effect.sleep(Math.max(0, began + (turn + 1) * turnSeconds * 1000 - performance.now())))
        const turns = Effect.zipRight(
          end(0),
          Effect.forEach(
            Array.from({ length: 2 * misbehaving.turns - 1 }, (_, index) => index + 1),
            (turn) => Effect.zipRight(begin(turn), end(turn)),
            { discard: true }
          )
        )

        const samples: Array<Flat.Sample> = []
        const sample = Effect.gen(function*() {
          const taken = yield* Sampling.take(fibers)
          samples.push(taken)
          const { accepted } = yield* receivers.counts
          const at = ((performance.now() - began) / 1000).toFixed(0).padStart(4)
          const count = `events ${totals.events}+${totals.dispatched}  accepted ${accepted}`
          say(`${at} s  ${Sampling.line(taken)}  ${count}  pending ${yield* traffic.pending}`)
        })
        const interval = Math.min(10, seconds / 40) * 1000

        yield* begin(0)
        yield* turns.pipe(
          Effect.raceFirst(Effect.zipRight(traffic.run, Effect.never)),
          Effect.raceFirst(Effect.repeat(Effect.delay(sample, interval), Schedule.forever))
        )
        const { system, user } = process.cpuUsage(cpu)
        const load = (system + user) / 10 / (performance.now() - began)

        attempts.begin([])
        yield* directory.point(hostile.map((id) => receivers.urls[id]!), "10s")
        yield* traffic.mend
        const pending = yield* traffic.pending
        const settled = yield* Effect.timeoutOption(traffic.settle, patience)
        if (settled._tag === "None") complain(`deliveries have not ended in ${patience}`)

        const account = yield* traffic.account
        const { aborted, accepted, refused } = yield* receivers.counts
        const { problems } = yield* receivers.verdict(attempts.unsure())
        for (const problem of [...account.problems, ...problems, ...Flat.judge(samples)]) complain(problem)
        // In a short run, on a machine that has other things to do, a turn may pass without any.
        if (turnSeconds >= 10) {
          for (const name of attempts.missed()) complain(`no attempt reached the receiver "${name}"`)
        }

        const { deliveries, delivered, dispatched, events, failed, purged, rolledBack } = totals
        say(`stored      ${events} events, ${deliveries} deliveries; ${rolledBack} events rolled back`)
        say(`dispatched  ${dispatched} events: ${delivered} delivered, ${failed} failed`)
        say(
          `receivers   ${accepted} accepted, ${refused} refused once, ${aborted} given up; the sender is unsure of ${attempts.unsure()}`
        )
        say(`hostile     ${attempts.text()}`)
        say(`rows        ${purged} delivered and purged, ${account.text}; ${pending} were pending when the time was up`)
        say(`medians     ${Sampling.medians(samples)} (second quarter → last quarter)`)
        say(`load        ${load.toFixed(0)} % of a processor`)
      }),
      sender
    )
  }).pipe(Effect.scoped, Effect.orDie)

// --- internal

/** For what is still pending when the time is up. */
const patience = "5 minutes"

/** Counts the attempts of each kind of hostile receiver while it has its turn. */
const countAttempts = () => {
  let present: ReadonlyArray<string> = []
  const attempts = new Map<string, number>()
  const outcomes = new Map<string, number>()
  let unsure = 0
  const add = (counts: Map<string, number>, key: string, n: number) => counts.set(key, (counts.get(key) ?? 0) + n)
  return {
    begin: (names: ReadonlyArray<string>) => {
      present = names
      for (const name of names) add(attempts, name, 0)
    },
    onAttempt: ({ class: failure, endpointId, outcome }: Sender.AttemptReport) =>
      Effect.sync(() => {
        const name = present[hostile.indexOf(endpointId)]
        if (name === undefined) {
          if (failure === "timeout" || failure === "connection") unsure++
          return
        }
        add(attempts, name, 1)
        add(outcomes, failure ?? outcome, 1)
      }),
    /** Attempts to receivers that behave of which nobody knows whether they arrived: they may be made twice. */
    unsure: () => unsure,
    missed: () => [...attempts].filter(([, n]) => n === 0).map(([name]) => name),
    text: () => {
      const all = [...attempts.values()]
      const by = [...outcomes].sort(([, left], [, right]) => right - left).map(([name, n]) => `${name} ${n}`)
      return `${all.filter((n) => n > 0).length} of ${all.length} kinds in ${
        all.reduce((sum, n) => sum + n, 0)
      } attempts: ${by.join(", ")}`
    }
  }
}
