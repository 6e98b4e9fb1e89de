/**
 * A program that tells how much of 20 runs is still there after small collections: of effects under our mask and under Effect's, and of requests. Run with
 * `--expose-gc`.
 */
import type { Dispatcher } from "@effect/platform-node/Undici"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as DispatcherTransport from "../../src/http/internal/dispatcherTransport.js"
import { uninterruptibleMask } from "../../src/Masking.js"

type Mask = typeof uninterruptibleMask

const size = 200_000

const collect = (): void => {
  for (let n = 0; n < 3; n++) Reflect.apply(Reflect.get(globalThis, "gc") as () => void, undefined, [{ type: "minor" }])
}

const kept = async (run: (bytes: ArrayBuffer) => Effect.Effect<unknown, unknown>): Promise<number> => {
  collect()
  const before = process.memoryUsage().arrayBuffers
  for (let n = 0; n < 20; n++) await Effect.runPromise(run(new ArrayBuffer(size)))
  collect()
  return Math.round((process.memoryUsage().arrayBuffers - before) / size)
}

/** The median of three: while the engine itself collects, what is under way may get into old memory whoever holds it, and what was there may go. */
const median = async (run: (bytes: ArrayBuffer) => Effect.Effect<unknown, unknown>): Promise<number> =>
  [await kept(run), await kept(run), await kept(run)].sort((a, b) => a - b)[1]!

const under = (mask: Mask) => (bytes: ArrayBuffer) => mask((restore) => restore(Effect.sync(() => bytes.byteLength)))

const effects: Mask = (use) =>
  Effect.withFiberRuntime((fiber) => Effect.uninterruptibleMask((restore) => use(restore, fiber)))

/** Accepts everything. */
const accepting: Pick<Dispatcher, "dispatch"> = {
  dispatch: (_, handler) => {
    handler.onConnect?.(() => undefined)
    handler.onHeaders?.(204, [], () => undefined, "No Content")
    handler.onComplete?.([])
    return true
  }
}

const transport = DispatcherTransport.make(accepting as Dispatcher, () => Effect.dieMessage("not made for this"))

const request = (bytes: ArrayBuffer) =>
  Effect.flatMap(Clock.clockWith(Effect.succeed), (clock) =>
    transport(
      HttpClientRequest.post("http://127.0.0.1/", { body: HttpBody.uint8Array(new Uint8Array(bytes)) }),
      {
        time: 1000,
        whole: undefined,
        capture: { keepBytes: 10, readBytes: 10, time: 1000 },
        clock,
        headers: {},
        attempt: 1,
        correlationId: "c",
        within: identity,
        onHead: () => undefined
      }
    ))

const ours = await median(under(uninterruptibleMask))
const requests = await median(request)
// Last: a full collection would make less of what comes after it.
process.send!({ ours, requests, effects: await kept(under(effects)) })
process.disconnect()
