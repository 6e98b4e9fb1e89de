/**
 * The commands of the durable path. As in `Program`, nothing but their options is known here.
 */
import { type Command, Option as CliOption } from "commander"
import type * as Purge from "./commands/Purge.js"
import type * as Database from "./Database.js"
import * as HelpOutbox from "./HelpOutbox.js"
import { type Choose, group, integer, jsonOption, loading, longDuration } from "./Options.js"

interface Json {
  readonly json?: true
}

/** Adds them. */
export const define = (root: Command, choose: Choose): void => {
  defineServices(root, choose)
  defineDeliveries(root, choose)
  defineEndpoints(root, choose)
  defineUpkeep(root, choose)
}

// --- internal

const defineServices = (root: Command, choose: Choose): void => {
  root.command("serve")
    .summary("run the HTTP API and the worker")
    .description("Runs the HTTP API and a worker in one process, until it is stopped.")
    .option("--port <N>", "the port; 0: any free one", integer(0, 65_535), 3000)
    .option("--host <ADDRESS>", "the address to listen on; beyond loopback only with WEBHOOKS_API_TOKEN", "127.0.0.1")
    .addOption(databaseOption())
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.serve)
    .action((options: Json & { readonly port: number; readonly host: string; readonly database?: string }) =>
      choose(loading(
        options.json,
        () => import("./commands/Serve.js"),
        ({ run }) => run({ database: undefined, ...options, json: options.json === true })
      ))
    )

  root.command("worker")
    .summary("run a worker alone")
    .description("Runs a worker, which delivers what is enqueued, until it is stopped.")
    .addOption(databaseOption())
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.worker)
    .action((options: Json & { readonly database?: string }) =>
      choose(loading(
        options.json,
        () => import("./commands/Worker.js"),
        ({ run }) => run({ database: undefined, ...options, json: options.json === true })
      ))
    )

  root.command("enqueue")
    .summary("store events for a worker to deliver")
    .description("Stores events for a worker to deliver, and reports each once it is committed.")
    .argument("[FILE]", "the events; - or none: stdin")
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.enqueue)
    .action((file: string | undefined, options: Json) =>
      choose(loading(
        options.json,
        () => import("./commands/Enqueue.js"),
        ({ run }) => run({ json: options.json === true }, file)
      ))
    )
}

/** A command that looks at the database, or intervenes there, and ends. */
const operating = <M>(
  options: Json,
  module: () => Promise<M>,
  run: (module: M, json: { readonly json: boolean }, settings: WithOutbox) => ReturnType<Parameters<Run>[1]>
) =>
  loading(
    options.json,
    () => Promise.all([import("./Database.js"), module()]),
    ([database, loaded]) => {
      const json = { json: options.json === true }
      return database.run({ ...json, migrate: false }, (settings) => run(loaded, json, settings))
    }
  )

type Run = typeof Database.run
type WithOutbox = Parameters<Parameters<Run>[1]>[0]

const defineDeliveries = (root: Command, choose: Choose): void => {
  const deliveries = group(root, "deliveries", "look at deliveries, and intervene", HelpOutbox.deliveries)
  const load = () => import("./commands/Deliveries.js")

  deliveries.command("list")
    .summary("list deliveries, newest first")
    .description("Lists deliveries, newest first.")
    .option("--state <STATE>", "pending, delivered, exhausted or discarded")
    .option("--endpoint <ID>", "to this endpoint")
    .option("--type <TYPE>", "of this event type")
    .option("--limit <N>", "this many at most", integer(1, 1000), 50)
    .option("--cursor <CURSOR>", "go on where a list before ended")
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.deliveries)
    .action((options: Json & Partial<Record<"state" | "endpoint" | "type" | "cursor", string>> & { limit: number }) =>
      choose(
        operating(
          options,
          load,
          ({ list }, json) =>
            list({ state: undefined, endpoint: undefined, type: undefined, cursor: undefined, ...options, ...json })
        )
      )
    )

  const one = (
    name: "cancel" | "replay" | "show",
    summary: string,
    description: string
  ) =>
    deliveries.command(name)
      .summary(summary)
      .description(description)
      .argument("<ID>", "the delivery: dlv_...")
      .addOption(jsonOption())
      .addHelpText("after", HelpOutbox.deliveries)
      .action((id: string, options: Json) => choose(operating(options, load, (module, json) => module[name](json, id))))

  one("show", "show a delivery and its attempts", "Shows a delivery and its attempts.")
  one("replay", "send a delivery again", "Sends a delivery again: the same webhook-id, the same bytes.")
  one("cancel", "take back a pending delivery", "Takes back a delivery that is pending.")

  group(root, "messages", "look at stored events", HelpOutbox.messages)
    .command("show")
    .summary("show a message and its deliveries")
    .description("Shows a message, its deliveries and its payload.")
    .argument("<ID>", "the message: its webhook-id")
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.messages)
    .action((id: string, options: Json) =>
      choose(operating(options, () => import("./commands/Messages.js"), ({ show }, json) => show(json, id)))
    )
}

const defineEndpoints = (root: Command, choose: Choose): void => {
  const endpoints = group(root, "endpoints", "look at endpoints, and intervene", HelpOutbox.endpoints)
  const load = () => import("./commands/Endpoints.js")
  const command = (name: string, summary: string, description: string) =>
    endpoints.command(name).summary(summary).description(description).addHelpText("after", HelpOutbox.endpoints)

  command("list", "list endpoints and how they are", "Lists the endpoints and how they are.")
    .addOption(jsonOption())
    .action((options: Json) => choose(operating(options, load, ({ list }, json) => list(json))))

  command("test", "send a test event now", "Sends a webhook.test event at once and reports; nothing is stored.")
    .argument("<ID>", "the endpoint")
    .addOption(jsonOption())
    .action((id: string, options: Json) => choose(operating(options, load, ({ test }, json) => test(json, id))))

  command("enable", "let deliveries flow again", "Lets deliveries to an endpoint flow again.")
    .argument("<ID>", "the endpoint")
    .addOption(jsonOption())
    .action((id: string, options: Json) => choose(operating(options, load, ({ enable }, json) => enable(json, id))))

  command("disable", "hold deliveries back", "Holds deliveries to an endpoint back until it is enabled.")
    .argument("<ID>", "the endpoint")
    .requiredOption("--reason <TEXT>", "why: for people (required)")
    .addOption(jsonOption())
    .action((id: string, options: Json & { readonly reason: string }) =>
      choose(operating(options, load, ({ disable }, json) => disable({ ...options, ...json }, id)))
    )

  command(
    "recover",
    "replay what failed",
    "Replays every delivery of an endpoint that was exhausted or discarded in a span of time; not those that were cancelled."
  )
    .argument("<ID>", "the endpoint")
    .requiredOption("--since <TIME>", "from then on: 2026-01-27T12:00:00Z, or how long ago, such as 2h (required)")
    .option("--until <TIME>", "until then (default: now)")
    .addOption(jsonOption())
    .action((id: string, options: Json & { readonly since: string; readonly until?: string }) =>
      choose(operating(options, load, ({ recover }, json) => recover({ until: undefined, ...options, ...json }, id)))
    )
}

const defineUpkeep = (root: Command, choose: Choose): void => {
  root.command("stats")
    .summary("count deliveries by state and endpoint")
    .description("Counts deliveries by state and by endpoint.")
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.stats)
    .action((options: Json) =>
      choose(operating(options, () => import("./commands/Stats.js"), ({ run }, json) => run(json)))
    )

  root.command("purge")
    .summary("delete what ended long ago")
    .description(
      "Deletes deliveries that ended long enough ago with their attempts, and the messages that have none left."
    )
    .option(
      "--delivered <DURATION>",
      "delivered ones that ended, and events that no endpoint wanted, this long ago (default: the retention)",
      longDuration
    )
    .option("--ended <DURATION>", "exhausted and discarded ones that did (default: the retention)", longDuration)
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.purge)
    .action((options: Json & PurgeOptions) =>
      choose(operating(
        options,
        () => import("./commands/Purge.js"),
        ({ run }, json, { outbox }) =>
          run({ delivered: undefined, ended: undefined, ...options, ...json }, outbox.worker.retention)
      ))
    )

  root.command("migrate")
    .summary("make the outbox's tables, or bring them up to date")
    .description("Makes the outbox's tables, or brings them up to date.")
    .addOption(jsonOption())
    .addHelpText("after", HelpOutbox.migrate)
    .action((options: Json) =>
      choose(loading(
        options.json,
        () => import("./commands/Migrate.js"),
        ({ run }) => run({ json: options.json === true })
      ))
    )
}

type PurgeOptions = Partial<Pick<Purge.Options, "delivered" | "ended">>

const databaseOption = () =>
  new CliOption("--database <URL>", "the database, in place of WEBHOOKS_DATABASE_URL (others can see it in ps)")
