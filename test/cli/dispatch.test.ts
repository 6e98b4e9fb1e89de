import { execFileSync } from "node:child_process"
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { bin, folder, json, receive, run, shell, start, until, untilListening } from "./cli.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const receivers: Array<{ readonly close: () => void }> = []
afterAll(() => receivers.forEach(({ close }) => close()))

const receiver = async (...args: Parameters<typeof receive>) => {
  const made = await receive(...args)
  receivers.push(made)
  return made
}

const environment = (config: object, more: Readonly<Record<string, string>> = {}) => ({
  WEBHOOKS_CONFIG: JSON.stringify(config),
  WEBHOOKS_EGRESS_ALLOW: "127.0.0.1",
  WEBHOOKS_BASE_DELAY: "20ms",
  ...more
})

const event = (n: number, type = "A") => JSON.stringify({ type, data: { n }, id: `m${n}` })

describe.concurrent("signals", () => {
  it("report as interrupted what the grace time was too short for", async () => {
    const fast = await receiver()
    const hung = await receiver(() => undefined)
    const { child, ended } = start(["dispatch", "--json"], {
      env: environment({ A: [{ id: "hung", url: hung.url, timeout: "30s" }, { id: "fast", url: fast.url }] })
    })
    child.stdin.write(`${event(1)}\n`)
    await until(() => hung.requests.length === 1 && fast.requests.length === 1)
    child.kill("SIGTERM")
    const { code, err, out } = await ended
    expect(code).toBe(143)
    expect(json(out)).toMatchObject([
      { endpointId: "fast", outcome: "delivered" },
      {
        messageId: "m1",
        endpointId: "hung",
        outcome: "failed",
        class: "interrupted",
        attempts: 1,
        error: expect.any(String)
      }
    ])
    expect(err).toContain(
      "stopped (SIGTERM): 1 event in flight cut off; nothing that comes after event 1 (line 1) was sent\n"
    )
  }, 20_000)

  it("let what is in flight end, and take nothing more", async () => {
    const { requests, url } = await receiver((_, response) => setTimeout(() => response.end(), 700))
    const { child, ended } = start(["dispatch", "--json"], { env: environment({ A: [{ id: "slow", url }] }) })
    child.stdin.write(`${event(1)}\n`)
    await until(() => requests.length === 1)
    child.kill("SIGINT")
    const { code, err, out } = await ended
    expect(code).toBe(130)
    expect(json(out)).toMatchObject([{ messageId: "m1", outcome: "delivered" }])
    expect(err).toContain("stopping: requests in flight have 10 seconds to end; again to end at once\n")
    expect(err).toContain("stopped (Ctrl-C): nothing that comes after event 1 (line 1) was sent\n")
  })

  it("change nothing when all was taken and it ends well", async () => {
    const { requests, url } = await receiver((_, response) => setTimeout(() => response.end(), 700))
    const { child, ended } = start(["dispatch", "--json"], { env: environment({ A: [{ url }] }) })
    child.stdin.end(event(1))
    await until(() => requests.length === 1)
    child.kill("SIGTERM")
    const { code, out } = await ended
    expect(json(out)).toMatchObject([{ outcome: "delivered" }])
    expect(code).toBe(0)
  })

  it("send nothing that isn't on the wire yet", async () => {
    const { requests, url } = await receiver((_, response) => setTimeout(() => response.end(), 700))
    const { child, ended } = start(["dispatch", "--json"], {
      env: environment({ A: [{ id: "slow", url, maxConcurrency: 1 }] })
    })
    child.stdin.end([1, 2, 3].map((n) => `${event(n)}\n`).join(""))
    await until(() => requests.length === 1)
    child.kill("SIGINT")
    const { code, err, out } = await ended
    expect(code).toBe(130)
    const lines = json(out)
    expect(lines.filter(({ outcome }) => outcome === "delivered")).toHaveLength(1)
    expect(lines.filter(({ class: failureClass }) => failureClass === "interrupted")).toMatchObject([
      { outcome: "failed", attempts: 0 },
      { outcome: "failed", attempts: 0 }
    ])
    expect(requests).toHaveLength(1)
    expect(err).toContain("stopped (Ctrl-C): 2 deliveries not sent\n")
    expect(err).toContain(
      "3 events (0 unrouted), 0 invalid lines; deliveries: 1 delivered, 0 failed, 0 rejected, 2 not sent\n"
    )
  })

  it("end waits for a retry at once", async () => {
    const { requests, url } = await receiver((_, response) => response.writeHead(503).end())
    const { child, ended } = start(["dispatch", "--json"], {
      env: environment({ A: [{ url }] }, { WEBHOOKS_BASE_DELAY: "30s" })
    })
    child.stdin.end(event(1))
    await until(() => requests.length === 1)
    await new Promise((resolve) => setTimeout(resolve, 300))
    const before = performance.now()
    child.kill("SIGTERM")
    const { code, err, out } = await ended
    expect(performance.now() - before).toBeLessThan(5000)
    expect(code).toBe(143)
    expect(json(out)).toMatchObject([{ outcome: "failed", class: "interrupted", attempts: 1 }])
    expect(err).toContain("stopped (SIGTERM): retries were given up\n")
    expect(requests).toHaveLength(1)
  })

  it("begin no retry of what was on the wire", async () => {
    const { requests, url } = await receiver((_, response) => setTimeout(() => response.writeHead(503).end(), 700))
    const { child, ended } = start(["dispatch", "--json"], {
      env: environment({ A: [{ url }] }, { WEBHOOKS_BASE_DELAY: "30s" })
    })
    child.stdin.end(event(1))
    await until(() => requests.length === 1)
    const before = performance.now()
    child.kill("SIGTERM")
    const { code, err, out } = await ended
    expect(performance.now() - before).toBeLessThan(5000)
    expect(code).toBe(143)
    expect(json(out)).toMatchObject([{ outcome: "failed", class: "http-status", status: 503, attempts: 1 }])
    expect(err).toContain("stopped (SIGTERM): retries were given up\n")
    expect(requests).toHaveLength(1)
  })

  it("cut nothing off where no retry was left", async () => {
    const { requests, url } = await receiver((_, response) => setTimeout(() => response.writeHead(503).end(), 700))
    const { child, ended } = start(["dispatch", "--json"], {
      env: environment({ A: [{ url }] }, { WEBHOOKS_MAX_RETRIES: "0" })
    })
    child.stdin.end(event(1))
    await until(() => requests.length === 1)
    child.kill("SIGTERM")
    const { code, err } = await ended
    expect(code).toBe(1)
    expect(err).not.toContain("stopped")
  })

  it("end at once the second time, with all that is known reported", async () => {
    const { requests, url } = await receiver(() => undefined)
    const { child, ended, err } = start(["dispatch", "--json"], { env: environment({ A: [{ url }] }) })
    child.stdin.end(event(1))
    await until(() => requests.length === 1)
    child.kill("SIGTERM")
    await until(() => err().includes("stopping"))
    await new Promise((resolve) => setTimeout(resolve, 200))
    const before = performance.now()
    child.kill("SIGTERM")
    const { code, err: notes, out } = await ended
    expect(performance.now() - before).toBeLessThan(5000)
    expect(code).toBe(143)
    expect(json(out)).toMatchObject([{ outcome: "failed", class: "interrupted", attempts: 1 }])
    expect(notes).toContain("1 event in flight cut off")
  })
})

describe.concurrent("deliveries", () => {
  it("are retried and reported", async () => {
    let asked = 0
    const flaky = await receiver((_, response) => response.writeHead(++asked < 3 ? 503 : 200).end())
    const broken = await receiver((_, response) => response.writeHead(400).end())
    const env = environment({
      A: [{ id: "flaky", url: `${flaky.url}/a?token=HUSH`, secret }, { id: "broken", url: broken.url }]
    })
    const ended = await run(["dispatch", "--json"], {
      env,
      input: JSON.stringify({
        type: "A",
        data: {},
        id: "m1",
        correlation_id: "cid_1",
        aggregate_id: "a-1",
        occurred_at: "2026-01-27T12:00:00Z"
      })
    })
    expect(ended.code).toBe(1)
    expect(ended.err).toBe("1 event (0 unrouted), 0 invalid lines; deliveries: 1 delivered, 1 failed, 0 rejected\n")
    const common = { messageId: "m1", eventType: "A", durationMs: expect.any(Number), correlationId: "cid_1" }
    expect(json(ended.out).toSorted((a, b) => a.attempts - b.attempts)).toEqual([
      {
        ...common,
        endpointId: "broken",
        url: `${broken.url}/`,
        outcome: "failed",
        class: "http-status",
        status: 400,
        attempts: 1,
        error: expect.any(String)
      },
      { ...common, endpointId: "flaky", url: `${flaky.url}/a`, outcome: "delivered", status: 200, attempts: 3 }
    ])
    expect(flaky.requests.map(({ headers }) => headers["x-correlation-id"])).toEqual(["cid_1", "cid_1", "cid_1"])
    expect(ended.out + ended.err).not.toContain("HUSH")
  })

  it("are shown to people", async () => {
    const { url } = await receiver()
    const env = environment({ A: [{ id: "ep", url }] })
    const ended = await run(["dispatch"], { env, input: `${event(1)}\n${event(2, "Z")}\n{}\n` })
    expect(ended.code).toBe(1)
    expect(ended.out).toMatch(/^delivered {2}A {2}m1 {2}ep {2}http:\/\/127\.0\.0\.1:\d+\/ {2}200, 1 attempt, \d+ ms$/m)
    expect(ended.out).toMatch(/^unrouted {3}Z {2}m2$/m)
    expect(ended.out).toMatch(/^invalid {4}line 3: type: is missing; give 1 to 128 characters/m)
    expect(ended.out + ended.err).not.toContain("\u001b")
  })

  it.each([
    ["an object over many lines", JSON.stringify(JSON.parse(event(1)), null, 2), 1],
    ["an array", `[${event(1)},\n ${event(2)}]`, 2],
    ["lines", `${event(1)}\r\n\r\n${event(2)}\n${event(3)}`, 3]
  ])("come from %s", async (_, input, count) => {
    const { requests, url } = await receiver()
    const ended = await run(["dispatch", "--json", "-"], { env: environment({ "*": [{ url }] }), input })
    expect(ended.code).toBe(0)
    expect(json(ended.out).map(({ messageId }) => messageId).toSorted()).toEqual(["m1", "m2", "m3"].slice(0, count))
    expect(requests.map(({ headers }) => headers["webhook-id"]).toSorted()).toEqual(["m1", "m2", "m3"].slice(0, count))
  })

  it("go on behind bad lines, which are reported with their numbers", async () => {
    const { url } = await receiver()
    const bad = [
      "nope",
      "{\"type\":\"A\"",
      "[]",
      "{\"type\":\"A\"}",
      "{\"type\":\"a b\",\"data\":1}",
      "{\"type\":\"A\",\"data\":1,\"id\":\"a.b\"}",
      "{\"type\":\"A\",\"data\":1,\"aggregat_id\":\"a\"}",
      `{"type":"A","data":"${"x".repeat(300_000)}"}`,
      `{"type":"A","data":"${"x".repeat(1_100_000)}"}`,
      `{"type":"A","data":${"[".repeat(50_000)}${"]".repeat(50_000)}}`,
      "{\"type\":\"A\",\"data\":{\"id\":9007199254740993}}"
    ]
    writeFileSync(
      join(folder, "bad.ndjson"),
      Buffer.concat([
        Buffer.from(bad.map((line, n) => `${line}\n${event(n)}\n`).join("")),
        Buffer.from([0x22, 0xff, 0x22, 0x0a]),
        Buffer.from(`${event(99)}\n{"type":"A","data":{"cut`)
      ])
    )
    const ended = await run(["dispatch", "--json", "bad.ndjson"], { env: environment({ A: [{ url }] }) })
    expect(ended.code).toBe(1)
    const lines = json(ended.out)
    const invalid = lines.filter(({ outcome }) => outcome === "invalid").toSorted((a, b) => a.line - b.line)
    expect(invalid.map(({ line }) => line)).toEqual([1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25])
    for (const one of invalid) {
      expect(one).toEqual({ line: one.line, outcome: "invalid", error: expect.stringMatching(/^.{5,250}$/) })
      expect(one.error).not.toContain("maxBytes")
    }
    expect(lines.filter(({ outcome }) => outcome === "delivered")).toHaveLength(12)
    expect(ended.err).toBe("12 events (0 unrouted), 13 invalid lines; deliveries: 12 delivered, 0 failed, 0 rejected\n")
  })
})

describe.concurrent("input", () => {
  const env = environment({})

  it.each(["", "\n \n", "[]"])("may hold nothing: %j", async (input) => {
    expect(await run(["dispatch", "--json"], { env, input }))
      .toEqual({ code: 0, signal: null, out: "", err: "nothing to send: no events\n" })
  })

  it("may want nobody", async () => {
    const ended = await run(["dispatch", "--json"], { env, input: event(1) })
    expect(ended).toMatchObject({
      code: 0,
      out: "{\"messageId\":\"m1\",\"eventType\":\"A\",\"outcome\":\"unrouted\"}\n"
    })
  })

  it.each([["missing", "no such file"], [".", "it is a directory"]])("can't be read from %s", async (file, reason) => {
    expect(await run(["dispatch", file], { env }))
      .toEqual({ code: 2, signal: null, out: "", err: `effect-webhooks: cannot read ${file}: ${reason}\n` })
  })

  it("is taken as it comes", async () => {
    const { child, ended, out } = start(["dispatch", "--json"], { env })
    child.stdin.write(`${event(1)}\n`)
    await until(() => out() !== "")
    child.stdin.write(`${event(2)}\n`)
    await until(() => out().includes("m2"))
    child.stdin.end()
    expect(await ended).toMatchObject({ code: 0 })
  })
})

describe.concurrent("a pipe with a name", () => {
  const env = environment({})
  const pipe = (name: string) => {
    execFileSync("mkfifo", [join(folder, name)])
    return join(folder, name)
  }

  it("is waited for, and read to its end", async () => {
    const path = pipe("read")
    const program = start(["dispatch", "--json", "read"], { env })
    await untilListening(program)
    const end = openSync(path, "r+")
    writeSync(end, `${event(1)}\n`)
    await until(() => program.out().includes("m1"))
    writeSync(end, event(2))
    closeSync(end)
    const { code, out } = await program.ended
    expect(code).toBe(0)
    expect(json(out).map(({ messageId }) => messageId)).toEqual(["m1", "m2"])
  })

  it.each(
    [
      ["SIGTERM", 143],
      ["SIGINT", 130],
      ["SIGHUP", 129]
    ] as const
  )("keeps nobody waiting after %s: one that is held open", async (signal, code) => {
    const end = openSync(pipe(`open${signal}`), "r+")
    writeSync(end, `${event(1)}\n`)
    const program = start(["dispatch", "--json", `open${signal}`], { env })
    await until(() => program.out() !== "")
    program.child.kill(signal)
    expect(await program.ended).toMatchObject({
      code,
      err: expect.stringContaining("after event 1 (line 1) was sent\n")
    })
    closeSync(end)
  }, 20_000)

  it("keeps nobody waiting after a signal: one that nobody writes to yet", async () => {
    pipe("unused")
    const program = start(["dispatch", "unused"], { env })
    await untilListening(program)
    program.child.kill("SIGTERM")
    expect(await program.ended).toMatchObject({ code: 143, err: expect.stringContaining("no event was sent\n") })
  }, 20_000)
})

describe.concurrent("many lines", () => {
  const count = 100_000

  it("take constant memory, also one that never ends", async () => {
    // The peak is that of the child alone: it says so itself when it ends.
    writeFileSync(
      join(folder, "peak.mjs"),
      "process.on('exit', () => console.error(`peak ${process.resourceUsage().maxRSS}`))"
    )
    const peak = async (input: () => Generator<string>) => {
      const { child, ended } = start(["dispatch", "--json"], {
        command: [process.execPath, "--import", join(folder, "peak.mjs"), bin],
        env: environment({})
      })
      for (const text of input()) {
        if (!child.stdin.write(text)) await new Promise((resolve) => child.stdin.once("drain", resolve))
      }
      child.stdin.end()
      const { err, out } = await ended
      return { out, megabytes: Number(/peak (\d+)/.exec(err)?.[1]) / 1024 }
    }
    const none = await peak(function*() {
      yield "nope\n"
    })
    const lines = await peak(function*() {
      for (let n = 0; n < 100; n++) yield `nope ${"x".repeat(400)}\n`.repeat(count / 100)
    })
    const endless = (megabytes: number) =>
      function*() {
        for (let n = 0; n < megabytes; n++) yield "x".repeat(1_048_576)
      }
    // Against a shorter one: the buffers that the first megabytes take are the same.
    const shorter = await peak(endless(50))
    const line = await peak(endless(200))
    expect(lines.out.split("\n")).toHaveLength(count + 1)
    expect(json(line.out)).toEqual([{ line: 1, outcome: "invalid", error: "longer than 1 MiB" }])
    expect(lines.megabytes - none.megabytes).toBeLessThan(120)
    expect(line.megabytes - shorter.megabytes).toBeLessThan(60)
  })

  it("end early, quietly, when nobody reads any more", async () => {
    writeFileSync(join(folder, "many"), "nope\n".repeat(count))
    const ended = await shell("$cli dispatch --json many | head -1; exit ${PIPESTATUS[0]}", environment({}))
    expect(ended).toMatchObject({ code: 1, out: "{\"line\":1,\"outcome\":\"invalid\",\"error\":\"not valid JSON\"}\n" })
    expect(ended.err).toMatch(/^stopped \(nobody reads standard output\): no event was sent\n0 events .*\n$/)
  })

  it("end with an error when the disk is full", async () => {
    writeFileSync(join(folder, "lines"), "nope\n".repeat(count))
    const ended = await shell("$cli dispatch --json lines > /dev/full", environment({}))
    expect(ended.code).toBe(1)
    expect(ended.err).toMatch(/\neffect-webhooks: cannot write to standard output: no space left\n$/)
  })
})

it.concurrent("logs to stderr at the level that is asked for, one line each", async () => {
  const { url } = await receiver()
  const env = environment({ A: [{ id: "ep", url }] }, { WEBHOOKS_LOG_LEVEL: "info" })
  const ended = await run(["dispatch", "--json"], { env, input: event(1) })
  expect(json(ended.out)).toHaveLength(1)
  expect(ended.err).toMatch(/^timestamp=\S+ level=INFO .*message=webhook_sent .*messageId=m1/m)
})

describe("on a terminal", () => {
  const onTerminal = (line: string, more: Readonly<Record<string, string>> = {}) => {
    writeFileSync(join(folder, "few"), `${event(1)}\n${event(2)}\n`)
    return shell(`script -qec "${line}" /dev/null`, environment({}, { TERM: "xterm", ...more }))
  }

  it("shows a progress bar on stderr", async () => {
    const { code, out } = await onTerminal("$cli dispatch few > /dev/null")
    expect(code).toBe(0)
    expect(out).toMatch(/\[=+\] 100% {2}2 events {2}0 delivered {2}0 failed/)
    expect(out).toMatch(/\u001b\[2K2 events \(2 unrouted\)/)
  })

  it("moves on as events are taken, and keeps out of the way of other lines", async () => {
    const { requests, url } = await receiver((_, response) => {
      // A few seconds' worth of work is left then.
      if (requests.length === 40) process.kill(Number(readFileSync(join(folder, "pid"), "utf8")), "SIGINT")
      setTimeout(() => response.end(), 200)
    })
    writeFileSync(join(folder, "some"), Array.from({ length: 200 }, (_, n) => `${event(n)}\n`).join(""))
    const { ended } = start(
      ["-c", "script -qec \"bash --norc -c 'echo \\$\\$ > pid; exec $cli dispatch some > /dev/null'\" /dev/null"],
      {
        command: ["bash", "--norc"],
        env: { ...environment({ A: [{ url, timeout: "9s" }] }, { TERM: "xterm" }), cli: `${process.execPath} ${bin}` }
      }
    )
    const { out } = await ended
    expect(requests.length).toBeGreaterThan(0)
    expect(out).toMatch(/\] (?:[1-9]|[1-9]\d)% {2}\d+ events/)
    expect(out).toMatch(/\r\u001b\[2Kstopping: /)
    expect(out).toMatch(/\u001b\[2Kstopped \(Ctrl-C\): .* was sent\r\n/)
    // A terminal that was told not to wrap lines would stay so if this were killed.
    expect(out).not.toContain("\u001b[?7")
  })

  it("can be ended by a signal while it waits for what is typed", async () => {
    writeFileSync(
      join(folder, "typed.sh"),
      `$cli dispatch /dev/tty &
      until grep -q '^SigCgt:.*[13579bdf]$' /proc/$!/status; do sleep 0.05; done
      kill -TERM $!; wait $!; echo status $?`
    )
    const { ended } = start(["-c", "script -qec 'bash --norc typed.sh' /dev/null"], {
      command: ["bash", "--norc"],
      env: { ...environment({}, { TERM: "xterm" }), cli: `${process.execPath} ${bin}` }
    })
    const { out } = await ended
    expect(out).toContain("status 143")
  }, 20_000)

  it("shows none with NO_COLOR", async () => {
    const { code, out } = await onTerminal("$cli dispatch few", { NO_COLOR: "1" })
    expect(code).toBe(0)
    expect(out).not.toContain("\u001b")
  })
})
