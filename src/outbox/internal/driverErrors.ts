/**
 * What a database driver's error means. Only its code is looked at and kept: its text may quote values, addresses and statements.
 */
import { SqlError } from "@effect/sql/SqlError"
import { OutboxUnavailable, type Reason } from "../OutboxError.js"

/** Whether a failure or a defect comes from the database. */
export const isSqlError = (error: unknown): error is SqlError => error instanceof SqlError

/** The error as the outbox tells it. */
export const toUnavailable = (error: unknown): OutboxUnavailable => {
  const code = codeOf(error, 0)
  return new OutboxUnavailable({ reason: reasonOf(code), ...(code === undefined ? {} : { code }) })
}

// --- internal

// `SqlError` wraps the driver's error, which may wrap the system's (an `AggregateError` of several addresses has theirs in a list).
const codeOf = (error: unknown, depth: number): string | undefined => {
  if (typeof error !== "object" || error === null || depth > 4) return undefined
  const code: unknown = Reflect.get(error, "code")
  const text: unknown = Reflect.get(error, "message")
  // SQLite has one code for all that is wrong with a statement.
  if (code === "SQLITE_ERROR" && typeof text === "string" && /no such table/.test(text)) return "SQLITE_NO_TABLE"
  if (typeof code === "string" && /^[A-Z0-9_]{3,40}$/.test(code)) return code
  const inner = codeOf(Reflect.get(error, "cause"), depth + 1)
  if (inner !== undefined) return inner
  const errors: unknown = Reflect.get(error, "errors")
  if (Array.isArray(errors) && errors.length > 0) return codeOf(errors[0], depth + 1)
  // node-postgres ends broken connections, and waits for them, without a code.
  return typeof text === "string" && /terminated|timed? ?out|connection/i.test(text) ? "CONNECTION_LOST" : undefined
}

const reasonOf = (code: string | undefined): Reason => {
  if (code === undefined) return "other"
  const exact = reasons[code]
  if (exact !== undefined) return exact
  // Classes of PostgreSQL's codes (Appendix A): 08 connection, 28 authorization, 23 integrity, 57P operator intervention.
  if (/^08...$/.test(code) || /^57P..$/.test(code)) return "unreachable"
  if (/^28...$/.test(code)) return "credentials"
  // 22 data, 54 limits, P0 a trigger's own exception: as with 23, it is about what was to be stored.
  if (/^(?:22|23|54|P0)...$/.test(code)) return "constraint"
  if (/^(?:E[A-Z]+|CONNECTION_LOST)$/.test(code)) return "unreachable"
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")) return "busy"
  if (code.startsWith("SQLITE_READONLY")) return "read-only"
  if (code.startsWith("SQLITE_CORRUPT")) return "corrupt"
  if (code.startsWith("SQLITE_CONSTRAINT")) return "constraint"
  if (code.startsWith("SQLITE_CANTOPEN") || code.startsWith("SQLITE_IOERR")) return "unreachable"
  return "other"
}

const reasons: Readonly<Record<string, Reason>> = {
  "3D000": "credentials",
  "42501": "read-only",
  "25006": "read-only",
  "42P01": "missing-tables",
  "53100": "disk-full",
  "53200": "busy",
  "53300": "busy",
  "55P03": "busy",
  "40001": "busy",
  "40P01": "busy",
  "57014": "busy",
  ENOSPC: "disk-full",
  EROFS: "read-only",
  EACCES: "read-only",
  SQLITE_FULL: "disk-full",
  SQLITE_PERM: "read-only",
  SQLITE_NOTADB: "corrupt",
  SQLITE_NO_TABLE: "missing-tables",
  SQLITE_READONLY_DBMOVED: "unreachable",
  SQLITE_TOOBIG: "constraint"
}
