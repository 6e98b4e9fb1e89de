/**
 * The tables, version by version. A version that has been released is never changed: what comes later is a new one.
 *
 * The state of a delivery is `pending`, `delivered`, `exhausted` or `discarded`. A pending one is in a `lane`: `first` (no attempt was made yet),
 * `retry`, or `leased` (a worker has it; then `due_at` is the end of its lease, and whoever finds it due finds a lease that lapsed). So one partial
 * index serves new events, retries and lapsed leases, and a claim reads no row that it doesn't take. `due_at` 0: at once, by anybody's clock.
 */
import type { Dialect } from "./transacting.js"

/** Statements that lead from the version before to each. */
export const migrations = (dialect: Dialect, prefix: string): ReadonlyArray<ReadonlyArray<string>> => {
  const types = dialect === "pg" ? postgres : sqlite
  return [version1(types, prefix, dialect)]
}

/** The table that holds the version. */
export const metaTable = (prefix: string): string =>
  `CREATE TABLE IF NOT EXISTS ${prefix}meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)`

// --- internal

interface Types {
  readonly serial: string
  readonly integer: string
  readonly bytes: string
}

const postgres: Types = { serial: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", integer: "BIGINT", bytes: "BYTEA" }
const sqlite: Types = { serial: "INTEGER PRIMARY KEY AUTOINCREMENT", integer: "INTEGER", bytes: "BLOB" }

const version1 = ({ bytes, integer, serial }: Types, prefix: string, dialect: Dialect): ReadonlyArray<string> => [
  `CREATE TABLE ${prefix}messages (
    id TEXT PRIMARY KEY,
    idempotency_key TEXT UNIQUE,
    digest TEXT NOT NULL,
    event_type TEXT NOT NULL,
    tenant TEXT,
    aggregate_id TEXT,
    occurred_at TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    trace_parent TEXT,
    deliveries INTEGER NOT NULL,
    created_at ${integer} NOT NULL,
    body_event ${bytes},
    body_standard ${bytes},
    body_cloudevents ${bytes}
  )`,
  `CREATE INDEX ${prefix}messages_unrouted ON ${prefix}messages (created_at) WHERE deliveries = 0`,
  `CREATE TABLE ${prefix}deliveries (
    id ${serial},
    message_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    format TEXT NOT NULL,
    order_key TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    lane TEXT NOT NULL,
    held SMALLINT NOT NULL DEFAULT 0,
    due_at ${integer} NOT NULL,
    fence TEXT,
    lapses INTEGER NOT NULL DEFAULT 0,
    step INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    once SMALLINT NOT NULL DEFAULT 0,
    last_status INTEGER,
    last_class TEXT,
    created_at ${integer} NOT NULL,
    ended_at ${integer},
    UNIQUE (message_id, endpoint_id)
  )${
    // Rows change a few times and rest: room in each page keeps that cheap, and frequent vacuums keep the claim's index short.
    dialect === "pg"
      ? " WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)"
      : ""}`,
  `CREATE INDEX ${prefix}deliveries_due ON ${prefix}deliveries (endpoint_id, lane, due_at, id) WHERE state = 'pending' AND held = 0`,
  `CREATE INDEX ${prefix}deliveries_order ON ${prefix}deliveries (endpoint_id, order_key, id) WHERE state = 'pending' AND order_key IS NOT NULL`,
  `CREATE INDEX ${prefix}deliveries_turn ON ${prefix}deliveries (endpoint_id, order_key) WHERE state = 'pending' AND held = 0 AND order_key IS NOT NULL`,
  `CREATE INDEX ${prefix}deliveries_failed ON ${prefix}deliveries (endpoint_id, ended_at, id) WHERE state IN ('exhausted', 'discarded')`,
  `CREATE INDEX ${prefix}deliveries_ended ON ${prefix}deliveries (state, ended_at, id) WHERE state <> 'pending'`,
  `CREATE INDEX ${prefix}deliveries_failures ON ${prefix}deliveries (state, id) WHERE state IN ('exhausted', 'discarded')`,
  `CREATE INDEX ${prefix}deliveries_listed ON ${prefix}deliveries (endpoint_id, id)`,
  `CREATE TABLE ${prefix}attempts (
    delivery_id ${integer} NOT NULL,
    number INTEGER NOT NULL,
    started_at ${integer} NOT NULL,
    duration INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    class TEXT,
    status INTEGER,
    excerpt TEXT,
    PRIMARY KEY (delivery_id, number)
  )${dialect === "sqlite" ? " WITHOUT ROWID" : ""}`,
  `CREATE TABLE ${prefix}endpoints (
    id TEXT PRIMARY KEY,
    circuit TEXT,
    paused_until ${integer},
    disabled_at ${integer},
    disabled_reason TEXT,
    disabled_by TEXT,
    consecutive_failures INTEGER NOT NULL DEFAULT 0,
    first_failure_at ${integer},
    last_failure_at ${integer},
    last_success_at ${integer},
    next_slot_at ${integer},
    recover_since ${integer},
    recover_until ${integer},
    recover_after TEXT,
    recovered INTEGER,
    updated_at ${integer} NOT NULL
  )`
]
