import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { codes, errorsOf, good, one, url, urlCode } from "../support/webhookConfig.js"

describe("WebhookConfig: the rules", () => {
  describe("event keys", () => {
    it.effect.each([
      "A",
      "a.b",
      "a-b_c.9",
      "*",
      "invoice.*",
      "a.b.*",
      "constructor",
      "toString",
      "prototype",
      "hasOwnProperty",
      "a".repeat(128)
    ])(
      "%s",
      (key) => Effect.map(codes({ [key]: [{ url }] }), (found) => expect(found).toEqual([]))
    )
    it.effect.each([
      "",
      " ",
      " A",
      "A ",
      "a b",
      "inv*",
      "*.paid",
      "invoice.*.paid",
      "**",
      ".*",
      "a/b",
      "a,b",
      "é",
      "a\n",
      "😀",
      "a:b",
      "<b>"
    ])(
      "%j is refused",
      (key) =>
        Effect.map(
          codes({ [key]: [{ url }] }),
          (found) => expect(found.map((code) => code.split(" ").at(-1))).toEqual(["event_name"])
        )
    )
    it.effect("129 characters are too many, and cut in the error", () =>
      Effect.gen(function*() {
        const errors = yield* errorsOf(JSON.stringify({ ["E".repeat(129)]: [] }))
        expect(errors).toMatchObject([{ path: `"${"E".repeat(57)}..."`, code: "event_name_too_long" }])
      }))
  })

  describe("URLs", () => {
    it.effect.each([
      "https://hooks.example.com",
      "https://hooks.example.com/?",
      "https://hooks.example.com:8080/a%20b?q=%7B&r=a+b,c;d|e",
      "https://hooks.example.com./",
      "https://my_service.example.com/",
      "https://xn--mnchen-3ya.example/",
      "https://münchen.example/ünï",
      "https://example.com?@127.0.0.1/",
      "https://hooks.example.com/$batch?$filter=x",
      "https://93.184.216.34:1024/",
      "https://[2606:4700:4700::1111]/",
      `https://hooks.example.com/${"a".repeat(2048 - 26)}`
    ])("%s", (text) => Effect.map(urlCode(text), (found) => expect(found).toBe("")))

    const refused: ReadonlyArray<readonly [url: string, code: string]> = [
      ["", "url_invalid"],
      ["hooks.example.com/in", "url_invalid"],
      ["//hooks.example.com/in", "url_invalid"],
      ["https:hooks.example.com", "url_invalid"],
      ["https:/hooks.example.com", "url_invalid"],
      ["https:///hooks.example.com", "url_invalid"],
      ["https://?x", "url_invalid"],
      ["https://hooks.example.com:65536/", "url_invalid"],
      ["https://hooks.example.com:-1/", "url_invalid"],
      ["https://[::1/", "url_invalid"],
      ["https://256.256.256.256/", "url_invalid"],
      ["ftp://hooks.example.com/", "url_scheme"],
      ["ws://hooks.example.com/", "url_scheme"],
      ["file:///etc/passwd", "url_scheme"],
      ["data:text/plain,x", "url_scheme"],
      ["hooks.example.com:443/in", "url_scheme"],
      ["http://hooks.example.com/in", "url_scheme"],
      ["https://user@hooks.example.com/", "url_credentials"],
      ["https://@hooks.example.com/", "url_credentials"],
      ["https://:@hooks.example.com/", "url_credentials"],
      ["https://a:b@hooks.example.com/", "url_credentials"],
      ["https://hooks.example.com/#", "url_fragment"],
      ["https://hooks.example.com/a#b", "url_fragment"],
      ["https://hooks.example.com/a b", "url_whitespace"],
      ["https://hooks.example.com/ ", "url_whitespace"],
      ["https://hooks.example.com/\u00a0", "url_whitespace"],
      ["https://hooks.example.com/\u2028", "url_whitespace"],
      ["https://hooks.example.com/\n", "url_control_char"],
      ["https://hooks\t.example.com/", "url_control_char"],
      ["https://hooks.example.com/\u007f", "url_control_char"],
      ["https://hooks.example.com/\u202e", "url_control_char"],
      ["https://hooks\u00ad.example.com/", "url_control_char"],
      ["https://hooks.\u200bexample.com/", "url_control_char"],
      ["https:\\\\hooks.example.com\\", "url_backslash"],
      ["https://hooks.example.com\\@evil.example/", "url_backslash"],
      [`https://hooks.example.com/${"a".repeat(2048 - 25)}`, "url_too_long"],
      [`https://hooks.example.com/${"ü".repeat(400)}`, "url_too_long"],
      ["https://hooks.example.com:0/", "url_port"],
      ["https://hooks.example.com:25/", "url_port"],
      ["https://hooks.example.com:1023/", "url_port"],
      ["https://a..b/", "url_host"],
      ["https://.a.example/", "url_host"],
      ["https://a.example../", "url_host"],
      ["https://-a.example/", "url_host"],
      ["https://a-.example/", "url_host"],
      [`https://${"a".repeat(64)}.example/`, "url_host"],
      [`https://${"a.".repeat(127)}ex/`, "url_host"],
      ["https://${HOST}/in", "url_host"],
      ["https://{{host}}/in", "url_host"],
      ["https://$HOST/in", "url_host"],
      ["https://%HOST%/in", "url_host"],
      ["https://<host>/in", "url_host"],
      ["https://*.example.com/", "url_host"],
      ["https://ex%61mple.com/", "url_host"],
      ["https://ｈｏｏｋｓ.example/", "url_host"],
      ["https://hooks.example.com/${ID}", "url_template"],
      ["https://hooks.example.com/?k={{ key }}", "url_whitespace"],
      ["https://hooks.example.com/?k={{key}}", "url_template"],
      ["https://hooks.example.com/<%=id%>", "url_template"],
      ["https://hooks.example.com/%ID%", "url_template"],
      ["https://hooks.example.com/{id}", "url_invalid"],
      ["https://hooks.example.com/<id>", "url_template"],
      ["https://hooks.example.com/<1>", "url_invalid"],
      ["https://hooks.example.com/$HOME", "url_template"],
      ["https://hooks.example.com/a?b=$X&c", "url_template"],
      ["https://hooks.example.com/%DB_HOST%/", "url_template"],
      ["https://1.2.3/", "url_host"],
      ["https://134744072/", "url_host"],
      ["https://8.8.8.8./", "url_host"],
      ["https://8.8.8.010/", "url_host"],
      ["https://hooks.example.com:/", "url_port"],
      ["https://hooks.example.com:00443/", "url_port"],
      ["https://hooks.example.com/\"", "url_invalid"],
      ["https://10.0.0.1/", "url_private_address"],
      ["https://0x7f.1/", "url_private_address"],
      ["https://2130706433/", "url_private_address"],
      ["https://１２７.0.0.1/", "url_private_address"],
      ["https://[::ffff:8.8.8.8]/", "url_private_address"],
      ["https://168.63.129.16/", "url_private_address"],
      ["https://localhost:8443/", "url_private_host"],
      ["https://LOCALHOST./", "url_private_host"],
      ["https://api.localhost/", "url_private_host"],
      ["https://ip6-localhost/", "url_private_host"],
      ["https://metadata/", "url_private_host"],
      ["https://metadata.google.internal./", "url_private_host"]
    ]
    it.effect.each(refused)("%j: %s", ([text, code]) => Effect.map(urlCode(text), (found) => expect(found).toBe(code)))

    it.effect("the allow-list opens hosts, ports and http, never metadata", () =>
      Effect.gen(function*() {
        const allow =
          "localhost:3000,10.0.0.0/8,*.corp.example,hooks.example.com:25,169.254.0.0/16,metadata.google.internal"
        const accepted = [
          "http://localhost:3000/",
          "http://10.1.2.3/",
          "https://10.1.2.3/",
          "http://a.corp.example:8080/",
          "https://hooks.example.com:25/",
          "https://169.254.1.1/"
        ]
        for (const text of accepted) expect([text, yield* urlCode(text, { allow })]).toEqual([text, ""])
        expect(yield* urlCode("http://localhost:3001/", { allow })).toBe("url_port")
        expect(yield* urlCode("http://10.1.2.3:1/", { allow })).toBe("url_port")
        expect(yield* urlCode("http://10.1.515/", { allow })).toBe("url_host")
        expect(yield* urlCode("http://corp.example/", { allow })).toBe("url_scheme")
        expect(yield* urlCode("https://169.254.169.254/", { allow })).toBe("url_private_address")
        expect(yield* urlCode("https://metadata.google.internal/", { allow })).toBe("url_private_host")
      }))

    const literal = /^(?:ipv4|ipv6|unicode|zone|parser|userinfo|cloud|scheme)/
    const ssrf = (JSON.parse(readFileSync("../shared/corpora/ssrf-urls.json", "utf8")) as ReadonlyArray<
      {
        readonly id: string
        readonly category: string
        readonly url: string
        readonly expect: string
        readonly resolved?: unknown
      }
    >).filter((row) => literal.test(row.category) && row.resolved === undefined)
    it.effect.each(ssrf)(
      "$id $url",
      (row) => Effect.map(urlCode(row.url), (found) => expect(found === "" ? "allow" : "block").toBe(row.expect))
    )
  })

  describe("settings", () => {
    const cases: ReadonlyArray<readonly [fields: Record<string, unknown>, found: ReadonlyArray<string>]> = [
      [{ id: "a-B_9" }, []],
      [{ id: "a".repeat(64) }, []],
      [{ id: "" }, ["E[0].id id"]],
      [{ id: "a".repeat(65) }, ["E[0].id id"]],
      [{ id: "a.b" }, ["E[0].id id"]],
      [{ id: 1 }, ["E[0].id type"]],
      [{ timeout: "10 seconds" }, []],
      [{ timeout: "500ms" }, []],
      [{ timeout: "1h" }, []],
      [{ timeout: "0s" }, ["E[0].timeout timeout"]],
      [{ timeout: "2h" }, ["E[0].timeout timeout"]],
      [{ timeout: "-1s" }, ["E[0].timeout timeout"]],
      [{ timeout: "10" }, ["E[0].timeout timeout"]],
      [{ timeout: "" }, ["E[0].timeout timeout"]],
      [{ maxConcurrency: 1000 }, []],
      [{ maxConcurrency: 0 }, ["E[0].maxConcurrency max_concurrency"]],
      [{ maxConcurrency: 1.5 }, ["E[0].maxConcurrency max_concurrency"]],
      [{ maxConcurrency: 1001 }, ["E[0].maxConcurrency max_concurrency"]],
      [{ maxConcurrency: "1" }, ["E[0].maxConcurrency type"]],
      [{ rateLimit: 1000 }, []],
      [{ rateLimit: 0.00001 }, []],
      [{ rateLimit: 2.5 }, []],
      [{ rateLimit: 0 }, ["E[0].rateLimit rate_limit"]],
      [{ rateLimit: -1 }, ["E[0].rateLimit rate_limit"]],
      [{ rateLimit: 1e-9 }, ["E[0].rateLimit rate_limit"]],
      [{ rateLimit: 1000.1 }, ["E[0].rateLimit rate_limit"]],
      [{ rateLimit: "5" }, ["E[0].rateLimit type"]],
      [{ rateLimit: null }, ["E[0].rateLimit type"]],
      [{ ordered: false }, []],
      [{ ordered: "true" }, ["E[0].ordered type"]],
      [{ ordered: 1 }, ["E[0].ordered type"]],
      [{ format: "cloudevents" }, []],
      [{ format: "xml" }, ["E[0].format format"]],
      [{ format: null }, ["E[0].format type"]],
      [{ tenant: "Tenant 1" }, []],
      [{ tenant: "" }, ["E[0].tenant tenant"]],
      [{ tenant: " a" }, ["E[0].tenant tenant"]],
      [{ tenant: "a\u0000" }, ["E[0].tenant tenant"]],
      [{ description: "" }, []],
      [{ description: "a\u001b[31m" }, ["E[0].description description"]],
      [{ description: "a".repeat(1025) }, ["E[0].description description"]],
      [{ enabled: null }, ["E[0].enabled type"]],
      [{ enabled: "true" }, ["E[0].enabled type"]],
      [{ enabled: [] }, ["E[0].enabled type"]],
      [{ secret: "   " }, ["E[0].secret secret_whitespace"]],
      [{ secret: `${good}\n` }, ["E[0].secret secret_whitespace"]],
      [{ secret: "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=" }, ["E[0].secret secret_kind"]],
      [{ secret: 12345678 }, ["E[0].secret type"]],
      [{ secret: {} }, ["E[0].secret type"]],
      [{ secret: { env: "A", file: "b" } }, ["E[0].secret type"]],
      [{ secret: { evn: "A" } }, ["E[0].secret.evn unknown_key"]],
      [{ secret: { env: 1 } }, ["E[0].secret.env type"]],
      [{ secret: { env: " " } }, ["E[0].secret.env reference"]],
      [{ secret: good, secrets: [good] }, ["E[0].secrets conflict"]],
      [{ secrets: good }, ["E[0].secrets type"]],
      [{ secrets: [good, "", null, { value: "whsec_" }, { expiresAt: "2027-01-01T00:00:00Z" }] }, [
        "E[0].secrets[1] secret_empty",
        "E[0].secrets[2] type",
        "E[0].secrets[3].value secret_empty",
        "E[0].secrets[4].value missing"
      ]],
      [{ secrets: [{ value: good, expiresAt: "2027-01-01t00:00:00z" }] }, []],
      [{ secrets: [{ value: good, expiresAt: "2027-01-01" }] }, ["E[0].secrets[0].expiresAt time"]],
      [{ secrets: [{ value: good, expiresAt: "2027-01-01T00:00:00" }] }, ["E[0].secrets[0].expiresAt time"]],
      [{ secrets: [{ value: good, expiresAt: "2027-02-29T00:00:00Z" }] }, ["E[0].secrets[0].expiresAt time"]],
      [{ secrets: [{ value: good, expiresAt: "2027-01-01T24:00:00Z" }] }, ["E[0].secrets[0].expiresAt time"]],
      [{ secrets: [{ value: good, expiresAt: 1 }] }, ["E[0].secrets[0].expiresAt type"]],
      [{ secrets: [{ value: good, expires: "x" }] }, ["E[0].secrets[0].expires unknown_key"]],
      [{ headers: [] }, ["E[0].headers type"]],
      [{ headers: { "X-A": 1 } }, ["E[0].headers.X-A type"]],
      [{ headers: { "X-A": "1", "x-a": "2" } }, ["E[0].headers.x-a duplicate_key"]],
      [{ headers: { "X-A": "", "X-B": "caf!", "X-C": "a\tb" } }, []],
      [{ headers: { "X-A": "caf\u00e9" } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "X-A": " a" } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "X-A": "\u20ac" } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "X-A": "\u0085" } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "X-A": "Bearer ${TOKEN}" } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "X-A": "Bearer $TOKEN" } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "X-A": "Bearer <your-token>" } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "X-A": "US$5", "X-B": "$filter", "X-C": "<https://a.example/>" } }, []],
      [{ secrets: [{ value: good, expiresAt: "1970-01-01T00:00:00Z" }] }, ["E[0].secrets secrets_expired"]],
      [{ secrets: [{ value: good, expiresAt: "1970-01-01T00:00:00Z" }, good] }, []],
      [{ headers: { "X-A": "a".repeat(8193) } }, ["E[0].headers.X-A header_value"]],
      [{ headers: { "": "a" } }, ["E[0].headers.\"\" header_name"]],
      [{ headers: { "X-A:": "a" } }, ["E[0].headers.\"X-A:\" header_name"]],
      // A disabled endpoint is held to the same rules.
      [{ enabled: false, timeout: "x" }, ["E[0].timeout timeout"]]
    ]
    it.effect.each(cases)(
      "%j",
      ([fields, found]) => Effect.map(codes(one(fields)), (result) => expect(result).toEqual(found))
    )

    it.effect.each([
      "webhook-id",
      "Webhook-Anything",
      "X-Webhook-Signature",
      "content-type",
      "Content-Length",
      "HOST",
      "Connection",
      "Transfer-Encoding",
      "user-agent",
      "X-Correlation-ID",
      "keep-alive",
      "Upgrade",
      "TE",
      "Trailer",
      "Expect",
      "Proxy-Authorization",
      "traceparent",
      "Idempotency-Key"
    ])(
      "header %s is reserved",
      (name) =>
        Effect.map(
          codes(one({ headers: { [name]: "v" } })),
          (found) => expect(found).toEqual([`E[0].headers.${name} header_reserved`])
        )
    )

    it.effect("the correlation header's own name is reserved, the default then isn't", () =>
      Effect.gen(function*() {
        const options = { correlationHeader: "X-Request-Id" }
        expect(yield* codes(one({ headers: { "x-request-id": "v" } }), options)).toEqual([
          "E[0].headers.x-request-id header_reserved"
        ])
        expect(yield* codes(one({ headers: { "X-Correlation-ID": "v" } }), options)).toEqual([])
      }))
  })
})
