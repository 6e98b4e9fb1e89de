/**
 * The texts below the list of options of the commands of the durable path.
 */
import {
  blocks,
  delivering,
  environment,
  events,
  examples,
  exitCodes,
  proxied,
  serviceExitCodes,
  stored
} from "./HelpText.js"

/** Below the help of `serve`. */
export const serve = (): string =>
  blocks(
    `The first line on stdout is 'listening on http://HOST:PORT; N endpoints; database URL' (without the login), with --json
{"listening","endpoints","database"}; logs go to stderr. The API is described at /openapi.json and at /docs; /health/live and
/health/ready need no token. Without WEBHOOKS_API_TOKEN it listens on loopback only.
It is asked by its own names, and answers 403 to others: localhost, --host and what WEBHOOKS_API_HOSTS lists (its name in DNS, that of a proxy before
it); with --host 0.0.0.0 or :: by any address, too, as health checks do.
The tables are made, or brought up to date, at the start. With SQLite one process works: a second one ends with exit code 1.

SIGTERM, Ctrl-C, a closed terminal: nothing new is taken, requests in flight have WEBHOOKS_GRACE to end, the rest is handed back to the next worker;
then it exits with 0. A second one ends it at once: what was in flight is delivered again after its lease.`,
    examples(
      "effect-webhooks serve",
      "WEBHOOKS_API_TOKEN=$(openssl rand -hex 32) WEBHOOKS_API_HOSTS=hooks.internal effect-webhooks serve --host 0.0.0.0 --port 8080",
      "WEBHOOKS_API_TOKEN_FILE=/run/secrets/token WEBHOOKS_API_HOSTS=hooks.example.com effect-webhooks serve --host 0.0.0.0",
      "WEBHOOKS_DATABASE_URL=postgres://app@db/app effect-webhooks serve"
    ),
    environment(...stored, "WEBHOOKS_API_TOKEN", "WEBHOOKS_API_HOSTS", ...delivering),
    proxied,
    serviceExitCodes
  )

/** Below the help of `worker`. */
export const worker = (): string =>
  blocks(
    `The first line on stdout is 'worker started; N endpoints; database URL' (without the login), with --json
{"worker":"started","endpoints","database"}; logs go to stderr. It stops as serve does.
The tables are made, or brought up to date, at the start. Any number of workers may share a PostgreSQL database; with SQLite one
process works.`,
    examples(
      "effect-webhooks worker",
      "WEBHOOKS_DATABASE_URL=postgres://app@db/app WEBHOOKS_CONCURRENCY=256 effect-webhooks worker"
    ),
    environment(...stored, ...delivering),
    proxied,
    serviceExitCodes
  )

/** Below the help of `enqueue`. */
export const enqueue = (): string =>
  blocks(
    `${events}

Events are committed 100 at a time, sooner where the input pauses. A line of result means that the event is stored, in the order of
the input; an event with an "id" that was stored before is a duplicate, and is stored once. One that is refused (too large, or an
"id" that another event has) is reported as invalid and takes no other with it. The tables are made, or brought up to date, first.

Results, with --json one object a line:
  an event            {"messageId","duplicate","deliveries"}
  not an event        {"line":N,"outcome":"invalid","error"}
  wrong configuration {"errors":[{"path","message"}]}
  any other error     {"errors":[{"message"}]}

Ctrl-C stops taking events, and the line from which nothing was stored is named on stderr.`,
    examples(
      "effect-webhooks enqueue events.ndjson",
      "tail -f events.ndjson | effect-webhooks enqueue --json -",
      `echo '{"type":"OrderCreated","data":{"total":12}}' | effect-webhooks enqueue`
    ),
    environment(...stored, "NO_COLOR"),
    exitCodes
  )

/** Below the help of `deliveries` and of its commands. */
export const deliveries = (): string =>
  blocks(
    `With --json a delivery is {"id","messageId","endpointId","eventType","state","reason"?,"attempts","dueAt"?,"leased","held",
"lastStatus"?,"lastClass"?,"createdAt","endedAt"?}; show adds "history", its attempts; the last line of a list that goes on is
{"next"}, the --cursor of the next page.

replay: a pending one is due now; a delivered one is sent once more; an exhausted or discarded one begins its schedule anew. A
disabled endpoint refuses. cancel: a pending one is discarded, unless an attempt is under way.`,
    examples(
      "effect-webhooks deliveries list --state exhausted --endpoint orders",
      "effect-webhooks deliveries show dlv_42",
      "effect-webhooks deliveries replay dlv_42",
      "effect-webhooks deliveries cancel dlv_42"
    ),
    environment(...stored),
    exitCodes
  )

/** Below the help of `messages` and of its commands. */
export const messages = (): string =>
  blocks(
    `With --json {"id","eventType","tenant"?,"aggregateId"?,"occurredAt","correlationId","idempotencyKey"?,"createdAt","deliveries",
"bodies"}; the bodies are text, by format.`,
    examples("effect-webhooks messages show msg_1", "effect-webhooks messages show msg_1 --json | jq -r .bodies.event"),
    environment(...stored),
    exitCodes
  )

/** Below the help of `endpoints` and of its commands. */
export const endpoints = (): string =>
  blocks(
    `With --json an endpoint is {"id","url"?,"configured","enabled","state","circuit","opensAgainAt"?,"pausedUntil"?,
"disabled"?,"consecutiveFailures","firstFailureAt"?,"lastFailureAt"?,"lastSuccessAt"?,"pending"?}.

test sends at once, whatever the state, and stores nothing; exit code 1 unless it was delivered. Deliveries to a disabled endpoint
wait until it is enabled. recover replays each delivery that was exhausted or discarded in the span of time, once; those that were
cancelled stay so (deliveries replay sends one of them). Cut off, it goes on when it is given again, or where a worker runs.`,
    examples(
      "effect-webhooks endpoints list",
      "effect-webhooks endpoints test orders",
      "effect-webhooks endpoints disable orders --reason 'moves on Friday'",
      "effect-webhooks endpoints enable orders",
      "effect-webhooks endpoints recover orders --since 2h"
    ),
    environment(...stored, "WEBHOOKS_TIMEOUT"),
    exitCodes
  )

/** Below the help of `stats`. */
export const stats = (): string =>
  blocks(
    `Orphaned: pending for an endpoint that is not configured here.
With --json {"states","oldestDueAt"?,"orphaned","endpoints":[{"id","pending","leased","oldestDueAt"?,"orphaned"}]}.`,
    examples("effect-webhooks stats", "effect-webhooks stats --json | jq .states.pending"),
    environment(...stored),
    exitCodes
  )

/** Below the help of `purge`. */
export const purge = (): string =>
  blocks(
    `A worker does the same by itself. With --json {"messages","deliveries"}: how many were deleted. What was deleted can't be
replayed, and its ids and idempotency keys are no duplicates any more.`,
    examples("effect-webhooks purge", "effect-webhooks purge --delivered 1d --ended 7d"),
    environment(...stored, "WEBHOOKS_RETENTION"),
    exitCodes
  )

/** Below the help of `migrate`. */
export const migrate = (): string =>
  blocks(
    `serve, worker and enqueue do the same at their start; the other commands need it done. Processes that start together wait for
each other. With --json {"from","to"}: versions of the tables, 0 for none.`,
    examples("effect-webhooks migrate", "WEBHOOKS_DATABASE_URL=postgres://app@db/app effect-webhooks migrate"),
    environment("WEBHOOKS_DATABASE_URL"),
    exitCodes
  )
