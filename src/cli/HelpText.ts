/**
 * What the help texts of all commands are made of.
 */
import { defaults } from "../Defaults.js"
import { secretVariables } from "./Environment.js"

/** Every variable: what it is, and what holds without it. */
export const variables: Readonly<Record<string, readonly [text: string, fallback: string]>> = {
  WEBHOOKS_CONFIG: ["the endpoints, as JSON", "none"],
  WEBHOOKS_CONFIG_FILE: ["a file with the endpoints, in place of WEBHOOKS_CONFIG", "none"],
  WEBHOOKS_MAX_RETRIES: ["retries after the first attempt", String(defaults.maxRetries)],
  WEBHOOKS_BASE_DELAY: ["delay before the first retry; it doubles", defaults.baseDelay],
  WEBHOOKS_MAX_DELAY: ["longest delay between attempts", defaults.maxDelay],
  WEBHOOKS_TIMEOUT: ["time for one attempt", defaults.attemptTimeout],
  WEBHOOKS_DEADLINE: ["time for all attempts of a delivery", defaults.deadline],
  WEBHOOKS_CORRELATION_HEADER: ["header that carries the correlation id", defaults.correlationHeader],
  WEBHOOKS_EGRESS_ALLOW: [
    "CIDRs and host names, comma-separated, that may be reached although private; *:PORT: a port of public ones",
    "none"
  ],
  WEBHOOKS_EGRESS_DENY: [
    "CIDRs and host names, comma-separated, that may not be reached, whatever is allowed; *:PORT: at any host",
    "none"
  ],
  WEBHOOKS_CA_FILE: ["a file with certificate authorities (PEM) to trust beside the well-known ones", "none"],
  WEBHOOKS_PROXY: ["a proxy for all requests, http://HOST:PORT; it resolves names, unguarded", "none"],
  WEBHOOKS_LOG_LEVEL: [
    "all trace debug info warning error fatal none; logs go to stderr",
    "none; serve and worker: info"
  ],
  WEBHOOKS_DATABASE_URL: ["the outbox: file:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE", "file:./webhooks.db"],
  WEBHOOKS_API_TOKEN: ["tokens of the HTTP API, separated by spaces or commas; 16 characters or more each", "none"],
  WEBHOOKS_API_HOSTS: [
    "names, separated by spaces or commas, that serve is asked by, beside localhost and --host; others get 403",
    "none"
  ],
  WEBHOOKS_SCHEDULE: [
    "waits before the attempts of a stored delivery, comma-separated, the first included",
    defaults.durableSchedule.map((wait) => wait.replace(/ ([a-z])[a-z]*$/, "$1")).join(",")
  ],
  WEBHOOKS_LEASE: ["how long a worker's claim holds without being renewed", defaults.worker.lease],
  WEBHOOKS_POLL: ["longest time between two looks for what is due", defaults.worker.poll],
  WEBHOOKS_CONCURRENCY: ["a worker's requests in flight", String(defaults.concurrency)],
  WEBHOOKS_ENDPOINT_CONCURRENCY: ["a worker's requests in flight to one endpoint", String(defaults.keyConcurrency)],
  WEBHOOKS_GRACE: ["time for a worker's requests in flight when it is stopped", defaults.grace],
  WEBHOOKS_RETENTION: [
    "how long ended deliveries are kept: one duration, or two: delivered,ended",
    Object.values(defaults.retention).map((time) => time.replace(/ ([a-z])[a-z]*$/, "$1")).join(",")
  ],
  WEBHOOKS_SECRET: ["secrets of sign, verify and listen, separated by spaces", "none"],
  NO_COLOR: ["when set, no colours and no progress bar", "unset"]
}

/** Of the commands that look at the configuration. */
export const configured = ["WEBHOOKS_CONFIG", "WEBHOOKS_CONFIG_FILE", "WEBHOOKS_EGRESS_ALLOW", "WEBHOOKS_EGRESS_DENY"]

/** Of the commands that connect. */
export const connecting = ["WEBHOOKS_CA_FILE", "WEBHOOKS_PROXY"]

/** What a proxy changes. */
export const proxied =
  `With WEBHOOKS_PROXY it is the proxy that resolves names and connects: literal addresses, ports and names of URLs are still judged here,
the addresses behind a name no longer are. HTTP_PROXY and HTTPS_PROXY are not heeded.`

/** Of the commands that work on a database. */
export const stored = ["WEBHOOKS_DATABASE_URL", ...configured, "WEBHOOKS_LOG_LEVEL"]

/** Of the worker, beyond those. */
export const delivering = [
  "WEBHOOKS_SCHEDULE",
  "WEBHOOKS_LEASE",
  "WEBHOOKS_POLL",
  "WEBHOOKS_CONCURRENCY",
  "WEBHOOKS_ENDPOINT_CONCURRENCY",
  "WEBHOOKS_TIMEOUT",
  "WEBHOOKS_DEADLINE",
  "WEBHOOKS_GRACE",
  "WEBHOOKS_RETENTION",
  "WEBHOOKS_CORRELATION_HEADER",
  ...connecting
]

/** Texts with an empty line between them. */
export const blocks = (...texts: ReadonlyArray<string>): string => `\n${texts.join("\n\n")}\n`

/** Commands to try. */
export const examples = (...commands: ReadonlyArray<string>): string =>
  ["Examples:", ...commands.map((command) => `  ${command}`)].join("\n")

/** The variables of these names. */
export const environment = (...names: ReadonlyArray<string>): string =>
  [
    "Environment (a .env file in the working directory is read below it; durations as 10s or \"10 seconds\"):",
    ...names.flatMap((name) => {
      const [text, fallback] = variables[name] ?? ["", ""]
      const line = `  ${name.padEnd(31)}${text} (default: ${fallback})`
      return secretVariables.includes(name)
        ? [line, `  ${`${name}_FILE`.padEnd(31)}a file with it, in place of ${name} (default: none)`]
        : [line]
    })
  ].join("\n")

/** What `dispatch` and `enqueue` read. */
export const events =
  `Events: one JSON object, a JSON array of objects, or one object a line (NDJSON); without FILE, or with -, from stdin.
  {"type":"OrderCreated","data":{...},"aggregate_id"?,"occurred_at"?,"id"?,"tenant"?,"correlation_id"?}`

/** Where secrets belong. */
export const secrets =
  `Arguments can be seen by other users of the machine (ps): prefer WEBHOOKS_SECRET to --secret for real secrets.`

/** What the process ends with. */
export const exitCodes = `Exit codes:
  0    done (an event that no endpoint wants is no failure)
  1    the work failed: a delivery failed or was rejected, a line was invalid, a signature didn't verify, something
       doesn't exist or can't be done, the database can't be used
  2    wrong usage or configuration
  130  cut off by Ctrl-C (SIGINT); 143 by SIGTERM, 129 by the end of the terminal (SIGHUP)`

/** What the services end with. */
export const serviceExitCodes = `Exit codes:
  0    stopped by Ctrl-C (SIGINT), SIGTERM or the end of the terminal (SIGHUP)
  1    it can't work: the database can't be used, the port is in use, another process works on the SQLite file
  2    wrong usage or configuration
  130  ended at once by a second Ctrl-C, or before it had started; 143 by SIGTERM, 129 by SIGHUP (before it had started)`
