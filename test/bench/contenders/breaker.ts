/** A trivial call through a circuit breaker, let through, refused and failing, and the same call without one. */
import * as Cockatiel from "cockatiel"
import { CircuitBreakers } from "effect-webhooks"
import * as Effect from "effect/Effect"
import Opossum from "opossum"
import type { Contender, Contenders } from "../contending.js"

export interface Setup {
  /** Results that a window holds where it is to be full. */
  readonly full: number
}

/** Long enough for nothing to leave a window while the benchmark runs. Milliseconds. */
const hour = 3_600_000

const failure = "failure"
const failing = Effect.fail(failure)

const repeat = (count: number, effect: Effect.Effect<unknown, CircuitBreakers.CircuitOpen>) => {
  let left = count
  return Effect.whileLoop({ while: () => left-- > 0, body: () => effect, step: () => undefined })
}

const effect = (one: Effect.Effect<unknown, CircuitBreakers.CircuitOpen>): Contender => ({
  run: (count) => Effect.runPromise(repeat(count, one))
})

const promise = (one: () => Promise<unknown>): Contender => ({
  run: async (count) => {
    for (let n = 0; n < count; n++) await one()
  }
})

/** A failure that its caller expects. */
const caught = async (one: () => Promise<unknown>): Promise<void> => {
  try {
    await one()
  } catch {
    // As expected.
  }
}

const nothing = async (): Promise<void> => {}
const failed = (): Promise<never> => Promise.reject(failure)

// --- the library

const breakers = (options: CircuitBreakers.Options = {}) => Effect.runPromise(CircuitBreakers.make(options))

const call = async (): Promise<Contender> => effect((await breakers()).protect("key", Effect.void))

const rejection = async (): Promise<Contender> => {
  const service = await breakers({ consecutiveFailures: 1, breakDuration: () => hour })
  await Effect.runPromise(Effect.ignore(service.protect("key", failing)))
  return effect(Effect.ignore(service.protect("key", Effect.void)))
}

/**
 * Failures that don't open the circuit, with so many results in the window. After each ten of them a key is reset: `reset` says which, so that the work is the same
 * however full the window is.
 */
const failures = async (results: number, reset: string): Promise<Contender> => {
  const service = await breakers({ failureRatio: 1, consecutiveFailures: Infinity, samplingWindow: hour })
  const success = service.protect("key", Effect.void)
  const nine = repeat.bind(undefined, 9, Effect.ignore(service.protect("key", failing)))
  await Effect.runPromise(Effect.zipRight(service.protect("other", Effect.void), repeat(results, success)))
  const ten = Effect.suspend(() => Effect.zipRight(service.reset(reset), Effect.zipRight(success, nine())))
  return { run: (count) => Effect.runPromise(repeat(count / 10, ten)) }
}

// --- the others

const cockatielBreaker = (breaker: Cockatiel.IBreaker) =>
  Cockatiel.circuitBreaker(Cockatiel.handleAll, { halfOpenAfter: hour, breaker })

/** Opens when every result of the window is a failure: one success keeps it closed. */
const sampling = () => cockatielBreaker(new Cockatiel.SamplingBreaker({ threshold: 0.999999, duration: hour }))

const cockatielRejection = async (): Promise<Contender> => {
  const policy = cockatielBreaker(new Cockatiel.ConsecutiveBreaker(1))
  await caught(() => policy.execute(failed))
  return promise(() => caught(() => policy.execute(nothing)))
}

const cockatielFailure = async ({ full }: Setup): Promise<Contender> => {
  const policy = sampling()
  for (let n = 0; n < full; n++) await policy.execute(nothing)
  return promise(() => caught(() => policy.execute(failed)))
}

const opossumOptions = {
  timeout: false,
  resetTimeout: hour,
  rollingCountTimeout: hour,
  errorThresholdPercentage: 100
} as const

const opossumRejection = async (): Promise<Contender> => {
  const breaker = new Opossum(nothing, opossumOptions)
  breaker.open()
  return promise(() => caught(() => breaker.fire()))
}

const opossumFailure = async ({ full }: Setup): Promise<Contender> => {
  let fails = false
  const breaker = new Opossum(() => fails ? failed() : nothing(), opossumOptions)
  for (let n = 0; n < full; n++) await breaker.fire()
  fails = true
  return promise(() => caught(() => breaker.fire()))
}

export const contenders: Contenders<Setup> = {
  "bare-effect": () => effect(Effect.void),
  "bare-promise": () => promise(nothing),
  "bare-effect-failure": () => effect(Effect.ignore(failing)),
  "bare-promise-failure": () => promise(() => caught(failed)),
  call,
  rejection,
  "failure-of-10": () => failures(1, "key"),
  "failure-of-many": ({ full }) => failures(full, "other"),
  "cockatiel-call": () => {
    const policy = sampling()
    return promise(() => policy.execute(nothing))
  },
  "cockatiel-rejection": cockatielRejection,
  "cockatiel-failure": cockatielFailure,
  "opossum-call": () => {
    const breaker = new Opossum(nothing, opossumOptions)
    return promise(() => breaker.fire())
  },
  "opossum-rejection": opossumRejection,
  "opossum-failure": opossumFailure
}
