/**
 * How the outbox fails where its database does: typed, in our own words. What a driver says (it quotes statements, values and
 * addresses) goes nowhere.
 */
import * as Schema from "effect/Schema"

/**
 * Why the database could not do what was asked: `unreachable` (no connection, or it broke), `credentials` (refused at the door),
 * `disk-full`, `read-only`, `busy` (another writer held it for too long), `queue-full` (too many events of this process wait for their commit), `missing-tables` (they are gone, or were never made),
 * `corrupt` (not a database, or a damaged one), `constraint` (a rule of the host's own schema), `other`.
 */
export const Reason = Schema.Literal(
  "unreachable",
  "credentials",
  "disk-full",
  "read-only",
  "busy",
  "queue-full",
  "missing-tables",
  "corrupt",
  "constraint",
  "other"
)

/** See the schema of the same name. */
export type Reason = typeof Reason.Type

/**
 * The database did not take it. Nothing of what was asked has been stored, unless the answer to a COMMIT was lost (`unreachable`): then asking again
 * with the same event id or idempotency key tells. `code` is the driver's code (`SQLITE_FULL`, `57P01`, `ECONNREFUSED`), never its text.
 */
export class OutboxUnavailable
  extends Schema.TaggedError<OutboxUnavailable>("effect-webhooks/OutboxUnavailable")("OutboxUnavailable", {
    reason: Reason,
    code: Schema.optional(Schema.String)
  })
{
  override get message(): string {
    return `${texts[this.reason]}${this.code === undefined ? "" : ` (${this.code})`}`
  }
}

/** The tables are not there; nothing was changed. */
export class SchemaMissing extends Schema.TaggedError<SchemaMissing>("effect-webhooks/SchemaMissing")("SchemaMissing", {
  prefix: Schema.String
}) {
  override get message(): string {
    return `the database has no tables of this library (prefix ${this.prefix}); run \`effect-webhooks migrate\`, or use OutboxSchema.layerMigrated`
  }
}

/** The tables were made by a later version of this library, or migrated by one; nothing was changed. */
export class SchemaTooNew extends Schema.TaggedError<SchemaTooNew>("effect-webhooks/SchemaTooNew")("SchemaTooNew", {
  found: Schema.Number,
  known: Schema.Number
}) {
  override get message(): string {
    return `the database has schema version ${this.found}, this version of the library knows ${this.known}: update the library`
  }
}

/** The tables were made by an earlier version of this library; nothing was changed. */
export class SchemaTooOld extends Schema.TaggedError<SchemaTooOld>("effect-webhooks/SchemaTooOld")("SchemaTooOld", {
  found: Schema.Number,
  known: Schema.Number
}) {
  override get message(): string {
    return `the database has schema version ${this.found}, this version of the library needs ${this.known}; run \`effect-webhooks migrate\`, or use OutboxSchema.layerMigrated`
  }
}

// --- internal

const texts: Readonly<Record<Reason, string>> = {
  unreachable:
    "the database can't be reached, or the connection broke; check that it runs, its address and the network",
  credentials: "the database refuses the login; check user, password and database name",
  "disk-full": "the database has no space left; make room on its disk",
  "read-only": "the database is read-only; check the permissions of the file and its folder, or the server's mode",
  busy: "another process has kept the database locked for too long; try again",
  "queue-full":
    "too many events of this process wait to be stored; hand in fewer at a time, or try again when some have been",
  "missing-tables":
    "the tables of the outbox are missing; run `effect-webhooks migrate`, or migrate at the start of the program",
  corrupt: "the database file is damaged, or is not a database",
  constraint: "a constraint of the database refused what was to be stored",
  other: "the database refused"
}
