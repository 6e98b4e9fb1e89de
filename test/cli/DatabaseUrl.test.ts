import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { expect, it } from "vitest"
import * as Database from "../../src/cli/Database.js"
import * as DatabaseUrl from "../../src/cli/DatabaseUrl.js"
import { OutboxUnavailable, Reason, SchemaMissing, SchemaTooNew, SchemaTooOld } from "../../src/outbox/OutboxError.js"

it.each([
  ["file:./webhooks.db", "./webhooks.db"],
  ["file:webhooks.db", "webhooks.db"],
  ["file:/var/lib/a%20b.db", "/var/lib/a b.db"],
  ["file:///var/lib/a.db", "/var/lib/a.db"],
  ["FILE://localhost/var/lib/a.db", "/var/lib/a.db"]
])("takes the file of %s", (url, path) => {
  expect(DatabaseUrl.parse(url)).toEqual(Either.right({ _tag: "File", path, place: path }))
})

it.each([
  ["file:///var/lib/a%20b.db", "file:/var/lib/a b.db"],
  ["postgres://app:HUSH@db.example:6432/shop?sslmode=require&password=HUSH", "postgres://db.example:6432/shop"],
  ["postgresql://HUSH@[::1]/a%20b", "postgres://[::1]:5432/a b"],
  ["postgres://HUSH@db.example", "postgres://db.example:5432"],
  ["postgres:///shop?host=/run/postgresql&user=HUSH", "postgres:///run/postgresql/shop"]
])("shows %s without the login", (url, text) => {
  expect(DatabaseUrl.shown(Either.getOrThrow(DatabaseUrl.parse(url)))).toBe(text)
})

it.each([
  ["postgres://app:HUSH@db.example:6432/app", "db.example:6432"],
  ["postgresql://app:HUSH%2F@db.example/app?sslmode=verify-full", "db.example:5432"],
  ["postgres:///app?host=/run/postgresql", "/run/postgresql"],
  ["postgres://[::1]/app", "[::1]:5432"]
])("takes the server of %s, and names it without the login", (url, place) => {
  const target = Either.getOrThrow(DatabaseUrl.parse(url))
  expect(target).toMatchObject({ _tag: "Postgres", place })
  expect(target._tag === "Postgres" && Redacted.value(target.url)).toBe(url)
  expect(JSON.stringify(target)).not.toContain("HUSH")
})

it.each([
  "",
  "HUSHHUSH",
  "mysql://app:HUSH@h/app",
  "file:",
  "file::memory:",
  "file://HUSH/a.db",
  "file:a.db?mode=ro",
  "file:a.db#HUSH",
  "file:HUSH%zz",
  "file:a%00b",
  "file:folder/",
  "postgres://",
  "postgres://app:HUSH/1@host/app",
  "postgres://app:12/HUSH@host/app",
  "postgres://app:12?HUSH@host/app",
  "postgres://app:12#HUSH@host/app",
  "postgres://app:HUSH%@host/app",
  "postgres://app:HUSH@host:port/app",
  "postgres://host/app/HUSH",
  "postgres://host/app#HUSH"
])("refuses %j, and repeats nothing of it", (url) => {
  const problem = Either.getOrThrow(Either.flip(DatabaseUrl.parse(url)))
  expect(problem).toMatch(/^(?:must|has) [ -~]{10,300}$/)
  expect(problem).not.toContain("HUSH")
})

it("has a line for whatever a database may fail with", () => {
  const file = Either.getOrThrow(DatabaseUrl.parse("file:a.db"))
  const server = Either.getOrThrow(DatabaseUrl.parse("postgres://app:HUSH@h/app"))
  const lines = (target: DatabaseUrl.Target) =>
    Reason.literals.map((reason) => Database.failure(target, new OutboxUnavailable({ reason })))
  // In the log lines of a worker whose database fails.
  for (const reason of Reason.literals) expect(new OutboxUnavailable({ reason }).message).not.toMatch(/Outbox|[lL]ayer/)
  const schema = [
    new SchemaMissing({ prefix: "webhook_" }),
    new SchemaTooOld({ found: 1, known: 2 }),
    new SchemaTooNew({ found: 2, known: 1 })
  ].map((error) => Database.failure(file, error).message)
  expect(schema).toEqual([
    "the database file a.db is not migrated; run `effect-webhooks migrate`",
    "the database file a.db has schema version 1, and 2 is needed; run `effect-webhooks migrate`",
    expect.stringMatching(/ newer than version 1 of effect-webhooks .*; update effect-webhooks$/)
  ])
  for (const error of [...lines(file), ...lines(server)]) {
    expect(error.exitCode).toBe(1)
    expect(error.lines).toHaveLength(1)
    expect(error.message).toMatch(/^the database (?:file a\.db|at h:5432) [ -~]+$/)
  }
  expect(new Set(lines(file).map(({ message }) => message)).size).toBe(Reason.literals.length)
  expect(Database.failure(file, new OutboxUnavailable({ reason: "disk-full", code: "SQLITE_FULL" })).lines).toEqual([
    "the database file a.db has no space left on its disk; make room and try again (SQLITE_FULL)"
  ])
})
