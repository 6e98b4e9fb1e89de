import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Redacted from "effect/Redacted"
import * as Excerpt from "../../src/webhooks/internal/excerpt.js"
import { requestSecrets } from "../../src/webhooks/internal/requestSecrets.js"
import { find } from "../secrets/canaries.js"

const excerpt = (body: string | Uint8Array, secrets: ReadonlyArray<string> = []) =>
  Excerpt.make(typeof body === "string" ? Buffer.from(body) : body, () => secrets)

/** The windows of 8 characters that a text has, or the text itself if it is shorter. */
const windows = (text: string): ReadonlyArray<string> =>
  Array.from({ length: Math.max(1, text.length - 7) }, (_, at) => text.slice(at, at + 8))

const leaks = (shown: string | undefined, secret: string): ReadonlyArray<string> =>
  windows(secret.toLowerCase()).filter((part) => shown?.toLowerCase().includes(part))

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const bare = secret.slice(6)
const key = Buffer.from(bare, "base64")

describe("what is shown", () => {
  it("nothing of an empty body, or of one that says nothing", () => {
    for (const body of ["", " \r\n\t", "\u0000\u200b\u202e", "\ufeff"]) expect(excerpt(body)).toBeUndefined()
  })

  it("text as it is", () => {
    expect(excerpt("{\"error\": \"größer 🎉\"}")).toBe("{\"error\": \"größer 🎉\"}")
  })

  it("line breaks and tabs as spaces; controls, escapes, bidirectional and invisible characters not at all", () => {
    expect(excerpt("a\r\nb\nc\td\u2028e")).toBe("a b c d e")
    const hidden =
      "\u0000\u0007\u001b\u007f\u0080\u009f\u00ad\u061c\u115f\u200b\u200d\u200e\u202e\u2066\ufe0f\ufeff\u{e0041}"
    expect(excerpt(`a${hidden}b`)).toBe("ab")
  })

  it("what is no UTF-8 as U+FFFD", () => {
    expect(excerpt(Buffer.from([0x61, 0xff, 0xc3, 0x62]))).toBe("a\ufffd\ufffdb")
  })

  it("at most 1 000 characters, no half of a pair, no half of a mark", () => {
    expect(excerpt("x".repeat(20_000))).toBe("x".repeat(1000))
    expect(excerpt(`${"x".repeat(999)}🎉`)).toBe(`${"x".repeat(999)}\ufffd`)
    expect(excerpt(`${"x".repeat(990)}${bare}`, [secret])).toBe(`${"x".repeat(990)}[redacted]`)
    expect(excerpt(`${"x".repeat(991)}${bare}`, [secret])).toBe("x".repeat(991))
  })

  it("for any bytes: bounded, without a character that acts or hides, and well-formed", () => {
    const bytes = FastCheck.oneof(
      FastCheck.uint8Array({ maxLength: 3000, size: "max" }),
      FastCheck.string({ unit: "binary", maxLength: 2000, size: "max" }).map((text) => Buffer.from(text))
    )
    FastCheck.assert(
      FastCheck.property(bytes, (body) => {
        const shown = excerpt(body)
        if (shown === undefined) return
        expect(shown.length).toBeLessThanOrEqual(1000)
        expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u)
      }),
      { numRuns: 300 }
    )
  })

  it("printable text without secrets stays as it is", () => {
    const text = FastCheck.string({ minLength: 1, maxLength: 1000, size: "max" }).filter((text) => text.trim() !== "")
    FastCheck.assert(
      FastCheck.property(text, (body) => {
        expect(excerpt(body, requestSecrets(endpoint({ secret }), [], body.length))).toBe(body)
      }),
      { numRuns: 300 }
    )
  })
})

interface Given {
  readonly secret?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly url?: string
}

const endpoint = ({ headers = {}, secret, url = "https://a.example.com/in" }: Given) => ({
  url,
  secrets: secret === undefined ? [] : [{ value: Redacted.make(secret), expiresAt: undefined }],
  headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Redacted.make(value)]))
})

/** The excerpt of a body as the answer of an endpoint. */
const answer = (body: string | Uint8Array, given: Given, signatures: ReadonlyArray<string> = []) =>
  Excerpt.make(
    typeof body === "string" ? Buffer.from(body) : body,
    (length) => requestSecrets(endpoint(given), signatures, length)
  )

describe("secrets of the request", () => {
  it.each([
    ["as it is", secret],
    ["without its prefix", bare],
    ["in capitals", secret.toUpperCase()],
    ["as hex of its bytes", key.toString("hex")],
    ["as hex in capitals", key.toString("hex").toUpperCase()],
    ["as hex of its text", Buffer.from(secret).toString("hex")],
    ["as base64 of its text", Buffer.from(secret).toString("base64")],
    ["as base64url", Buffer.from(secret).toString("base64url")],
    ["as the raw bytes", key],
    ["escaped for a URL", encodeURIComponent(secret)],
    ["with controls between", [...secret].join("\u0000")],
    ["with invisible characters between", [...secret].join("\u200b")],
    ["as UTF-16", Buffer.from(secret, "utf16le")]
  ])("the signing secret %s", (_, echoed) => {
    const body = Buffer.concat([Buffer.from("bad secret <"), Buffer.from(echoed), Buffer.from("> given")])
    expect(answer(body, { secret })).toBe("bad secret <[redacted]> given")
  })

  it("eight characters of it suffice, seven are no secret", () => {
    for (let at = 0; at + 8 <= secret.length; at++) {
      expect(answer(`~ ${secret.slice(at, at + 8)} ~`, { secret })).toBe("~ [redacted] ~")
      expect(answer(`~ ${secret.slice(at, at + 7)} ~`, { secret })).toBe(`~ ${secret.slice(at, at + 7)} ~`)
    }
  })

  it.each([
    ["a letter a word", [...secret].join(" ")],
    ["a letter a line", [...secret].join("\n")],
    ["as an array of letters", JSON.stringify([...secret])],
    ["as an array of letters in a text", JSON.stringify({ message: JSON.stringify([...secret]) })],
    ["as letters by their places", JSON.stringify({ ...[...secret] })],
    ["as bytes by their places", JSON.stringify(new Uint8Array(Buffer.from(secret)))],
    ["a colour a letter", [...secret].map((letter) => `\u001b[31m${letter}`).join("")],
    [
      "in letters of full width",
      [...secret].map((letter) => String.fromCodePoint(letter.codePointAt(0)! + 0xfee0)).join("")
    ],
    ["as base64 in groups of four", Buffer.from(secret).toString("base64").replace(/.{4}/g, "$& ")],
    ["as base64 in short lines", Buffer.from(secret).toString("base64").replace(/.{10}/g, "$&\r\n")]
  ])("in pieces, %s", (_, text) => {
    const shown = answer(text, { secret }) ?? ""
    expect(shown).toContain("[redacted]")
    expect(shown.replace(/\[redacted\]|\s/g, "").length).toBeLessThan(8)
  })

  it("what a terminal obeys goes as a whole", () => {
    expect(answer("\u001b[31mred\u001b[0m \u009b1mbold", { secret })).toBe("red bold")
  })

  it("a secret that decodes to text, as that text; one with slashes as JSON and PHP escape it", () => {
    const text = "correct horse battery staple"
    expect(answer(`key: ${text}!`, { secret: `whsec_${Buffer.from(text).toString("base64")}` })).toBe(
      "key: [redacted]!"
    )
    const slashes = `whsec_${"/+".repeat(16)}`
    expect(answer(`{"k":"${slashes.replaceAll("/", "\\/")}"}`, { secret: slashes })).toBe("{\"k\":\"[redacted]\"}")
    expect(answer(slashes.replaceAll("/", "_").replaceAll("+", "-"), { secret: slashes })).toBe("[redacted]")
  })

  it("a short secret as a whole, in a short answer too", () => {
    expect(answer("the pin is 1234.", { secret: "1234" })).toBe("the pin is [redacted].")
    expect(answer("1234", { secret: "1234" })).toBe("[redacted]")
    expect(answer("12", { secret: "1234" })).toBe("12")
  })

  it("header values, the credential alone, and what Basic holds; of other short values nothing", () => {
    const headers = {
      Authorization: `Basic ${Buffer.from("service-user:pa55 w0rd").toString("base64")}`,
      "X-Token": "Bearer abcdef",
      "X-Debug": "true"
    }
    expect(answer(`got ${headers.Authorization}`, { headers })).toBe("got [redacted]")
    expect(answer("no user service-user", { headers })).toBe("no user [redacted]")
    expect(answer("wrong: pa55 w0rd", { headers })).toBe("wrong: [redacted]")
    expect(answer("token ABCDEF expired", { headers })).toBe("token [redacted] expired")
    expect(answer("{\"ok\":true}", { headers })).toBe("{\"ok\":true}")
  })

  it("the query and the userinfo of the URL, as they are and unescaped; not host and path", () => {
    const url = "https://user:p%40ssw0rd@hooks.example.com/services/in?token=a%2Fbcdefghi&v=2"
    expect(answer("token=a%2Fbcdefghi&v=2", { url })).toBe("[redacted]")
    expect(answer("bad token a/bcdefghi", { url })).toBe("bad token [redacted]")
    expect(answer("wrong password p@ssw0rd", { url })).toBe("wrong password [redacted]")
    expect(answer("no /services/in at hooks.example.com, v=2", { url })).toBe(
      "no /services/in at hooks.example.com, v=2"
    )
  })

  it("the signatures that were sent, each alone too", () => {
    const one = Buffer.alloc(32, 0x3f).toString("base64")
    const two = Buffer.alloc(32, 0xfb).toString("base64")
    const hex = "0123456789abcdef".repeat(4)
    const signatures = [`v1,${one} v1,${two}`, hex]
    for (
      const echoed of [
        one,
        two,
        two.replaceAll("+", "-").replaceAll("/", "_"),
        Buffer.alloc(32, 0xfb).toString("hex"),
        hex
      ]
    ) {
      expect(answer(`got ${echoed}`, {}, signatures)).toBe("got [redacted]")
    }
  })

  it("a secret at the cut, wherever it begins, leaks nothing", () => {
    for (const size of [1000, 8192]) {
      for (let at = size - secret.length - 10; at < size + 2; at++) {
        const shown = answer(`${"x".repeat(at)}${secret}${"y".repeat(20_000)}`, { secret })
        expect([at, leaks(shown, secret)]).toEqual([at, []])
      }
    }
  })

  it("nor where the reading ends, when what comes before was masked", () => {
    const headers = { "X-Long": "0123456789".repeat(750) }
    const body = `${headers["X-Long"]}${"x".repeat(8192 - 7500 - 7)}${secret}${"y".repeat(9000)}`
    expect(answer(body, { secret, headers })).toBe(`[redacted]${"x".repeat(685)}`)
  })

  const bytesOf = (text: string) => [...Buffer.from(text)]
  const digits = (text: string) => bytesOf(text).map((byte) => byte.toString(16).padStart(2, "0"))
  const ways: Readonly<Record<string, (text: string) => string>> = {
    "percent-encoding of every character": (text) => digits(text).map((two) => `%${two}`).join(""),
    "percent-encoding twice": (text) => digits(text).map((two) => `%25${two}`).join(""),
    "\\u00XX": (text) => digits(text).map((two) => `\\u00${two}`).join(""),
    "\\u00XX in JSON in JSON": (text) => digits(text).map((two) => `\\\\u00${two}`).join(""),
    "\\u{XX}": (text) => digits(text).map((two) => `\\u{${two}}`).join(""),
    "\\xXX": (text) => digits(text).map((two) => `\\x${two.toUpperCase()}`).join(""),
    "octal escapes": (text) => bytesOf(text).map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join(""),
    "a backslash before each": (text) => [...text].map((one) => `\\${one}`).join(""),
    "a list of bytes": (text) => bytesOf(text).join(","),
    "a list of bytes with spaces": (text) => `[ ${bytesOf(text).join(" , ")} ]`,
    "bytes of C": (text) => digits(text).map((two) => `0x${two}`).join(", "),
    "a hexdump with spaces": (text) => digits(text).join(" "),
    "a hexdump with colons": (text) => digits(text).join(":").toUpperCase(),
    "a hexdump as xxd makes it": (text) => `00000000: ${digits(text).join("").match(/.{1,4}/g)?.join(" ") ?? ""}  `,
    "decimal references": (text) => bytesOf(text).map((byte) => `&#${byte};`).join(""),
    "hexadecimal references": (text) => digits(text).map((two) => `&#x${two};`).join(""),
    "quoted-printable": (text) => digits(text).map((two) => `=${two.toUpperCase()}`).join(""),
    "base64 behind one byte": (text) => Buffer.from(`x${text}`).toString("base64"),
    "base64 behind two bytes": (text) => Buffer.from(`xx${text}`).toString("base64"),
    "base64url behind two bytes": (text) => Buffer.from(`xx${text}y`).toString("base64url"),
    "base64 in a URL": (text) => encodeURIComponent(Buffer.from(`k: ${text}`).toString("base64"))
  }

  it.each(Object.entries(ways))("as %s: nothing of it can be read, whole or in part", (_, way) => {
    const given = {
      secret,
      headers: { "x-api-key": "hdrCANARY12345xyzABCdef", authorization: "Basic dXNlci1uYW1lOnBhc3MrL3dvcmQ=" },
      url: "https://a.example.com/in?k=queryCANARY123longValue"
    }
    const told = {
      secret,
      header: given.headers["x-api-key"],
      user: "user-name",
      password: "pass+/word",
      query: "queryCANARY123longValue"
    }
    for (const value of [...Object.values(told), told.header.slice(0, 8), secret.slice(10, 20)]) {
      for (const before of ["", "err ", "{\"e\":\"", "x".repeat(970)]) {
        const shown = answer(`${before}${way(value)} end`, given) ?? ""
        expect([shown, find([["", shown]], told)]).toEqual([shown, []])
      }
    }
    // What tells nothing is shown as it is.
    const other = `err ${way("something-else-that-is-no-secret")} end`
    expect(answer(other, given)).toBe(other)
  })

  it("as a list of the bytes of a key that is no text", () => {
    for (const way of [[...key].join(","), key.toString("hex").replace(/../g, "$& ")]) {
      expect(answer(`key ${way}`, { secret })).toBe("[redacted]")
    }
  })

  it("reads a body of 16 KiB that is all escapes in little time", () => {
    const body = "%2541\\u0025&#37;,104,0x68 QUJDREVGR0hJSktM".repeat(400)
    const startedAt = performance.now()
    for (let n = 0; n < 20; n++) answer(body, { secret })
    expect((performance.now() - startedAt) / 20).toBeLessThan(100)
  })

  const printable = FastCheck.string({ minLength: 8, maxLength: 80 })
  const form = FastCheck.constantFrom<(text: string) => string>(
    (text) => text,
    (text) => Buffer.from(text).toString("hex"),
    (text) => Buffer.from(text).toString("base64"),
    (text) => JSON.stringify(text).slice(1, -1),
    (text) => encodeURIComponent(text)
  )
  const noise = FastCheck.string({ unit: "grapheme", maxLength: 1500, size: "max" })

  it("for any secret, in any form, anywhere: no window of it remains", () => {
    let masked = 0
    FastCheck.assert(
      FastCheck.property(printable, form, noise, noise, FastCheck.boolean(), (text, form, before, after, inHeader) => {
        const echoed = form(text)
        const shown = answer(`${before}${echoed}${after}`, inHeader ? { headers: { "x-key": text } } : { secret: text })
        if (shown?.includes(Excerpt.mark)) masked++
        expect(leaks(shown, echoed)).toEqual([])
      }),
      { numRuns: 500 }
    )
    expect(masked).toBeGreaterThan(200)
  })
})
