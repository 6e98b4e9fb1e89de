import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Redacted from "effect/Redacted"
import { createHmac } from "node:crypto"
import { readFileSync } from "node:fs"
import { inspect } from "node:util"
import { Webhook } from "standardwebhooks"
import * as SecureRandom from "../../src/SecureRandom.js"
import * as WebhookSignature from "../../src/webhooks/WebhookSignature.js"

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const whsk = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
const whpk = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
const other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
const id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
const timestamp = 1614265330
const body = "{\"test\": 2432232314}"

const signing = (...secrets: ReadonlyArray<string>) =>
  secrets.map((secret) => Either.getOrThrow(WebhookSignature.parseSecret(Redacted.make(secret))))
const verifying = (...secrets: ReadonlyArray<string>) =>
  secrets.map((secret) => Either.getOrThrow(WebhookSignature.parseVerifyingSecret(Redacted.make(secret))))
const reasonOf = (secret: string) =>
  Either.match(WebhookSignature.parseSecret(Redacted.make(secret)), {
    onLeft: (error) => error.reason,
    onRight: (key) => key._tag
  })
const sign = (options: Partial<Parameters<typeof WebhookSignature.sign>[0]>) =>
  Either.getOrThrow(WebhookSignature.sign({ id, timestamp, body, keys: signing(whsec), ...options }))
const verdict = (options: Partial<Parameters<typeof WebhookSignature.verify>[0]>) =>
  Either.match(
    WebhookSignature.verify({ headers: sign({}), body, keys: verifying(whsec), now: timestamp * 1000, ...options }),
    { onLeft: (error) => error.reason, onRight: () => "valid" }
  )

interface Vector {
  readonly vector: string
  readonly scheme: string
  readonly secret: string
  readonly publicKey?: string
  readonly id: string
  readonly timestamp: number
  readonly now: number
  readonly toleranceSeconds: number
  readonly body?: string
  readonly body_base64?: string
  readonly headers: Record<string, string>
  readonly valid: boolean
  readonly why: string
}
const corpus = (name: string) => JSON.parse(readFileSync(`../shared/corpora/${name}.json`, "utf8"))
const vectors: ReadonlyArray<Vector> = corpus("signature-vectors")

describe("WebhookSignature vectors", () => {
  for (const vector of vectors) {
    const bytes = vector.body_base64 === undefined
      ? Buffer.from(vector.body ?? "")
      : Buffer.from(vector.body_base64, "base64")
    for (const secret of vector.publicKey === undefined ? [vector.secret] : [vector.secret, vector.publicKey]) {
      it(`${vector.vector} ${secret.slice(0, 5)}: ${vector.why}`, () => {
        const result = WebhookSignature.verify({
          headers: vector.headers,
          body: bytes,
          keys: verifying(secret),
          now: vector.now * 1000,
          tolerance: `${vector.toleranceSeconds} seconds`
        })
        expect(Either.isRight(result)).toBe(vector.valid)
      })
    }
    const signature = vector.headers["webhook-signature"] ?? ""
    // A secret without a prefix signs with its UTF-8 bytes; the row's libraries take it for base64.
    if (vector.valid && vector.scheme !== "svix" && vector.secret.startsWith("whs")) {
      it(`${vector.vector}: golden output`, () => {
        const { "webhook-id": webhookId, "webhook-signature": ours, "webhook-timestamp": time } = sign({
          id: vector.id,
          timestamp: vector.timestamp,
          body: bytes,
          keys: signing(vector.secret)
        })
        expect({ id: webhookId, timestamp: time }).toEqual({ id: vector.id, timestamp: String(vector.timestamp) })
        expect(signature.split(" ")).toContain(ours)
      })
    }
  }

  it("the reasons of the refused rows", () => {
    const reasons = new Map(
      vectors.filter((vector) => !vector.valid).map((vector) => [
        vector.vector,
        Either.match(
          WebhookSignature.verify({
            headers: vector.headers,
            body: vector.body ?? "",
            keys: verifying(vector.secret),
            now: vector.now * 1000
          }),
          { onLeft: (error) => error.reason, onRight: () => "valid" }
        )
      ])
    )
    expect(reasons.get("sig-026")).toBe("missing-header")
    expect(reasons.get("sig-028")).toBe("missing-header")
    expect(reasons.get("sig-036")).toBe("too-new")
    expect(reasons.get("sig-056")).toBe("too-new")
    expect(reasons.get("sig-058")).toBe("bad-timestamp")
    expect(reasons.get("sig-060")).toBe("bad-timestamp")
    expect(reasons.get("sig-062")).toBe("bad-timestamp")
    expect(reasons.get("sig-064")).toBe("no-match")
    expect(reasons.get("sig-072")).toBe("missing-header")
    expect(reasons.get("sig-074")).toBe("too-old")
  })
})

describe("sign", () => {
  it("the published vectors, in the order of the keys", () => {
    expect(sign({ keys: signing(whsk, whsec) })).toEqual({
      "webhook-id": id,
      "webhook-timestamp": "1614265330",
      "webhook-signature":
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
      "x-webhook-signature": createHmac("sha256", whsec).update(body).digest("hex")
    })
  })

  it("the seed alone signs as seed and public key do", () => {
    const seed = `whsk_${Buffer.from(whsk.slice(5), "base64").subarray(0, 32).toString("base64")}`
    expect(sign({ keys: signing(seed) })).toEqual(sign({ keys: signing(whsk) }))
  })

  it("unsigned without keys; no body signature without a symmetric key", () => {
    expect(sign({ keys: [] })).toEqual({ "webhook-id": id, "webhook-timestamp": "1614265330" })
    expect(sign({ keys: signing(whsk) })["x-webhook-signature"]).toBeUndefined()
  })

  it("a plain secret is keyed with its UTF-8 bytes, base64 or not", () => {
    for (const secret of ["пароль-пароль-пароль", "0123456789abcdef0123456789abcdef", "short"]) {
      expect(sign({ keys: signing(secret) })).toMatchObject({
        "webhook-signature": `v1,${createHmac("sha256", secret).update(`${id}.${timestamp}.${body}`).digest("base64")}`,
        "x-webhook-signature": createHmac("sha256", secret).update(body).digest("hex")
      })
    }
  })

  it("the newest symmetric secret signs the body", () => {
    const headers = sign({ keys: signing(whsk, other, whsec) })
    expect(headers["x-webhook-signature"]).toBe(createHmac("sha256", other).update(body).digest("hex"))
  })

  it("refuses ids and timestamps that could be misread", () => {
    for (const bad of ["", "a.b", "a b", "é", "a\n", "x".repeat(65), "msg_1.1614265330"]) {
      expect(WebhookSignature.sign({ id: bad, timestamp, body, keys: [] })).toMatchObject({
        _tag: "Left",
        left: { _tag: "InvalidMessageId" }
      })
    }
    for (const bad of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      expect(WebhookSignature.sign({ id, timestamp: bad, body, keys: [] })).toMatchObject({
        _tag: "Left",
        left: { _tag: "InvalidTimestamp" }
      })
    }
  })
})

describe("secrets", () => {
  it("each refusal has its reason", () => {
    const base64 = (length: number) => Buffer.alloc(length, 7).toString("base64")
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["", "empty"],
      ["whsec_", "empty"],
      ["whsk_", "empty"],
      [` ${whsec}`, "whitespace"],
      [`${whsec}\n`, "whitespace"],
      ["a b", "whitespace"],
      ["a\u0000b-long-enough-for-all", "whitespace"],
      ["a\u200Bb-long-enough-for-all", "whitespace"],
      ["$" + "{WEBHOOK_SECRET}", "invalid"],
      ["prefix-$" + "{WEBHOOK_SECRET}", "invalid"],
      ["whsec_$" + "{SECRET}", "invalid"],
      ["{{secret}}", "invalid"],
      ["<%=secret%>", "invalid"],
      ["$WEBHOOK_SECRET", "invalid"],
      ["%WEBHOOK_SECRET%", "invalid"],
      ["half-a-surrogate-\uD800", "invalid"],
      ["replaced-\uFFFD", "invalid"],
      ["whsec_пароль-пароль-пароль-пароль", "invalid"],
      ["whsec_-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s", "invalid"],
      [`whsec_${base64(32).replace(/=+$/, "")}`, "invalid"],
      [`whsec_${base64(25).replace("==", "")}`, "invalid"],
      [`whsec_${whsec}`, "invalid"],
      [`whsec_${base64(23)}`, "too-short"],
      [`whsec_${base64(24)}`, "Hmac"],
      [`whsec_${base64(64)}`, "Hmac"],
      [`whsec_${base64(65)}`, "too-long"],
      [whsec.replace("whsec_", "WHSEC_"), "kind"],
      [`whsk_${base64(31)}`, "kind"],
      [`whsk_${base64(64)}`, "kind"],
      [`whsk_${base64(32)}`, "Ed25519"],
      [whpk, "kind"],
      ["whpk_AAAA", "kind"],
      ["any other text", "whitespace"],
      ["$ecret-with-a-dollar", "Hmac"],
      ["s", "Hmac"]
    ]
    expect(cases.map(([secret]) => reasonOf(secret))).toEqual(cases.map(([, expected]) => expected))
  })

  it("the secret rows of the configuration corpus", () => {
    const rows: ReadonlyArray<{ id: string; raw: string; error?: { code: string } }> = corpus("bad-config")
      .filter((row: { category: string }) => row.category === "secret")
    let checked = 0
    for (const row of rows) {
      const secret: unknown = JSON.parse(row.raw).OrderCreated[0].secret
      if (typeof secret !== "string") continue
      checked++
      const reason = reasonOf(secret)
      expect([row.id, row.error?.code]).toEqual([
        row.id,
        reason === "Hmac" || reason === "Ed25519" ? undefined : `secret_${reason.replace("-", "_")}`
      ])
    }
    expect(checked).toBeGreaterThanOrEqual(8)
  })

  it("weak under 16 bytes", () => {
    expect(signing("123456789012345", "1234567890123456", "éééééééé", whsec, whsk).map((key) => key.weak)).toEqual([
      true,
      false,
      false,
      false,
      false
    ])
  })

  it("is parsed once an object", () => {
    const secret = Redacted.make(whsec)
    expect(WebhookSignature.parseSecret(secret)).toStrictEqual(WebhookSignature.parseSecret(secret))
    expect(Either.getOrThrow(WebhookSignature.parseSecret(secret))).toBe(
      Either.getOrThrow(WebhookSignature.parseVerifyingSecret(secret))
    )
  })

  it("neither keys nor errors show the secret", () => {
    const show = (value: unknown) =>
      `${inspect(value, { depth: 10, showHidden: true })} ${JSON.stringify(value)} ${value}`
    for (const secret of [whsec, whsk, whpk, "plain-secret-of-some-length", `${whsec}!`, "whsec_c2hvcnRrZXk="]) {
      for (const parse of [WebhookSignature.parseSecret, WebhookSignature.parseVerifyingSecret]) {
        const shown = show(Either.merge(parse(Redacted.make(secret))))
        for (let i = 0; i + 8 <= secret.length; i++) expect(shown).not.toContain(secret.slice(i, i + 8))
      }
    }
  })

  it.effect("generated ones are what they say", () =>
    Effect.gen(function*() {
      const hmac = yield* WebhookSignature.generateSecret({ kind: "hmac" })
      expect(Redacted.value(hmac.secret)).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
      expect(Redacted.value((yield* WebhookSignature.generateSecret()).secret)).toMatch(/^whsec_/)
      const pair = yield* WebhookSignature.generateSecret({ kind: "ed25519" })
      expect(Redacted.value(pair.secret)).toMatch(/^whsk_[A-Za-z0-9+/]{86}==$/)
      expect(inspect(pair)).not.toContain("whsk_")
      const headers = sign({ keys: signing(Redacted.value(pair.secret)) })
      expect(verdict({ headers, keys: verifying(pair.publicKey) })).toBe("valid")
    }))

  it.effect("come from SecureRandom", () =>
    Effect.gen(function*() {
      const generate = (seed: string) =>
        WebhookSignature.generateSecret({ kind: "hmac" }).pipe(
          Effect.map(({ secret }) => Redacted.value(secret)),
          Effect.provide(SecureRandom.layerTest(seed))
        )
      expect(yield* generate("a")).toBe(yield* generate("a"))
      expect(yield* generate("a")).not.toBe(yield* generate("b"))
    }))
})

describe("verify", () => {
  it("the tolerance is inclusive on both sides, to the millisecond", () => {
    const at = (offset: number) => verdict({ now: timestamp * 1000 + offset })
    expect([-300_001, -300_000, 0, 300_000, 300_001].map(at)).toEqual(["too-new", "valid", "valid", "valid", "too-old"])
    expect(verdict({ now: (timestamp + 11) * 1000, tolerance: "10 seconds" })).toBe("too-old")
    expect(verdict({ now: (timestamp + 3600) * 1000, tolerance: "1 hour" })).toBe("valid")
  })

  it("timestamps are plain integers", () => {
    for (
      const text of [
        "1614265330abc",
        "1.6e9",
        "0x10",
        "-1",
        "00",
        " 1614265330",
        "1614265330 ",
        "99999999999999999",
        "١"
      ]
    ) {
      expect([text, verdict({ headers: { ...sign({}), "webhook-timestamp": text } })]).toEqual([text, "bad-timestamp"])
    }
  })

  it("a body signed as another message's middle can't be cut out of it", () => {
    const spliced = sign({ id: "msg_1", body: `${timestamp}.{"evil":1}` })
    expect(verdict({ headers: spliced, body: `${timestamp}.{"evil":1}` })).toBe("valid")
    expect(verdict({ headers: { ...spliced, "webhook-id": `msg_1.${timestamp}` }, body: "{\"evil\":1}" })).toBe(
      "no-match"
    )
  })

  it("old and new secrets overlap", () => {
    const both = sign({ keys: signing(other, whsec) })
    expect(verdict({ headers: both, keys: verifying(whsec) })).toBe("valid")
    expect(verdict({ headers: both, keys: verifying(other) })).toBe("valid")
    expect(verdict({ headers: sign({}), keys: verifying(other, whpk, whsec) })).toBe("valid")
    expect(verdict({ headers: sign({}), keys: verifying(other, whpk) })).toBe("no-match")
    expect(verdict({ keys: [] })).toBe("no-match")
  })

  it("a signature of one version is no signature of the other", () => {
    const signature = sign({ keys: signing(whsk) })["webhook-signature"] ?? ""
    expect(
      verdict({ headers: { ...sign({}), "webhook-signature": signature.replace("v1a", "v1") }, keys: verifying(whpk) })
    )
      .toBe("no-match")
    expect(verdict({ headers: { ...sign({}), "webhook-signature": signature }, keys: verifying(whpk) })).toBe("valid")
    expect(
      verdict({
        headers: { ...sign({}), "webhook-signature": `v2,x v1a,AAAA ${signature} ,` },
        keys: verifying(whpk, whsec)
      })
    ).toBe("valid")
  })

  it("signatures are strict base64", () => {
    const signature = sign({})["webhook-signature"] ?? ""
    for (
      const bad of [
        signature.slice(0, -1),
        `${signature}=`,
        `${signature}\t`,
        `${signature},`,
        signature.replace("E=", "F=")
      ]
    ) {
      expect([bad, verdict({ headers: { ...sign({}), "webhook-signature": bad } })]).toEqual([bad, "no-match"])
    }
  })

  it("looks at 64 signatures and 8 192 characters", () => {
    const signature = sign({})["webhook-signature"] ?? ""
    const after = (count: number, filler = "v1,AAAA") => ({
      ...sign({}),
      "webhook-signature": [...Array.from({ length: count }, () => filler), signature].join(" ")
    })
    expect(verdict({ headers: after(63) })).toBe("valid")
    expect(verdict({ headers: after(64) })).toBe("no-match")
    expect(verdict({ headers: after(1, "x".repeat(8192)) })).toBe("no-match")
  })

  it("headers: any case, arrays, iterables, repetitions", () => {
    const { "webhook-id": webhookId, "webhook-signature": signature, "webhook-timestamp": time } = sign({})
    const upper = { "Webhook-ID": webhookId, "WEBHOOK-TIMESTAMP": time, "Webhook-Signature": signature }
    expect(verdict({ headers: upper })).toBe("valid")
    expect(verdict({ headers: new Headers(sign({})) })).toBe("valid")
    expect(verdict({ headers: new Map(Object.entries(upper).map(([name, value]) => [name, value ?? ""])) })).toBe(
      "valid"
    )
    expect(verdict({ headers: { ...sign({}), "webhook-signature": ["v1,AAAA", signature ?? ""] } })).toBe("valid")
    expect(verdict({ headers: { ...sign({}), "webhook-id": [id] } })).toBe("valid")
    expect(verdict({ headers: { ...sign({}), "webhook-id": [id, "msg_2"] } })).toBe("no-match")
    expect(verdict({ headers: { ...sign({}), "Webhook-Id": id } })).toBe("no-match")
    expect(verdict({ headers: { ...sign({}), "webhook-timestamp": [String(timestamp), "1"] } })).toBe("bad-timestamp")
    for (const name of ["webhook-id", "webhook-timestamp", "webhook-signature"]) {
      expect(verdict({ headers: { ...sign({}), [name]: undefined } })).toBe("missing-header")
      expect(verdict({ headers: { ...sign({}), [name]: "" } })).toBe("missing-header")
      expect(verdict({ headers: { ...sign({}), [name]: [] } })).toBe("missing-header")
    }
    expect(verdict({ headers: {} })).toBe("missing-header")
  })

  it("an incomplete svix set leaves the webhook set in force", () => {
    expect(verdict({ headers: { ...sign({}), "svix-id": "msg_x" } })).toBe("valid")
  })

  it("bodies that are not UTF-8", () => {
    const bytes = Uint8Array.from([0xff, 0xfe, 0x00, 0x80])
    for (const [secret, key] of [[whsec, whsec], [whsk, whpk], ["plain", "plain"]] as const) {
      const headers = sign({ body: bytes, keys: signing(secret) })
      expect(verdict({ headers, body: bytes, keys: verifying(key) })).toBe("valid")
      expect(verdict({ headers, body: new TextDecoder().decode(bytes), keys: verifying(key) })).toBe("no-match")
    }
    expect(sign({ body: "é€😀" })).toEqual(sign({ body: new TextEncoder().encode("é€😀") }))
  })

  it("says why in words without the request", () => {
    expect(new WebhookSignature.VerificationFailed({ reason: "too-old" }).message).toContain("older than the tolerance")
    expect(String(new WebhookSignature.VerificationFailed({ reason: "no-match" }))).toContain("no signature matches")
  })
})

describe("verifyBody", () => {
  const verdictBody = (headers: WebhookSignature.HeadersInput, ...secrets: ReadonlyArray<string>) =>
    Either.match(WebhookSignature.verifyBody({ headers, body, keys: verifying(...secrets) }), {
      onLeft: (error) => error.reason,
      onRight: () => "valid"
    })

  it("any secret as written suffices", () => {
    const headers = { "X-Webhook-Signature": createHmac("sha256", whsec).update(body).digest("hex") }
    expect(verdictBody(headers, whsec)).toBe("valid")
    expect(verdictBody(headers, other, whsk, whsec)).toBe("valid")
    expect(verdictBody(headers, other, whpk)).toBe("no-match")
    expect(verdictBody(sign({ keys: signing("plain") }), "plain")).toBe("valid")
  })

  it("one header of 64 lower-case hex digits", () => {
    const hex = createHmac("sha256", whsec).update(body).digest("hex")
    expect(verdictBody({}, whsec)).toBe("missing-header")
    for (const bad of [hex.toUpperCase(), hex.slice(2), `${hex}00`, `sha256=${hex}`, "zz".repeat(32)]) {
      expect(verdictBody({ "x-webhook-signature": bad }, whsec)).toBe("no-match")
    }
    expect(verdictBody({ "x-webhook-signature": [hex, hex] }, whsec)).toBe("no-match")
  })
})

describe("the standardwebhooks library", () => {
  it.live("verifies what we sign", () =>
    Effect.gen(function*() {
      // The library asks the system's clock itself.
      const now = Math.floor((yield* Clock.currentTimeMillis) / 1000)
      const headers = sign({ timestamp: now, keys: signing(other, whsk, whsec) })
      expect(new Webhook(whsec).verify(body, headers)).toEqual({ test: 2432232314 })
      expect(new Webhook(other).verify(body, headers)).toEqual({ test: 2432232314 })
      expect(() => new Webhook(whsec).verify(`${body} `, headers)).toThrow()
    }))

  it("signs what we verify, its reading of a secret without prefix included", () => {
    for (const secret of [whsec, whsec.slice(6)]) {
      const date = DateTime.toDate(DateTime.unsafeMake(timestamp * 1000))
      const headers = { ...sign({}), "webhook-signature": new Webhook(secret).sign(id, date, body) }
      expect(verdict({ headers, keys: verifying(secret) })).toBe("valid")
      expect(verdict({ headers, keys: verifying(secret), body: `${body} ` })).toBe("no-match")
    }
  })
})

describe("properties", () => {
  const anyId = FastCheck.stringMatching(/^[A-Za-z0-9_-]{1,64}$/)
  const anyTime = FastCheck.integer({ min: 0, max: 9_999_999_999 })
  const anyBody = FastCheck.uint8Array({ maxLength: 200 })
  const anySecret = FastCheck.oneof(
    FastCheck.uint8Array({ minLength: 24, maxLength: 64 }).map((bytes) =>
      `whsec_${Buffer.from(bytes).toString("base64")}`
    ),
    FastCheck.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) =>
      `whsk_${Buffer.from(bytes).toString("base64")}`
    ),
    FastCheck.stringMatching(/^[a-z0-9!]{1,80}$/)
  )

  it("what is signed verifies, by any one of the keys", () => {
    FastCheck.assert(FastCheck.property(
      anyId,
      anyTime,
      anyBody,
      FastCheck.array(anySecret, { minLength: 1, maxLength: 3 }),
      FastCheck.integer({ min: -300_000, max: 300_000 }),
      FastCheck.nat(),
      (id, timestamp, body, secrets, offset, pick) => {
        const headers = sign({ id, timestamp, body, keys: signing(...secrets) })
        const one = secrets[pick % secrets.length] ?? ""
        const result = WebhookSignature.verify({ headers, body, keys: verifying(one), now: timestamp * 1000 + offset })
        expect(result).toEqual(Either.right({ id, timestamp }))
      }
    ))
  })

  it("any flipped bit of body, id, timestamp or signature fails", () => {
    FastCheck.assert(
      FastCheck.property(
        anyId,
        anyTime,
        FastCheck.uint8Array({ minLength: 1, maxLength: 200 }),
        anySecret,
        FastCheck.constantFrom("body", "webhook-id", "webhook-timestamp", "webhook-signature"),
        FastCheck.nat(),
        FastCheck.nat(7),
        (id, timestamp, body, secret, part, position, bit) => {
          const headers = sign({ id, timestamp, body, keys: signing(secret) })
          const bytes = part === "body" ? Uint8Array.from(body) : Buffer.from(headers[part] ?? "", "latin1")
          const at = position % bytes.length
          bytes[at] = (bytes[at] ?? 0) ^ (1 << bit)
          const result = WebhookSignature.verify({
            headers: part === "body" ? headers : { ...headers, [part]: Buffer.from(bytes).toString("latin1") },
            body: part === "body" ? bytes : body,
            keys: verifying(secret),
            now: timestamp * 1000,
            tolerance: "1000000 days"
          })
          expect(Either.isLeft(result)).toBe(true)
        }
      ),
      { numRuns: 1000 }
    )
  })

  it("never throws, whatever the headers and secrets are", () => {
    const value = FastCheck.oneof(FastCheck.fullUnicodeString(), FastCheck.array(FastCheck.string(), { maxLength: 3 }))
    FastCheck.assert(
      FastCheck.property(value, value, value, FastCheck.fullUnicodeString(), (id, time, signature, secret) => {
        const key = WebhookSignature.parseVerifyingSecret(Redacted.make(secret))
        WebhookSignature.verify({
          headers: {
            "webhook-id": id,
            "webhook-timestamp": time,
            "webhook-signature": signature,
            "x-webhook-signature": id
          },
          body: "x",
          keys: Either.isRight(key) ? [key.right] : verifying(whsec),
          now: 0
        })
      })
    )
  })
})
