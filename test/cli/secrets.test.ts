import { createHmac, createPublicKey, verify as verifySignature } from "node:crypto"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { unreadable } from "../../src/cli/Stdio.js"
import { bin, folder, json, run, shell, start } from "./cli.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const body = "{\"test\": 2432232314}"
const id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
const time = ["--timestamp", "1614265330"]
const signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
const headers = [
  "-H",
  `webhook-id: ${id}`,
  "-H",
  "webhook-timestamp: 1614265330",
  "-H",
  `webhook-signature: ${signature}`
]
const publicKey = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
const privateKey = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
const asymmetric = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

describe.concurrent("sign", () => {
  it("prints the headers", async () => {
    writeFileSync(join(folder, "body.json"), body)
    const ended = await run(["sign", "--id", id, ...time, "--secret", secret, "body.json"])
    expect(ended).toMatchObject({ code: 0, err: "" })
    expect(ended.out).toBe(
      `webhook-id: ${id}\nwebhook-timestamp: 1614265330\nwebhook-signature: ${signature}\n` +
        `x-webhook-signature: ${createHmac("sha256", secret).update(body).digest("hex")}\n`
    )
  })

  it("reads stdin, secrets from the environment, and prints JSON", async () => {
    const ended = await run(["sign", "--id", id, ...time, "--json", "-"], {
      input: body,
      env: { WEBHOOKS_SECRET: ` ${privateKey}  ${secret} ` }
    })
    expect(ended).toMatchObject({ code: 0, err: "" })
    expect(json(ended.out)).toEqual([{
      "webhook-id": id,
      "webhook-timestamp": "1614265330",
      "webhook-signature": `${asymmetric} ${signature}`,
      "x-webhook-signature": createHmac("sha256", secret).update(body).digest("hex")
    }])
  })

  it("signs bytes that are not UTF-8", async () => {
    const input = Buffer.from([0xff, 0xfe, 0x00, 0x80])
    const signed = await run(["sign", "--id", "m", ...time, "--secret", secret], { input })
    const args = signed.out.trim().split("\n").flatMap((line) => ["-H", line])
    const verified = await run(["verify", "--secret", secret, "--now", "1614265330", ...args], { input })
    expect(verified).toMatchObject({ code: 0, out: "valid\n" })
  })

  it.each([
    ["no id", [...time], /^effect-webhooks: required option '--id <ID>' not specified$/],
    ["no timestamp", ["--id", "m"], /required option '--timestamp <SECONDS>' not specified$/],
    [
      "a bad timestamp",
      ["--id", "m", "--timestamp", "1.5"],
      /option '--timestamp <SECONDS>' is invalid\. It is a whole number/
    ],
    [
      "a bad id",
      ["--id", "a.b", ...time, "--secret", secret],
      /a message id is 1 to 64 characters of A-Z a-z 0-9 _ -$/
    ],
    ["no secret", ["--id", "m", ...time], /no secret: set WEBHOOKS_SECRET or give --secret$/],
    ["an empty secret", ["--id", "m", ...time, "--secret", ""], /--secret is empty/],
    [
      "a bad secret",
      ["--id", "m", ...time, "--secret", "whsec_Zm9vYmFy"],
      /--secret holds 6 bytes behind whsec_; 24 to 64/
    ],
    ["a public key", ["--id", "m", ...time, "--secret", publicKey], /--secret whpk_ is a public key/],
    ["no file", ["--id", "m", ...time, "--secret", secret, "missing"], /cannot read missing: no such file$/],
    ["a directory", ["--id", "m", ...time, "--secret", secret, "."], /cannot read \.: it is a directory$/],
    ["too much", ["--id", "m", ...time, "a", "b"], /too many arguments for 'sign'/],
    [
      "a mistyped option",
      ["--id", "m", ...time, "--secret", secret, `--secrets=${secret}x`],
      /unknown option '--secrets'$/
    ]
  ])("refuses %s in one line", async (_, args, message) => {
    const ended = await run(["sign", ...args], { input: body })
    expect(ended).toMatchObject({ code: 2, out: "" })
    expect(ended.err.trimEnd()).toMatch(message)
    expect(ended.err.trimEnd().split("\n")).toHaveLength(1)
    expect(ended.err).not.toContain("MfKQ9r8G")
    expect(ended.err).not.toContain("Zm9vYmFy")
  })

  it("warns of a weak secret", async () => {
    const ended = await run(["sign", "--id", "m", ...time, "--secret", "short"])
    expect(ended.code).toBe(0)
    expect(ended.err).toBe("warning: a secret under 16 bytes can be guessed\n")
  })
})

describe.concurrent("verify", () => {
  const now = ["--now", "1614265330"]

  it("says valid", async () => {
    expect(await run(["verify", "--secret", secret, ...headers, ...now], { input: body }))
      .toMatchObject({ code: 0, out: "valid\n", err: "" })
    expect(
      await run(["verify", ...headers, ...now, "--json"], { input: body, env: { WEBHOOKS_SECRET: `other ${secret}` } })
    )
      .toMatchObject({ code: 0, out: "{\"valid\":true}\n", err: "" })
  })

  it("takes a public key", async () => {
    const args = [...headers.slice(0, 4), "-H", `webhook-signature: ${asymmetric}`, ...now]
    expect(await run(["verify", "--secret", publicKey, ...args], { input: body })).toMatchObject({
      code: 0,
      out: "valid\n"
    })
  })

  it.each<[string, ReadonlyArray<string>]>([
    ["missing-header", [...headers.slice(0, 4), ...now]],
    ["bad-timestamp", [...headers.slice(0, 2), "-H", "webhook-timestamp: 1614265330abc", ...headers.slice(4), ...now]],
    ["too-old", [...headers, "--now", "1614265631"]],
    ["too-new", [...headers, "--now", "1614265029"]],
    ["too-old", [...headers, "--now", "1614265341", "--tolerance", "10s"]],
    ["no-match", [...headers, ...now, "--secret", "another secret".replace(" ", "-")]]
  ])("says invalid: %s", async (reason, args) => {
    const secrets = args.includes("--secret") ? [] : ["--secret", secret]
    expect(await run(["verify", ...secrets, ...args], { input: body }))
      .toMatchObject({ code: 1, out: `invalid: ${reason}\n`, err: "" })
    expect(await run(["verify", ...secrets, ...args, "--json"], { input: body }))
      .toMatchObject({ code: 1, out: `{"valid":false,"reason":"${reason}"}\n`, err: "" })
  })

  it("keeps to the tolerance, inclusive, in any of its forms", async () => {
    for (const tolerance of ["10s", "10 seconds", "10000ms"]) {
      const args = ["verify", "--secret", secret, ...headers, "--now", "1614265340", "--tolerance", tolerance]
      expect(await run(args, { input: body })).toMatchObject({ code: 0 })
    }
  })

  it.each([
    ["-H", "no colon"],
    ["-H", "bad name: x"],
    ["-H", "a: b\r\nc: d"],
    ["--tolerance", "5 fortnights"],
    ["--now", "soon"]
  ])("refuses %s %j", async (...args) => {
    const ended = await run(["verify", "--secret", secret, ...args], { input: body })
    expect(ended).toMatchObject({ code: 2, out: "" })
    expect(ended.err.trimEnd().split("\n")).toHaveLength(1)
  })
})

describe.concurrent("secret generate", () => {
  it("makes a secret that sign takes", async () => {
    const { code, err, out } = await run(["secret", "generate"])
    expect({ code, err }).toEqual({ code: 0, err: "" })
    expect(out).toMatch(/^whsec_[A-Za-z0-9+/]{43}=\n$/)
    expect(await run(["sign", "--id", "m", ...time, "--secret", out.trim()])).toMatchObject({ code: 0, err: "" })
    expect((await run(["secret", "generate"])).out).not.toBe(out)
  })

  it("makes an ed25519 pair", async () => {
    const [made] = json((await run(["secret", "generate", "--kind", "ed25519", "--json"])).out)
    expect(made).toEqual({
      kind: "ed25519",
      secret: expect.stringMatching(/^whsk_/),
      publicKey: expect.stringMatching(/^whpk_/)
    })
    const signed = await run(["sign", "--id", "m", ...time, "--secret", made.secret, "--json"], { input: "x" })
    const value = Buffer.from(json(signed.out)[0]["webhook-signature"].slice(4), "base64")
    const x = Buffer.from(made.publicKey.slice(5), "base64").toString("base64url")
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" })
    expect(verifySignature(null, Buffer.from("m.1614265330.x"), key, value)).toBe(true)
  })

  it("knows two kinds", async () => {
    expect(await run(["secret", "generate", "--kind", "rsa"])).toMatchObject({ code: 2, out: "" })
  })
})

describe("the program", () => {
  it.each([
    [[], "a command is missing; `effect-webhooks --help` lists them"],
    [["sing"], "unknown command 'sing' (Did you mean sign?)"],
    [["config"], "a command is missing; `effect-webhooks config --help` lists them"],
    [["deliveries"], "a command is missing; `effect-webhooks deliveries --help` lists them"],
    [["--", "whsec_HUSHHUSH1"], "unknown command; `effect-webhooks --help` lists them"],
    [["config", "chek"], "unknown command 'chek' (Did you mean check?)"],
    [["\u001b[31m"], "unknown command; `effect-webhooks --help` lists them"],
    [["whsec_HUSHHUSH1"], "unknown command; `effect-webhooks --help` lists them"],
    [["help", "bogus"], "unknown command 'bogus'"],
    [["help", "config", "bogus"], "unknown command 'config bogus'"],
    [["listen", "--port=whsec_HUSHHUSH1"], "option '--port <N>' is invalid. It is a whole number from 0 to 65535."],
    [["listen", "--sk_live_HUSH1"], "unknown option"],
    [["verify", "-sHUSH"], "unknown option '-s'"],
    [["secret", "generate", "--kind", "HUSH"], "option '--kind <KIND>' is invalid. Allowed choices are hmac, ed25519."],
    [["--nope"], "unknown option '--nope'"],
    [["sign", "--id", "m1"], "required option '--timestamp <SECONDS>' not specified"],
    [["endpoints", "disable", "a"], "required option '--reason <TEXT>' not specified"],
    [["endpoints", "recover", "a"], "required option '--since <TIME>' not specified"]
  ])("refuses %j", async (args, message) => {
    expect(await run(args)).toMatchObject({ code: 2, out: "", err: `effect-webhooks: ${message}\n` })
  })

  it("shows its version and its help, without escape sequences", async () => {
    expect(await run(["--version"])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
      err: ""
    })
    const help = await run(["--help"], { env: { FORCE_COLOR: "1" } })
    expect(help).toMatchObject({ code: 0, err: "" })
    expect(help.out).not.toMatch(/[^\n -~]/)
    for (
      const text of [
        "Examples:",
        "WEBHOOKS_CONFIG ",
        "WEBHOOKS_CONFIG_FILE ",
        "WEBHOOKS_MAX_RETRIES .*default: 3",
        "WEBHOOKS_BASE_DELAY .*default: 1 second",
        "WEBHOOKS_MAX_DELAY .*default: 30 seconds",
        "WEBHOOKS_TIMEOUT .*default: 10 seconds",
        "WEBHOOKS_DEADLINE .*default: 60 seconds",
        "WEBHOOKS_CORRELATION_HEADER .*default: X-Correlation-ID",
        "WEBHOOKS_EGRESS_ALLOW ",
        "WEBHOOKS_LOG_LEVEL ",
        "WEBHOOKS_SECRET ",
        "WEBHOOKS_SECRET_FILE .*in place of WEBHOOKS_SECRET",
        "WEBHOOKS_API_TOKEN_FILE ",
        "WEBHOOKS_DATABASE_URL_FILE ",
        "WEBHOOKS_PROXY_FILE ",
        "WEBHOOKS_API_TOKEN .*separated by spaces or commas",
        "WEBHOOKS_API_HOSTS .*separated by spaces or commas"
      ]
    ) expect(help.out).toMatch(new RegExp(text))
    for (
      const command of [["dispatch"], ["listen"], ["sign"], ["verify"], ["config", "check"], ["secret", "generate"]]
    ) {
      const { code, out } = await run([...command, "--help"])
      expect(code).toBe(0)
      expect(out).toContain("Examples:")
      expect(out).toContain("Environment")
      expect(out).toContain("--json")
      expect(await run(["help", ...command])).toMatchObject({ code: 0, out })
    }
    for (const command of ["config", "secret"]) {
      const { out } = await run([command, "--help"])
      expect(out).toContain("Examples:")
      expect(out).toContain("Environment")
    }
    expect((await run(["help"])).out).toBe(help.out)
  })

  it.each(["serve", "worker"])("says that %s ends with 0 when it is stopped", async (command) => {
    const { out } = await run([command, "--help"])
    expect(out).toMatch(/^ {2}0 {4}stopped by .*SIGINT.*SIGTERM.*SIGHUP/m)
    expect(out).not.toContain("cut off by")
  })

  it.each([
    [["endpoints", "disable"], ["--reason <TEXT>"]],
    [["endpoints", "recover"], ["--since <TIME>"]],
    [["sign"], ["--id <ID>", "--timestamp <SECONDS>"]]
  ])("%j: says which options are required", async (command, required) => {
    const { out } = await run([...command, "--help"])
    const marked = out.replace(/\n {10,}/g, " ").split("\n").flatMap((line) =>
      /^ +(--.*?) {2}.*\(required\)$/.exec(line)?.[1] ?? []
    )
    expect(marked).toEqual(required)
  })

  it("reads .env below the environment", async () => {
    writeFileSync(join(folder, ".env"), `nonsense\nWEBHOOKS_SECRET="${secret}"\n`)
    const args = ["verify", ...headers, "--now", "1614265330"]
    expect(await run(args, { input: body })).toMatchObject({ code: 0, out: "valid\n", err: "" })
    expect(await run(args, { input: body, env: { WEBHOOKS_SECRET: "another" } })).toMatchObject({
      out: "invalid: no-match\n"
    })
    rmSync(join(folder, ".env"))
    mkdirSync(join(folder, ".env"))
    expect(await run(args, { input: body })).toMatchObject({
      code: 2,
      err: "effect-webhooks: cannot read .env: it is a directory\n"
    })
    expect(await run(["secret", "generate"])).toMatchObject({ code: 0 })
    rmSync(join(folder, ".env"), { recursive: true })
    writeFileSync(join(folder, ".env"), `\uFEFFWEBHOOKS_SECRET="${secret}"\n`)
    expect(await run(args, { input: body })).toMatchObject({ code: 0, out: "valid\n" })
    rmSync(join(folder, ".env"))
    expect(await shell(`mkfifo .env; $cli sign --id m --timestamp 1; code=$?; rm .env; exit $code`))
      .toMatchObject({ code: 2, err: "effect-webhooks: cannot read .env: it is not a regular file\n" })
  })

  it("reads secrets from a file that a variable names, of the environment before .env", async () => {
    const args = ["verify", ...headers, "--now", "1614265330"]
    writeFileSync(join(folder, "secret"), `${secret}\n${publicKey}\n`)
    writeFileSync(join(folder, "other"), "another")
    const valid = { code: 0, out: "valid\n", err: "" }
    expect(await run(args, { input: body, env: { WEBHOOKS_SECRET_FILE: "secret" } })).toMatchObject(valid)
    writeFileSync(join(folder, ".env"), "WEBHOOKS_SECRET=another\n")
    expect(await run(args, { input: body, env: { WEBHOOKS_SECRET_FILE: "secret" } })).toMatchObject(valid)
    writeFileSync(join(folder, ".env"), "WEBHOOKS_SECRET_FILE=other\n")
    expect(await run(args, { input: body, env: { WEBHOOKS_SECRET: secret } })).toMatchObject(valid)
    expect(await run(args, { input: body })).toMatchObject({ code: 1, out: "invalid: no-match\n" })
    rmSync(join(folder, ".env"))
    // Not asked where it isn't needed.
    const missing = { WEBHOOKS_SECRET_FILE: "HUSH-missing" }
    expect(await run([...args, "--secret", secret], { input: body, env: missing })).toMatchObject(valid)
    expect(await run([...args, "--json"], { input: body, env: missing })).toEqual({
      code: 2,
      signal: null,
      out: "{\"errors\":[{\"message\":\"WEBHOOKS_SECRET_FILE: names a file that can't be read: no such file\"}]}\n",
      err: "effect-webhooks: WEBHOOKS_SECRET_FILE: names a file that can't be read: no such file\n"
    })
    expect(await run(args, { input: body, env: { WEBHOOKS_SECRET: secret, WEBHOOKS_SECRET_FILE: "secret" } }))
      .toMatchObject({
        code: 2,
        err: "effect-webhooks: WEBHOOKS_SECRET: is set together with WEBHOOKS_SECRET_FILE; set one of the two\n"
      })
    expect(
      await shell(
        `mkfifo pipe; WEBHOOKS_SECRET_FILE=pipe timeout 10 $cli sign --id m --timestamp 1; code=$?; rm pipe; exit $code`
      )
    )
      .toMatchObject({
        code: 2,
        err: "effect-webhooks: WEBHOOKS_SECRET_FILE: names a file that can't be read: it is not a regular file\n"
      })
  })

  it("reads no .env of 100 MB, and takes no name of one for more than a name", async () => {
    expect(
      await shell("truncate -s 100M .env; timeout 10 $cli sign --id m --timestamp 1; code=$?; rm .env; exit $code")
    )
      .toMatchObject({ code: 2, err: "effect-webhooks: cannot read .env: it is too large\n" })
    writeFileSync(join(folder, ".env"), `__proto__=x\nconstructor=y\ntoString=z\nWEBHOOKS_SECRET=${secret}\n`)
    expect(await run(["verify", ...headers, "--now", "1614265330"], { input: body })).toMatchObject({
      code: 0,
      err: ""
    })
    rmSync(join(folder, ".env"))
  })

  it("takes no other value for one of the environment that is wrong", async () => {
    writeFileSync(join(folder, ".env"), "WEBHOOKS_MAX_RETRIES=7\n")
    const err = "effect-webhooks: WEBHOOKS_MAX_RETRIES: must be a whole number from 0 to 100\n"
    expect(await run(["config", "check"], { env: { WEBHOOKS_MAX_RETRIES: "HUSH" } })).toMatchObject({ code: 2, err })
    writeFileSync(join(folder, ".env"), "WEBHOOKS_MAX_RETRIES=HUSH\n")
    expect(await run(["config", "check"])).toMatchObject({ code: 2, err })
    expect(await run(["config", "check"], { env: { WEBHOOKS_MAX_RETRIES: "7" } })).toMatchObject({ code: 0 })
    rmSync(join(folder, ".env"))
  })

  it("reads no more than is allowed of what never ends", async () => {
    expect(await shell(`$cli sign --id m --timestamp 1 --secret ${secret} /dev/zero`))
      .toMatchObject({ code: 2, err: "effect-webhooks: the input is longer than 256 MiB\n" })
  })

  it("ends with its own exit code when stderr can't be written", async () => {
    expect(await shell("timeout 10 $cli nope 2> /dev/full")).toMatchObject({ code: 2 })
    expect(await shell("timeout 10 $cli sign --id m --timestamp 1 --secret short 2> /dev/full < /dev/null"))
      .toMatchObject({ code: 0, out: expect.stringContaining("webhook-id: m") })
    // Nobody reads it: of a reader that has gone, this time.
    expect(await shell("exec 3> >(exit 0); sleep 0.3; timeout 10 $cli nope 2>&3")).toMatchObject({ code: 2 })
    const env = { WEBHOOKS_LOG_LEVEL: "all" }
    expect(await shell("echo '{\"type\":\"A\",\"data\":1}' | timeout 10 $cli dispatch 2> /dev/full", env))
      .toMatchObject({ code: 0, out: expect.stringContaining("unrouted") })
  })

  it("tells of an error on stdout, too, with --json", async () => {
    expect(await run(["sign", "--id", "m", ...time, "--json"])).toMatchObject({
      code: 2,
      out: "{\"errors\":[{\"message\":\"no secret: set WEBHOOKS_SECRET or give --secret\"}]}\n"
    })
    expect(json((await run(["dispatch", "--json", "whsec_HUSH"])).out))
      .toEqual([{ errors: [{ message: "cannot read whsec_...: no such file" }] }])
  })

  it("says so when stdout can't be written, and is quiet when nobody reads it", async () => {
    const args = `--id m --timestamp 1 --secret ${secret}`
    expect(await shell(`$cli sign ${args} > /dev/full`))
      .toMatchObject({ code: 1, err: "effect-webhooks: cannot write to standard output: no space left\n" })
    expect(await shell(`set -o pipefail; $cli sign ${args} | true`)).toMatchObject({ code: 0, err: "" })
    expect(await shell(`$cli sign ${args} < .`))
      .toMatchObject({ code: 2, err: "effect-webhooks: cannot read standard input: it is a directory\n" })
  })

  it("ends on Ctrl-C while it waits for input", async () => {
    const { child, ended } = start(["verify", "--secret", secret, ...headers])
    await new Promise((resolve) => setTimeout(resolve, 700))
    child.kill("SIGINT")
    expect(await ended).toMatchObject({ signal: "SIGINT", out: "", err: "" })
  })
})

it("names a file that may not be read", () => {
  // As root every file may be read, so the system's answer is given here.
  expect(unreadable("private", "EACCES").message).toBe("cannot read private: permission denied")
})

it.each(["sign --id m --timestamp 1", "verify", "secret generate"])(
  "%s starts without what it doesn't need",
  async (line) => {
    const hook =
      "export const load = (url, context, next) => (process.stderr.write(`load ${url}\\n`), next(url, context))"
    writeFileSync(
      join(folder, "trace.mjs"),
      `import { register } from "node:module"; register("data:text/javascript,${encodeURIComponent(hook)}")`
    )
    const { child, ended } = start(line.split(" "), {
      command: [process.execPath, "--import", join(folder, "trace.mjs"), bin],
      env: { WEBHOOKS_SECRET: secret }
    })
    child.stdin.end()
    const { err } = await ended
    const loaded = [...err.matchAll(/^load (\S+)$/gm)].map(([, url]) => url!)
    // What a file of the bundle is made of stands in it.
    const parts = loaded.filter((url) => url.startsWith("file:")).flatMap((url) =>
      [...readFileSync(new URL(url), "utf8").matchAll(/^\/\/ (\S+\.[cm]?[jt]s)$/gm)].map(([, path]) => path!)
    )
    expect(parts.join("\n")).toContain("effect/dist/esm/Effect.js")
    expect([...loaded, ...parts].join("\n")).not.toMatch(
      /effect\/dist\/esm\/(Schema|Stream|index)\.js|@effect\/platform|undici|node:https?|cli-progress/
    )
  }
)
