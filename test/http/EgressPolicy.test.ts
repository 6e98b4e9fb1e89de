import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import { readFileSync } from "node:fs"
import * as EgressPolicy from "../../src/http/EgressPolicy.js"

interface Row {
  readonly id: string
  readonly category: string
  readonly url: string
  readonly expect: "allow" | "block"
  readonly why: string
  readonly canonicalHost: string | null
  readonly resolved?: ReadonlyArray<string>
  readonly rebind?: ReadonlyArray<ReadonlyArray<string>>
}

const rows = JSON.parse(readFileSync("../shared/corpora/ssrf-urls.json", "utf8")) as ReadonlyArray<Row>

const rulesOf = (text: string) => Either.getOrThrow(EgressPolicy.parseRules(text))
const allowing = (allow: string, deny = "") => EgressPolicy.make({ allow: rulesOf(allow), deny: rulesOf(deny) })
const rule = (decision: EgressPolicy.Decision): string => decision._tag === "Allowed" ? "allowed" : decision.rule

const judge = (row: Row): string => {
  const url = URL.canParse(row.url) ? new URL(row.url) : undefined
  if (url === undefined) return "unparseable"
  const first = EgressPolicy.defaultPolicy.decideUrl(url)
  if (first._tag === "Blocked") return first.rule
  return rule(
    EgressPolicy.defaultPolicy.decide(url.hostname, Number(url.port || 443), row.resolved ?? [])
  )
}

describe("EgressPolicy", () => {
  describe("the corpus", () => {
    // What a redirect or a second lookup does is for whoever connects; userinfo is a matter of configuration.
    const judged = rows.filter((row) =>
      row.category !== "redirect" && row.category !== "dns-rebinding" &&
      !(row.category === "userinfo" && row.resolved !== undefined)
    )
    it.each(judged.map((row) => [row.id, row.url, row.why, row] as const))("%s %s (%s)", (_id, _url, _why, row) => {
      const decision = judge(row)
      if (row.expect === "allow") expect(decision).toBe("allowed")
      else expect(decision).not.toBe("allowed")
    })

    it("the last answer of each rebinding row is blocked", () => {
      const rebinding = rows.filter((row) => row.rebind !== undefined)
      expect(rebinding.length).toBeGreaterThan(0)
      for (const row of rebinding) {
        const last = row.rebind?.at(-1) ?? []
        expect(EgressPolicy.defaultPolicy.decide(row.canonicalHost ?? "", 443, last)._tag).toBe("Blocked")
      }
    })
  })

  it.each([
    ["0.0.0.0", "this-network"],
    ["10.1.2.3", "private"],
    ["100.64.0.1", "shared"],
    ["127.0.0.1", "loopback"],
    ["169.254.1.1", "link-local"],
    ["172.31.255.255", "private"],
    ["192.0.0.170", "protocol"],
    ["192.31.196.0", "protocol"],
    ["192.52.193.255", "protocol"],
    ["192.175.48.1", "protocol"],
    ["192.88.99.1", "6to4"],
    ["192.168.1.1", "private"],
    ["198.18.0.1", "benchmarking"],
    ["203.0.113.7", "documentation"],
    ["224.0.0.1", "multicast"],
    ["255.255.255.255", "reserved"],
    ["168.63.129.16", "metadata"],
    ["192.51.193.255", "allowed"],
    ["223.255.255.255", "allowed"],
    ["::", "unspecified"],
    ["::1", "loopback"],
    ["::ffff:8.8.8.8", "ipv4-in-ipv6"],
    ["64:ff9b::808:808", "ipv4-in-ipv6"],
    ["fd00::1", "private"],
    ["fe80::1", "link-local"],
    ["fec0::1", "site-local"],
    ["ff02::1", "multicast"],
    ["4000::1", "not-global"],
    ["1fff:ffff::1", "not-global"],
    ["2001:1ff:ffff::1", "protocol"],
    ["2001:200::1", "allowed"],
    ["2001:db8::1", "documentation"],
    ["2002:808:808::1", "6to4"],
    ["2620:4f:8000::1", "protocol"],
    ["2620:4f:8001::1", "allowed"],
    ["3fff:fff::1", "documentation"],
    ["3fff:1000::1", "allowed"]
  ])("%s: %s", (address, expected) => {
    expect(rule(EgressPolicy.defaultPolicy.decide("hooks.example.com", 443, [address]))).toBe(expected)
    const host = address.includes(":") ? `[${address}]` : address
    expect(rule(EgressPolicy.defaultPolicy.decide(host, 443, []))).toBe(expected)
  })

  it("one bad answer among good ones, an unreadable one, none and too many block", () => {
    const decide = (answers: ReadonlyArray<string>) =>
      rule(EgressPolicy.defaultPolicy.decide("hooks.example.com", 443, answers))
    expect(decide(["1.1.1.1", "2606:4700:4700::1111"])).toBe("allowed")
    expect(decide(["1.1.1.1", "10.0.0.1"])).toBe("private")
    expect(decide(["10.0.0.1", "1.1.1.1"])).toBe("private")
    for (
      const odd of [
        "127.1",
        "010.0.0.1",
        "0x7f000001",
        "2130706433",
        "fe80::1%eth0",
        "1.1.1.1 ",
        "",
        "example.com",
        "1.1.1.1/32"
      ]
    ) {
      expect([odd, decide(["1.1.1.1", odd])]).toEqual([odd, "unparseable"])
    }
    expect(decide([])).toBe("no-address")
    const many = Array.from({ length: 33 }, (_, index) => `1.1.1.${index}`)
    expect(decide(many.slice(0, 32))).toBe("allowed")
    expect(decide(many)).toBe("too-many-addresses")
  })

  it("the addresses to connect to are those that were judged", () => {
    expect(EgressPolicy.defaultPolicy.decide("Hooks.Example.com.", 8443, ["1.1.1.1", "1.0.0.1"])).toEqual(
      {
        _tag: "Allowed",
        addresses: ["1.1.1.1", "1.0.0.1"]
      }
    )
    // A literal is its own answer: another one can't be smuggled in.
    expect(EgressPolicy.defaultPolicy.decide("1.1.1.1", 443, ["10.0.0.1"])).toEqual({
      _tag: "Allowed",
      addresses: ["1.1.1.1"]
    })
    expect(rule(EgressPolicy.defaultPolicy.decide("10.0.0.1", 443, ["1.1.1.1"]))).toBe("private")
  })

  it("ports", () => {
    const port = (number: number, policy = EgressPolicy.defaultPolicy) =>
      rule(policy.decide("hooks.example.com", number, ["1.1.1.1"]))
    expect([443, 80, 8443, 8080, 1024, 65_535].map((number) => port(number))).toEqual(Array(6).fill("allowed"))
    expect([0, 22, 25, 81, 442, 1023, 65_536, -1, NaN].map((number) => port(number))).toEqual(Array(9).fill("port"))
    expect(port(25, allowing("hooks.example.com:25"))).toBe("allowed")
    expect(port(25, allowing("1.1.1.0/24:25"))).toBe("allowed")
    expect(port(26, allowing("hooks.example.com:25"))).toBe("port")
    // An entry without a port opens no further ports.
    expect(port(25, allowing("hooks.example.com,1.1.1.1"))).toBe("port")
  })

  it("allow rules: ranges, addresses, names, suffixes, with and without port", () => {
    const decide = (allow: string, host: string, number: number, answers: ReadonlyArray<string>) =>
      rule(allowing(allow).decide(host, number, answers))
    expect(decide("10.0.0.0/8", "a.example", 443, ["10.1.1.1"])).toBe("allowed")
    expect(decide("10.0.0.0/8", "a.example", 443, ["10.1.1.1", "192.168.0.1"])).toBe("private")
    // What is listed for other ports is refused for its port.
    expect(decide("10.0.0.0/8:8443", "a.example", 443, ["10.1.1.1"])).toBe("port")
    expect(decide("127.0.0.1", "127.0.0.1", 1, [])).toBe("port")
    expect(decide("localhost", "localhost", 1, [])).toBe("port")
    expect(decide("10.0.0.0/8:8443", "a.example", 8443, ["10.1.1.1"])).toBe("allowed")
    expect(decide("10.1.1.1", "10.1.1.1", 443, [])).toBe("allowed")
    expect(decide("10.1.1.1", "10.1.1.2", 443, [])).toBe("private")
    expect(decide("fd00::/8", "[fd12::1]", 443, [])).toBe("allowed")
    expect(decide("[fd12::1]:3000", "[fd12::1]", 3000, [])).toBe("allowed")
    expect(decide("[fd12::1]:3000", "[fd12::1]", 3001, [])).toBe("port")
    expect(decide("Hooks.Corp.Example.", "hooks.corp.example", 443, ["10.0.0.1"])).toBe("allowed")
    expect(decide("hooks.corp.example", "hooks.corp.example.", 443, ["10.0.0.1"])).toBe("allowed")
    expect(decide("hooks.corp.example", "evil.hooks.corp.example", 443, ["10.0.0.1"])).toBe("private")
    expect(decide("*.corp.example", "a.b.corp.example", 443, ["10.0.0.1"])).toBe("allowed")
    expect(decide("*.corp.example", "corp.example", 443, ["10.0.0.1"])).toBe("private")
    expect(decide("*.corp.example", "evilcorp.example", 443, ["10.0.0.1"])).toBe("private")
    expect(decide("localhost:3000", "localhost", 3000, ["127.0.0.1", "::1"])).toBe("allowed")
    expect(decide("localhost:3000", "localhost", 3001, ["127.0.0.1"])).toBe("port")
    // A name stands for addresses, not for literals, and a range doesn't stand for the name of this machine.
    expect(decide("localhost", "127.0.0.1", 443, [])).toBe("loopback")
    expect(decide("127.0.0.0/8", "localhost", 443, ["127.0.0.1"])).toBe("localhost")
  })

  it("deny wins over allow", () => {
    const policy = EgressPolicy.make({
      allow: rulesOf("10.0.0.0/8,*.corp.example,hooks.example.com"),
      deny: rulesOf("10.6.6.0/24,bad.corp.example,8.8.8.8,1.1.1.1:8443")
    })
    const decide = (host: string, number: number, answers: ReadonlyArray<string>) =>
      rule(policy.decide(host, number, answers))
    expect(decide("a.corp.example", 443, ["10.6.5.1"])).toBe("allowed")
    expect(decide("a.corp.example", 443, ["10.6.6.1"])).toBe("denied")
    expect(decide("bad.corp.example", 443, ["10.6.5.1"])).toBe("denied")
    expect(decide("dns.example", 443, ["8.8.8.8"])).toBe("denied")
    expect(decide("dns.example", 443, ["1.1.1.1"])).toBe("allowed")
    expect(decide("dns.example", 8443, ["1.1.1.1"])).toBe("denied")
    // The range of an IPv4 network is denied in its IPv6 clothes too.
    expect(decide("hooks.example.com", 443, ["64:ff9b::a06:601"])).toBe("denied")
  })

  it.each([
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.169.123",
    "169.254.0.23",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd00:ec2::253",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001:0:1:1::5601:5601",
    "2606:4700::5efe:a9fe:a9fe",
    "2606:4700::200:5efe:a9fe:a9fe"
  ])("nothing allows the metadata address %s", (address) => {
    const host = address.includes(":") ? `[${address}]` : address
    const everything = allowing(`0.0.0.0/0,::/0,${host},hooks.example.com,*.example.com`)
    expect(rule(everything.decide(host, 443, []))).toBe("metadata")
    expect(rule(everything.decide("hooks.example.com", 443, [address]))).toBe("metadata")
    expect(rule(everything.decideUrl(new URL(`http://${host}/`)))).toBe("metadata")
  })

  it.each(["metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data", "metadata.goog"])(
    "nothing allows the metadata name %s",
    (host) => {
      const everything = allowing(`0.0.0.0/0,${host},*.google.internal`)
      expect(rule(everything.decide(host, 443, ["1.1.1.1"]))).toBe("metadata")
    }
  )

  it("a port of any host: denied of all, allowed of what is public", () => {
    const denying = allowing("10.0.0.0/8:6379,cache.example.com:6379,localhost:6379", "*:6379")
    for (
      const [host, address] of [["a.example.com", "1.1.1.1"], ["cache.example.com", "10.0.0.1"], ["localhost", "::1"]]
    ) {
      expect(rule(denying.decide(host!, 6379, [address!]))).toBe("denied")
      expect(rule(denying.decideUrl(new URL(`https://${host}:6379/`)))).toBe("denied")
      expect(rule(denying.decide(address!, 6379, []))).toBe("denied")
    }
    expect(rule(denying.decide("a.example.com", 443, ["1.1.1.1"]))).toBe("allowed")

    const opened = allowing("*:25,10.0.0.0/8")
    expect(rule(opened.decide("a.example.com", 25, ["1.1.1.1"]))).toBe("allowed")
    expect(rule(opened.decide("1.1.1.1", 25, []))).toBe("allowed")
    expect(rule(opened.decideUrl(new URL("https://[2606:4700::1111]:25/")))).toBe("allowed")
    expect(rule(opened.decide("a.example.com", 26, ["1.1.1.1"]))).toBe("port")
    expect(rule(opened.decide("10.0.0.1", 25, []))).toBe("port")
    for (const address of ["127.0.0.1", "192.168.1.1", "::1", "fd00::1", "::ffff:10.0.0.1", "169.254.169.254"]) {
      expect(["allowed", "port"]).not.toContain(rule(opened.decide("a.example.com", 25, ["1.1.1.1", address])))
      expect(["allowed", "port"]).not.toContain(rule(opened.decide(address, 25, [])))
    }
    expect(rule(opened.decide("localhost", 25, ["1.1.1.1"]))).toBe("localhost")
    expect(rule(opened.decideUrl(new URL("http://a.example.com:25/")))).toBe("scheme")
    expect(opened.isListed("a.example.com", 25)).toBe(false)
    expect(rule(allowing("*:25", "*:25").decide("a.example.com", 25, ["1.1.1.1"]))).toBe("denied")
  })

  it("names that DNS can't have", () => {
    const name = (host: string) => EgressPolicy.isDnsName(host)
    expect(
      ["a", "a.b", "a-b.c", "my_service", "xn--mnchen-3ya.example", "example.com.", "a".repeat(63), "1.example"].map(
        name
      )
    )
      .toEqual(Array(8).fill(true))
    expect(
      ["", ".", "a..b", "a..", ".a", "-a.b", "a-.b", "a".repeat(64), "a b", "${host}", "a/b", `${"a.".repeat(127)}a`]
        .map(name)
    )
      .toEqual(Array(12).fill(false))
    expect(rule(allowing("0.0.0.0/0").decide("a..", 443, ["1.1.1.1"]))).toBe("name")
  })

  it("http only for what is allow-listed", () => {
    const url = (allow: string, text: string) => rule(allowing(allow).decideUrl(new URL(text)))
    expect(url("", "https://hooks.example.com/")).toBe("allowed")
    expect(url("", "http://hooks.example.com/")).toBe("scheme")
    expect(url("", "http://1.1.1.1/")).toBe("scheme")
    expect(url("hooks.example.com", "http://hooks.example.com/")).toBe("allowed")
    expect(url("hooks.example.com:3000", "http://hooks.example.com/")).toBe("scheme")
    expect(url("hooks.example.com:81", "http://hooks.example.com:81/")).toBe("allowed")
    expect(url("10.0.0.0/8", "http://10.0.0.1/")).toBe("allowed")
    expect(url("10.0.0.0/8", "http://hooks.example.com/")).toBe("scheme")
    expect(url("hooks.example.com", "ftp://hooks.example.com/")).toBe("scheme")
  })

  it("rules that can't be read are all reported, by position and without the text", () => {
    const bad = [
      "",
      "http://localhost:3000",
      "10.0.0.0/33",
      "10.0.0.0/08",
      "10.0.0/8",
      "127.1",
      "0x7f.1",
      "2130706433",
      "010.0.0.1",
      "*",
      "*:0",
      "*:",
      "*/8",
      "[*]:25",
      "*.",
      "a.*.b",
      "a..b",
      "host:0",
      "host:65536",
      "host:port",
      "fe80::1%eth0",
      "[::1",
      "[localhost]:80",
      "münchen.example",
      "user@host",
      "fd00::/129",
      "a b"
    ]
    const result = EgressPolicy.parseRules(["localhost", ...bad].join(","))
    const error = Either.getOrThrow(Either.flip(result))
    expect(error.errors.map((item) => item.position)).toEqual(bad.map((_, index) => index + 2))
    for (const entry of bad.filter((text) => text.length > 8)) expect(error.message).not.toContain(entry)
    expect(EgressPolicy.parseRules("  ")).toEqual(Either.right([]))
    expect(
      Either.isRight(EgressPolicy.parseRules(" localhost , 10.0.0.0/8:25,::1 , fd00::/8, [fd00::/8]:443,[::1]/128"))
    ).toBe(true)
  })
})
