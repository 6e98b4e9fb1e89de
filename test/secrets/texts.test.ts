/** What other programs say of a failure never comes through: whatever they throw, and whatever a peer answers, the words are ours. */
import { SqlError } from "@effect/sql/SqlError"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as TransportFailure from "../../src/http/TransportFailure.js"
import { toUnavailable } from "../../src/outbox/internal/driverErrors.js"
import { reserve } from "../../src/outbox/internal/watching.js"
import { OutboxUnavailable } from "../../src/outbox/OutboxError.js"
import { head } from "../support/driving.js"
import { tcpPeer } from "../support/peers.js"
import { canaries } from "./canaries.js"
import { isOurs } from "./messages.js"
import { client } from "./sending.js"
import { seeExit, watch } from "./watching.js"

const word = canaries["query value"]

/** Something that a client or a driver may throw: with its own words everywhere, and codes of all kinds. */
const thrown = FastCheck.letrec((again) => ({
  error: FastCheck.record({
    message: FastCheck.constantFrom(
      `other side closed ${word}`,
      `connect ECONNREFUSED ${word}`,
      "bad response",
      "connection terminated",
      word
    ),
    code: FastCheck.constantFrom(
      "ECONNREFUSED",
      "ECONNRESET",
      "ENOTFOUND",
      "UND_ERR_SOCKET",
      "ERR_TLS_CERT_ALTNAME_INVALID",
      "HPE_INVALID",
      "28P01",
      "42P01",
      "SQLITE_BUSY",
      word,
      `E ${word}`,
      7,
      undefined
    ),
    name: FastCheck.constantFrom("HTTPParserError", word, "Error"),
    syscall: FastCheck.constantFrom("connect", word, undefined),
    _tag: FastCheck.constantFrom("NameNotResolved", "StaleConnection", undefined, word),
    cause: FastCheck.option(again("error"), { nil: undefined, maxDepth: 4 }),
    errors: FastCheck.option(FastCheck.array(again("error"), { maxLength: 2 }), { nil: undefined, maxDepth: 2 })
  })
})).error

describe("in our own words", () => {
  it("whatever a transport throws", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.oneof(thrown, FastCheck.anything()), (error) => {
        const failure = TransportFailure.fromCause(error)
        const said = `Transport: ${
          TransportFailure.describe(failure)
        }; attempts made: 1 (POST https://hooks.example.com/)`
        expect([said, isOurs(said)]).toEqual([said, true])
        expect(JSON.stringify(failure)).not.toContain(word)
      }),
      { numRuns: 500 }
    )
  })

  it("whatever a database throws", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.oneof(thrown, FastCheck.anything()), (error) => {
        const unavailable = toUnavailable(error)
        expect(unavailable).toBeInstanceOf(OutboxUnavailable)
        expect(unavailable.code ?? "NONE").toMatch(/^[A-Z0-9_]{3,40}$/)
        expect(JSON.stringify(unavailable) + unavailable.message).not.toContain(word)
      }),
      { numRuns: 500 }
    )
  })

  it.scopedLive("in the logs of a connection that doesn't come about", () => {
    const to = watch()
    return Effect.gen(function*() {
      const refused = new SqlError({
        cause: new Error(`password authentication failed for user "${word}"`),
        message: word
      })
      const scope = yield* Effect.scope
      const exit = yield* Effect.exit(reserve({ reserve: Effect.fail(refused) } as never, scope, "1 second"))
      expect(Exit.isFailure(exit)).toBe(true)
      to.expectClean()
    }).pipe(Effect.provide(to.layer))
  })

  it.scopedLive("whatever a peer answers", () => {
    const to = watch()
    return Effect.gen(function*() {
      let answer = Buffer.alloc(0)
      const peer = yield* tcpPeer((socket) => socket.end(answer))
      const pieces = FastCheck.oneof(
        FastCheck.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
        FastCheck.constantFrom(
          "HTTP/1.1 ",
          "200 ",
          "404 ",
          "2000 ",
          word,
          "\r\n",
          "\r\n\r\n",
          "content-length: 5\r\n",
          "content-length: -1\r\n",
          "transfer-encoding: chunked\r\n",
          `x: ${word}\r\n`,
          `${word}: \u0000\r\n`,
          "5\r\nabcde\r\n0\r\n\r\n",
          "zz\r\n"
        ).map((text) => Buffer.from(text))
      )
      const answers = FastCheck.sample(FastCheck.array(pieces, { minLength: 1, maxLength: 8 }), 60)
      let failed = 0
      for (const [index, all] of answers.entries()) {
        answer = Buffer.concat(index % 2 === 0 ? [Buffer.from("HTTP/1.1 "), ...all] : all)
        const error = yield* seeExit(to, "answer", Effect.asVoid(head(`${peer.url}/x?key=${word}`)))
        if (error === undefined) continue
        failed++
        expect(error).toBeInstanceOf(Error)
        const { message } = error as Error
        expect([message, isOurs(message)]).toEqual([message, true])
      }
      expect(failed).toBeGreaterThan(30)
      to.expectClean()
    }).pipe(
      Effect.provide(
        client({ retry: { maxRetries: 0 }, breaker: { consecutiveFailures: 1000, minimumThroughput: 1000 } })
      ),
      Effect.provide(to.layer)
    )
  })
})
