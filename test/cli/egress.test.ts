import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { bin, json, run } from "./cli.js"

interface Row {
  readonly id: string
  readonly category: string
  readonly url: string
  readonly expect: "allow" | "block"
  readonly resolved?: ReadonlyArray<string>
}

const rows = JSON.parse(
  readFileSync(new URL("../../../shared/corpora/ssrf-urls.json", import.meta.url), "utf8")
) as ReadonlyArray<Row>

describe("the guard", () => {
  const namespace = spawnSync("unshare", ["-rn", "ip", "link", "set", "lo", "up"]).status === 0

  it("lets nothing reach a forbidden address, by whatever name", () => {
    const program = fileURLToPath(new URL("../support/egress/guard.ts", import.meta.url))
    const node = [process.execPath, "--import", "tsx", program, bin, namespace ? "namespace" : "plain"]
    const [command = "", ...args] = namespace ? ["unshare", "-rn", ...node] : node
    const { stderr, stdout } = spawnSync(command, args, { encoding: "utf8", timeout: 170_000, maxBuffer: 1 << 26 })
    expect(stdout, stderr).not.toBe("")
    const [result] = json(stdout)
    // In a network of its own every address can be bound, else those of loopback.
    expect(result.bound).toEqual(
      expect.arrayContaining(namespace ? ["127.0.0.1", "169.254.169.254", "10.1.2.3"] : ["127.0.0.1"])
    )
    expect(result.guarded).toMatchObject({ code: 1, heard: [] })
    const deliveries = json(result.guarded.out)
    expect(deliveries).toHaveLength(result.endpoints)
    for (const delivery of deliveries) {
      expect(delivery).toMatchObject({ outcome: "rejected", class: "blocked", attempts: 0 })
    }
    // The names were asked for: it is their addresses that were refused.
    expect(result.questions).toBeGreaterThanOrEqual(result.endpoints)
    // Written as a number, in octal, in full-width digits, …, and over http: the configuration is refused, each entry of it.
    expect(result.written).toMatchObject({ code: 2, heard: [] })
    expect(json(result.written.out)[0].errors.map(({ path }: { readonly path: string }) => path))
      .toHaveLength(result.literals)
    // The second attempt finds the name to be elsewhere.
    expect(result.rebound).toMatchObject({ code: 1, heard: [`${result.reachable} 8443`] })
    expect(json(result.rebound.out)).toMatchObject([{ outcome: "rejected", class: "blocked", attempts: 1 }])
    expect(result.redirected).toMatchObject({ code: 1, heard: [] })
    expect(json(result.redirected.out)).toMatchObject([{ class: "redirect", status: 307 }])
    expect(result.worked).toMatchObject({ code: 0, heard: [] })
    expect(result.worked.err.match(/egress_blocked/g)?.length).toBeGreaterThanOrEqual(result.endpoints)
    expect(result.control).toMatchObject({ code: 0, heard: [`${result.reachable} 3000`] })
  }, 180_000)
})

describe("egress check", () => {
  // The policy's own tests decide all of them; here is that the command asks it.
  const some = rows
    .filter(({ category }) => category !== "redirect" && category !== "dns-rebinding")
    .filter((_, index) => index % 8 === 0)

  it("decides as the corpus says", async () => {
    const wrong: Array<string> = []
    for (let at = 0; at < some.length; at += 12) {
      await Promise.all(
        some.slice(at, at + 12).map(async (row) => {
          // Nothing is asked of a real name server.
          const resolve = (row.resolved?.length ?? 0) === 0
            ? []
            : row.resolved!.flatMap((address) => ["--resolve", address])
          const { code, out } = await run(["egress", "check", "--json", ...resolve, "--", row.url], {
            env: {
              NODE_OPTIONS: `--import=${new URL("../support/egress/resolver.mjs", import.meta.url).href}`,
              TEST_NAME_SERVER: "127.0.0.1:9"
            }
          })
          const [{ decision }] = json(out)
          const right = decision === (row.expect === "allow" ? "allowed" : "blocked") &&
            code === (row.expect === "allow" ? 0 : 1)
          if (!right) wrong.push(`${row.id} ${row.url}: ${decision} (${code})`)
        })
      )
    }
    expect(wrong).toEqual([])
  })

  it("prints for a person, and for a program", async () => {
    const plain = await run([
      "egress",
      "check",
      "https://hooks.example.com/in?key=k3y",
      "--resolve",
      "1.1.1.1",
      "--resolve",
      "10.0.0.1"
    ])
    expect(plain).toMatchObject({
      code: 1,
      out: "blocked  https://hooks.example.com/in  (private)\n         hooks.example.com: 1.1.1.1 10.0.0.1\n",
      err: ""
    })
    const program = await run(["egress", "check", "https://hooks.example.com/in", "--resolve", "1.1.1.1", "--json"])
    expect(program.code).toBe(0)
    expect(json(program.out)).toEqual([{
      url: "https://hooks.example.com/in",
      host: "hooks.example.com",
      addresses: ["1.1.1.1"],
      decision: "allowed"
    }])
  })

  it("shows of another scheme's URL nothing that it may carry", async () => {
    for (const url of ["postgres:alice:pw@db/x", "blob:https://alice:pw@db/x", "mailto:alice@db", "alice:pw@db"]) {
      const { code, err, out } = await run(["egress", "check", "--json", "--", url])
      expect([code, err, json(out)]).toEqual([1, "", [
        { url: "(not an http URL)", host: "", addresses: [], decision: "blocked", rule: "scheme" }
      ]])
    }
    expect((await run(["egress", "check", "--", "postgres://db/alice"])).out).toBe("blocked  postgres:  (scheme)\n")
  })

  it("heeds the allow and the deny list; deny wins", async () => {
    const check = async (env: Readonly<Record<string, string>>) =>
      json((await run(["egress", "check", "--json", "http://10.1.2.3:3000/"], { env })).out)[0]
    expect(await check({ WEBHOOKS_EGRESS_ALLOW: "10.0.0.0/8" })).toMatchObject({ decision: "allowed" })
    expect(await check({ WEBHOOKS_EGRESS_ALLOW: "10.0.0.0/8", WEBHOOKS_EGRESS_DENY: "10.1.0.0/16" }))
      .toMatchObject({ decision: "blocked", rule: "denied" })
  })

  it("refuses a list that can't be read", async () => {
    const { code, err, out } = await run(["egress", "check", "https://a.example/"], {
      env: { WEBHOOKS_EGRESS_DENY: "10.0.0.0/33" }
    })
    expect({ code, out }).toEqual({ code: 2, out: "" })
    expect(err).toContain("WEBHOOKS_EGRESS_DENY: entry 1 ")
  })
})
