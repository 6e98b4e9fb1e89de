import { describe, expect, it } from "@effect/vitest"
import { inspect } from "node:util"
import * as TransportFailure from "../../src/http/TransportFailure.js"

const coded = (code: string, more: object = {}) => Object.assign(new Error(`canary ${code}`), { code, ...more })

describe("TransportFailure", () => {
  it.each([
    ["ENOTFOUND", "dns", true],
    ["EAI_AGAIN", "dns", true],
    ["ECONNREFUSED", "connect", true],
    ["UND_ERR_CONNECT_TIMEOUT", "connect", true],
    ["ECONNRESET", "connection", false],
    ["EPIPE", "connection", false],
    ["UND_ERR_SOCKET", "connection", false],
    ["HPE_INVALID_CONSTANT", "protocol", false],
    ["UND_ERR_HEADERS_OVERFLOW", "protocol", false],
    ["ERR_ASSERTION", "protocol", false],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", "tls", true],
    ["CERT_HAS_EXPIRED", "tls", true],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "tls", true],
    ["ERR_SSL_WRONG_VERSION_NUMBER", "tls", false],
    ["EPROTO", "tls", false]
  ])("%s is %s, never left: %s", (code, kind, neverLeft) => {
    expect(TransportFailure.fromCause(coded(code))).toEqual({ kind, code, neverLeft })
    expect(TransportFailure.fromCause(new Error("outer", { cause: coded(code) }))).toEqual({ kind, code, neverLeft })
  })

  it.each(["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN", "EADDRNOTAVAIL"])(
    "%s: only the connect's own surely never left",
    (code) => {
      const never = { kind: "connect", code, neverLeft: true }
      expect(TransportFailure.fromCause(coded(code, { syscall: "connect" }))).toEqual(never)
      // All addresses of a name were tried.
      expect(TransportFailure.fromCause(Object.assign(new AggregateError([]), { code }))).toEqual(never)
      const broken = { kind: "connection", code, neverLeft: false }
      expect(TransportFailure.fromCause(coded(code, { syscall: "read" }))).toEqual(broken)
      expect(TransportFailure.fromCause(coded(code))).toEqual(broken)
    }
  )

  it("an answer that does not begin as HTTP is protocol, though undici gives no code", () => {
    const error = Object.assign(new Error("canary"), { name: "HTTPParserError", code: undefined, data: "canary" })
    expect(TransportFailure.fromCause(error)).toEqual({ kind: "protocol", code: undefined, neverLeft: false })
  })

  it("what is unknown is a broken connection that may have left, and its words stay out", () => {
    const circular: { cause?: unknown } = {}
    circular.cause = circular
    for (
      const cause of [
        undefined,
        null,
        "canary",
        42,
        {},
        circular,
        coded("canary with spaces"),
        coded("CANARY_UNKNOWN"),
        coded("canary"),
        Object.assign(new Error("x"), { code: 7 })
      ]
    ) {
      const failure = TransportFailure.fromCause(cause)
      expect(failure).toEqual({ kind: "connection", code: undefined, neverLeft: false })
      expect(inspect(failure) + TransportFailure.describe(failure)).not.toMatch(/canary/i)
    }
  })

  it("in words", () => {
    expect(TransportFailure.describe(TransportFailure.fromCause(coded("ECONNREFUSED")))).toBe(
      "could not connect (ECONNREFUSED)"
    )
    expect(TransportFailure.describe(TransportFailure.fromCause(undefined))).toBe("the connection broke")
  })
})
