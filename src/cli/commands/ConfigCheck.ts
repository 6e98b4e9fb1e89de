/**
 * `config check`: decodes what the environment holds and lists the endpoints.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as EgressDispatcher from "../../http/EgressDispatcher.js"
import * as ResilientHttpClient from "../../http/ResilientHttpClient.js"
import * as Endpoint from "../../webhooks/Endpoint.js"
import * as WebhookConfig from "../../webhooks/WebhookConfig.js"
import * as CliError from "../CliError.js"
import * as Settings from "../Settings.js"
import * as Stdio from "../Stdio.js"
import { table } from "../Table.js"
import { visible } from "../Visible.js"

export interface Options {
  readonly json: boolean
}

/**
 * Prints a line an endpoint, with `--json` `{"id","url","events","enabled","signed"}`. Errors: exit code 2, each on stderr, with
 * `--json` `{"errors":[{"path","message"}]}` on stdout.
 */
export const run = (options: Options): Effect.Effect<number, CliError.CliError> =>
  Effect.scoped(Effect.gen(function*() {
    const { context } = yield* Settings.loadOutbox(options, EgressDispatcher.layerHttpClientFromEnv)
    const now = yield* Clock.currentTimeMillis
    const { endpoints } = Context.get(context, WebhookConfig.WebhookConfig)
    const rows = endpoints.map((endpoint) => ({
      id: endpoint.id,
      url: ResilientHttpClient.safeUrl(endpoint.url),
      events: endpoint.events,
      enabled: endpoint.enabled,
      signed: Endpoint.signing(endpoint, now)
    }))
    if (rows.length === 0) {
      yield* Stdio.notes("no endpoints are configured; see WEBHOOKS_CONFIG in effect-webhooks --help")
    }
    if (options.json) yield* Effect.forEach(rows, Stdio.json, { discard: true })
    else yield* Stdio.lines(...lines(rows))
    return CliError.exitCodes.done
  }))

// --- internal

interface Row {
  readonly id: string
  readonly url: string
  readonly events: ReadonlyArray<string>
  readonly enabled: boolean
  readonly signed: Endpoint.Signing
}

const lines = (rows: ReadonlyArray<Row>): ReadonlyArray<string> =>
  table(rows.map((row) => [
    row.id,
    row.enabled ? "enabled" : "disabled",
    row.signed,
    row.url,
    visible(row.events.join(" "))
  ]))
