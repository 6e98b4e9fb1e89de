/**
 * Where the outbox is, as a URL says it: `file:./webhooks.db` or `postgres://user:password@host:port/database`.
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { visible } from "./Visible.js"

/** A database. `place` names it to a person: the path, or host and port; never who logs in, and how. */
export type Target =
  | { readonly _tag: "File"; readonly place: string; readonly path: string }
  | {
    readonly _tag: "Postgres"
    readonly place: string
    /** Made safe to show; none where it goes without saying: then it is that of the user's name. */
    readonly database: string | undefined
    readonly url: Redacted.Redacted
  }

/** The database of a URL, or what is wrong with it, in words that repeat nothing of it. */
export const parse = (given: string): Either.Either<Target, string> => {
  const text = given.trim()

  if (text === "" || text.length > maxLength || /[\u0000-\u001f\u007f]/.test(text)) return Either.left(forms)
  if (/^file:/i.test(text)) return file(text.slice("file:".length))
  return /^postgres(?:ql)?:\/\//i.test(text) ? postgres(text) : Either.left(forms)
}

/** The database as a URL that holds no login and no parameters. */
export const shown = (target: Target): string =>
  target._tag === "File"
    ? `file:${target.place}`
    : `postgres://${target.place}${target.database === undefined ? "" : `/${target.database}`}`

/** Where the outbox is when nothing is said. */
export const fallback = "file:./webhooks.db"

// --- internal

const maxLength = 4096
const forms = "must be file:PATH, such as file:./webhooks.db, or postgres://USER:PASSWORD@HOST:PORT/DATABASE"

const file = (rest: string): Either.Either<Target, string> => {
  if (/[?#]/.test(rest)) return Either.left("must be file:PATH without parameters; write ? as %3F and # as %23")
  // `file:///a` and `file://localhost/a` are `/a`.
  const path = rest.replace(/^\/\/(?:localhost)?(?=\/)/i, "")
  if (path.startsWith("//")) return Either.left("must name a file of this machine: file:PATH or file:///PATH")
  let decoded: string
  try {
    decoded = decodeURIComponent(path)
  } catch {
    return Either.left("has a % that begins no escape; write it as %25")
  }
  // An empty name and this one are databases in memory to SQLite: gone with the process.
  return decoded === "" || decoded === ":memory:" || decoded.endsWith("/") || decoded.includes("\0")
    ? Either.left(forms)
    : Either.right({ _tag: "File", path: decoded, place: visible(decoded, 300) })
}

const postgres = (text: string): Either.Either<Target, string> => {
  const authority = text.indexOf("//") + 2
  const rest = text.slice(authority).search(/[/?#]/)
  // A `/`, `?`, `#` in a password would end the authority: what is then taken for the host is the user and part of the password.
  if (rest !== -1 && text.includes("@", authority + rest)) return Either.left(unescaped)
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return Either.left(`${forms}; ${escapes}`)
  }
  if (url.host === "" && url.search === "" && url.pathname.length < 2) return Either.left(forms)
  if (url.hash !== "" || url.pathname.lastIndexOf("/") > 0) return Either.left(unescaped)
  let database: string
  try {
    decodeURIComponent(`${url.username}${url.password}`)
    database = decodeURIComponent(url.pathname.slice(1))
  } catch {
    return Either.left(unescaped)
  }
  const host = url.hostname === "" ? url.searchParams.get("host") ?? "localhost" : url.hostname
  const port = url.port === "" ? url.searchParams.get("port") ?? "5432" : url.port
  return Either.right({
    _tag: "Postgres",
    url: Redacted.make(text),
    place: visible(host.startsWith("/") ? host : `${host}:${port}`, 300),
    database: database === "" ? undefined : visible(database, 300)
  })
}

const escapes = "characters such as / ? # @ % in user or password are written as %2F %3F %23 %40 %25"
const unescaped = `must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, where ${escapes}`
