import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import { CircuitOpen } from "../../src/http/CircuitBreakers.js"
import { judgeExit } from "../../src/http/internal/answers.js"
import * as Client from "../../src/http/ResilientHttpClient.js"
import * as Outcome from "../../src/webhooks/Outcome.js"

const head = (status: number, headers: Record<string, string> = {}) => Outcome.fromHead({ status, headers }, 0)

describe("Outcome", () => {
  it.each([
    [200, "delivered", undefined],
    [204, "delivered", undefined],
    [299, "delivered", undefined],
    [300, "failed", "redirect"],
    [308, "failed", "redirect"],
    [400, "failed", "http-status"],
    [404, "failed", "http-status"],
    [410, "failed", "gone"],
    [429, "failed", "http-status"],
    [500, "failed", "http-status"],
    [599, "failed", "http-status"],
    [0, "failed", "protocol"],
    [600, "failed", "protocol"],
    [999, "failed", "protocol"]
  ])("status %i is %s (%s)", (status, outcome, failureClass) => {
    expect(head(status)).toMatchObject({ outcome, class: failureClass, status })
  })

  it("reads Retry-After and the directive of an answer that is not 2xx, and only of such", () => {
    expect(head(503, { "retry-after": "7" }).retryAfter).toBe(7000)
    expect(head(200, { "retry-after": "7" }).retryAfter).toBeUndefined()
    expect(head(400, { "webhook-delivery": "abort-message" }).directive).toBe("abort-message")
    expect(head(400, { "webhook-delivery": "disable" }).directive).toBe("disable")
    expect(head(400, { "webhook-delivery": "something" }).directive).toBeUndefined()
    expect(head(200, { "webhook-delivery": "disable" }).directive).toBeUndefined()
  })

  const call = { url: "https://example.com/", attempts: 1 }
  const request = HttpClientRequest.post("https://example.com/")
  const transport = (kind: "connect" | "connection" | "dns" | "protocol" | "tls") =>
    Client.requestError(request, "Transport", { kind, code: undefined, neverLeft: false }, 1)

  it.each([
    ["timeout", new Client.AttemptTimeout({ ...call, timeout: Duration.seconds(1) })],
    ["timeout", new Client.DeadlineExceeded({ ...call, deadline: Duration.seconds(1) })],
    ["circuit-open", new CircuitOpen({ key: "k", retryAfter: Duration.seconds(1) })],
    ["budget", new Client.RetryBudgetExhausted({ ...call, key: "k", reason: "status 503", status: 503 })],
    ["connect", transport("connect")],
    ["connection", transport("connection")],
    ["dns", transport("dns")],
    ["protocol", transport("protocol")],
    ["tls", transport("tls")]
  ])("%s", (failureClass, error) => {
    expect(Outcome.fromError(error)).toMatchObject({ outcome: "failed", class: failureClass })
  })

  it("an invalid URL is rejected as blocked", () => {
    expect(Outcome.fromError(Client.requestError(request, "InvalidUrl", undefined, 0)))
      .toMatchObject({ outcome: "rejected", class: "blocked" })
  })

  describe("forCircuit", () => {
    it("says of every status what the client's own breaker makes of it", () => {
      const results = { Success: 0, Failure: 0, Neutral: 0 }
      for (let status = 0; status < 1000; status++) {
        const answer = {
          request,
          attempts: 1,
          status,
          headers: request.headers,
          body: new Uint8Array(),
          complete: true
        }
        const expected = judgeExit(Exit.succeed(answer), false)
        expect([status, Outcome.forCircuit(head(status))]).toEqual([status, expected])
        results[expected]++
      }
      expect(results).toEqual({ Success: 993, Failure: 7, Neutral: 0 })
    })

    it.each(
      [
        ["Failure", new Client.AttemptTimeout({ ...call, timeout: Duration.seconds(1) })],
        ["Failure", new Client.DeadlineExceeded({ ...call, deadline: Duration.seconds(1) })],
        ["Failure", transport("connect")],
        ["Failure", transport("connection")],
        ["Failure", transport("dns")],
        ["Failure", transport("protocol")],
        ["Failure", transport("tls")],
        ["Neutral", Client.requestError(request, "InvalidUrl", undefined, 0)],
        ["Neutral", new CircuitOpen({ key: "k", retryAfter: Duration.seconds(1) })],
        ["Neutral", new Error("can't be sent")]
      ] as const
    )("%s of a failure, as the client's own breaker", (expected, error) => {
      expect(judgeExit(Exit.fail(error), false)).toBe(expected)
      expect(Outcome.forCircuit(Outcome.fromError(error))).toBe(expected)
      expect(Outcome.forCircuit({ ...Outcome.fromError(error), attempts: 1 })).toBe(expected)
    })

    it("nothing of an interruption, of a used-up budget, or where no request was made", () => {
      expect(Outcome.forCircuit(Outcome.interrupted)).toBe("Neutral")
      const budget = new Client.RetryBudgetExhausted({ ...call, key: "k", reason: "status 503", status: 503 })
      expect(Outcome.forCircuit(Outcome.fromError(budget))).toBe("Neutral")
      expect(Outcome.forCircuit({ ...Outcome.fromError(transport("connect")), attempts: 0 })).toBe("Neutral")
    })
  })
})
