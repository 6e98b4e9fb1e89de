/**
 * The texts below the list of options of each command, those of the durable path apart: examples, the environment, exit codes.
 */
import { defaults } from "../Defaults.js"
import {
  blocks,
  configured,
  connecting,
  environment,
  events,
  examples,
  exitCodes,
  proxied,
  secrets,
  variables
} from "./HelpText.js"

/** Below `effect-webhooks --help`. */
export const root = (): string =>
  blocks(
    examples(
      "effect-webhooks serve --port 3000",
      "effect-webhooks enqueue events.ndjson",
      "jq -c '.[]' export.json | effect-webhooks dispatch --json",
      "effect-webhooks deliveries list --state exhausted",
      "effect-webhooks listen --port 3000 --respond 503,503,200",
      "effect-webhooks sign --id msg_1 --timestamp 1614265330 body.json",
      "effect-webhooks config check"
    ),
    environment(...Object.keys(variables)),
    exitCodes
  )

/** Below the help of `dispatch`. */
export const dispatch = (): string =>
  blocks(
    `${events}

Results, with --json one object a line:
  a delivery          {"messageId","eventType","endpointId","url","outcome":"delivered"|"failed"|"rejected",
                       "class"?,"status"?,"attempts","durationMs","correlationId","error"?}
  nobody wants it     {"messageId","eventType","outcome":"unrouted"}
  not an event        {"line":N,"outcome":"invalid","error"}
  wrong configuration {"errors":[{"path","message"}]}
  any other error     {"errors":[{"message"}]}

Ctrl-C stops taking events and begins no request any more; requests in flight have ${defaults.grace} to end, and
aren't retried. What was stopped is reported as failed with class interrupted (with 0 attempts: not sent), and the line from
which nothing was sent is named on stderr. A second Ctrl-C ends at once.`,
    examples(
      "effect-webhooks dispatch events.ndjson",
      "tail -f events.ndjson | effect-webhooks dispatch --json -",
      `echo '{"type":"OrderCreated","data":{"total":12}}' | effect-webhooks dispatch`
    ),
    environment(
      ...configured,
      "WEBHOOKS_MAX_RETRIES",
      "WEBHOOKS_BASE_DELAY",
      "WEBHOOKS_MAX_DELAY",
      "WEBHOOKS_TIMEOUT",
      "WEBHOOKS_DEADLINE",
      "WEBHOOKS_CORRELATION_HEADER",
      ...connecting,
      "WEBHOOKS_LOG_LEVEL",
      "NO_COLOR"
    ),
    proxied,
    exitCodes
  )

/** Below the help of `listen`. */
export const listen = (): string =>
  blocks(
    `Listens on 127.0.0.1 until it is stopped (Ctrl-C, SIGTERM, SIGHUP), then exits with 0; with 1 when the port is in use.

Results, with --json one object a line:
  the first line      {"listening":"http://127.0.0.1:PORT"}
  a request           {"method","path","headers","body","signature":"valid"|"unsigned"|"invalid","reason"?}
  A body that isn't UTF-8 has its bytes in "bodyBase64" as well. Reasons: those of verify, no-secret (signed, but there is
  no secret to check it with), body-too-large (over 1 MiB: answered 413, "body" is empty) and incomplete (the request broke
  off; "body" is what came). What isn't HTTP at all is a line on stderr.`,
    examples(
      "effect-webhooks listen --port 3000 --secret whsec_...",
      "effect-webhooks listen --respond 503,503,200 --delay 2s"
    ),
    secrets,
    environment("WEBHOOKS_SECRET", "NO_COLOR")
  )

/** Below the help of `sign`. */
export const sign = (): string =>
  blocks(
    "Prints the headers that a delivery of these bytes carries, one 'name: value' a line; with --json one object of them.",
    examples(
      "WEBHOOKS_SECRET=whsec_... effect-webhooks sign --id msg_1 --timestamp 1614265330 body.json",
      "printf '{}' | effect-webhooks sign --id msg_1 --timestamp \"$(date +%s)\" --json -"
    ),
    secrets,
    environment("WEBHOOKS_SECRET")
  )

/** Below the help of `verify`. */
export const verify = (): string =>
  blocks(
    `Prints valid, or 'invalid: <reason>' and exits with 1. Reasons: missing-header bad-timestamp too-old too-new no-match.
With --json: {"valid":true} or {"valid":false,"reason"}.`,
    examples(
      "effect-webhooks verify -H 'webhook-id: msg_1' -H 'webhook-timestamp: 1614265330' \\\n    -H 'webhook-signature: v1,...' --now 1614265330 body.json"
    ),
    secrets,
    environment("WEBHOOKS_SECRET")
  )

/** Below the help of `config check`. */
export const configCheck = (): string =>
  blocks(
    `Lists the endpoints of the configuration; every error in it is a line on stderr, and the exit code 2.
With --json an object a line: {"id","url","events","enabled","signed":"signed"|"unsigned"|"weak"} (the URL without its
query; secrets that have expired don't count), or {"errors":[{"path","message"}]}.`,
    examples("effect-webhooks config check", "WEBHOOKS_CONFIG_FILE=webhooks.json effect-webhooks config check --json"),
    environment(...Object.keys(variables).filter((name) => name !== "WEBHOOKS_SECRET" && name !== "NO_COLOR"))
  )

/** Below the help of `egress check`. */
export const egressCheck = (): string =>
  blocks(
    `Says whether requests to a URL are allowed, and which rule blocks them. Its name is resolved, unless --resolve says to what; nothing is connected.
With --json: {"url","host","addresses","decision":"allowed"|"blocked","rule"?} (the URL without userinfo and query).`,
    examples(
      "effect-webhooks egress check https://hooks.example.com/in",
      "effect-webhooks egress check https://hooks.example.com/in --resolve 10.0.0.7 --json"
    ),
    environment("WEBHOOKS_EGRESS_ALLOW", "WEBHOOKS_EGRESS_DENY"),
    proxied,
    `Exit codes:
  0    allowed
  1    blocked
  2    wrong usage or configuration`
  )

/** Below the help of `secret generate`. */
export const secretGenerate = (): string =>
  blocks(
    `Prints a fresh secret: whsec_... (hmac), or whsk_... and, on a second line, its public key whpk_... (ed25519).
With --json: {"kind","secret","publicKey"?}.`,
    examples("effect-webhooks secret generate", "effect-webhooks secret generate --kind ed25519 --json"),
    "Environment: nothing of it is read, nor is a .env file."
  )
