/**
 * The commands and their options. Only what every start needs is imported here; a command's module is loaded when it is run, which
 * keeps the start of the small ones as short as that of Effect itself.
 */
import { Command, CommanderError, InvalidArgumentError, Option as CliOption } from "commander"
import * as Effect from "effect/Effect"
import { version } from "../webhooks/Version.js"
import * as CliError from "./CliError.js"
import type * as ConfigCheck from "./commands/ConfigCheck.js"
import type * as Dispatch from "./commands/Dispatch.js"
import type * as EgressCheck from "./commands/EgressCheck.js"
import type * as Listen from "./commands/Listen.js"
import type * as SecretGenerate from "./commands/SecretGenerate.js"
import type * as Sign from "./commands/Sign.js"
import type * as Verify from "./commands/Verify.js"
import type * as Help from "./Help.js"
import { type Action, type Choose, duration, group, integer, jsonOption, loading, withErrors } from "./Options.js"
import type * as OutboxCommands from "./OutboxCommands.js"
import * as Stdio from "./Stdio.js"
import { visible } from "./Visible.js"

/** What the arguments ask for, giving the exit code; wrong usage fails with one line and exit code 2. */
export const program = (args: ReadonlyArray<string>): Effect.Effect<number, CliError.CliError> =>
  Effect.flatMap(partsFor(args), (parts) => {
    const shown: Array<string> = []
    const chosen: Array<Action> = []
    try {
      define(shown, (action) => chosen.push(action), args[0], parts).parse([...args], { from: "user" })
    } catch (error) {
      if (!(error instanceof CommanderError)) return Effect.die(error)
      return error.exitCode === 0
        ? Effect.as(Stdio.write(shown.join("")), CliError.exitCodes.done)
        : withErrors(args.includes("--json"), Effect.fail(CliError.usage(usageMessage(error, args[0]))))
    }
    return chosen[0] ?? Effect.fail(CliError.usage(missingCommand(undefined)))
  })

// --- internal

/** What help is made of, and the commands that few starts need. */
interface Parts {
  readonly Help: typeof Help
  readonly OutboxCommands: typeof OutboxCommands
}

/** The parts, unless the first argument is one of the commands that do without and nobody asks for help: they take as long to load as a small command. */
const partsFor = (args: ReadonlyArray<string>): Effect.Effect<Parts | undefined> =>
  small.includes(args[0] ?? "") && !args.some((arg) => /^-[^-]*h|^--h/.test(arg))
    ? Effect.succeed(undefined)
    : Effect.map(
      Effect.promise(() => Promise.all([import("./Help.js"), import("./OutboxCommands.js")])),
      ([Help, OutboxCommands]) => ({ Help, OutboxCommands })
    )

const none = (): string => ""

const small = ["dispatch", "listen", "sign", "verify"]

const define = (
  shown: Array<string>,
  choose: Choose,
  first: string | undefined,
  parts: Parts | undefined
): Command => {
  const load = <M>(json: boolean | undefined, module: () => Promise<M>, run: (module: M) => Action) =>
    choose(loading(json, module, run))

  const root = new Command("effect-webhooks")
    .description("Delivers events to webhook endpoints: signed, traced, retried.")
    .exitOverride()
    .configureOutput({ writeOut: (text) => shown.push(text), writeErr: () => undefined })
    .helpOption("-h, --help", "show this help")
    .helpCommand(false)
    .version(version, "-V, --version", "print the version")
    .addHelpText("after", parts?.Help.root ?? none)

  const wanted = (name: string): boolean => parts !== undefined || first === name

  if (wanted("dispatch")) {
    root.command("dispatch")
      .summary("send events to the endpoints that want them")
      .description("Sends events to every endpoint that wants them and reports each delivery.")
      .argument("[FILE]", "the events; - or none: stdin")
      .addOption(jsonOption())
      .addHelpText("after", parts?.Help.dispatch ?? none)
      .action((file: string | undefined, options: Partial<Dispatch.Options>) =>
        load(
          options.json,
          () => import("./commands/Dispatch.js"),
          ({ run }) => run({ json: options.json === true }, file)
        )
      )
  }

  parts?.OutboxCommands.define(root, choose)

  if (wanted("listen")) {
    root.command("listen")
      .summary("receive webhooks locally and show them")
      .description("A local receiver: shows each request and whether its signature is valid.")
      .option("--port <N>", "the port; 0: any free one", integer(0, 65_535), 3000)
      .addOption(secretOption())
      .addOption(
        new CliOption("--respond <STATUSES>", "statuses to answer with, in order; the last repeats")
          .argParser(statuses)
          .default([200], "200")
      )
      .option("--delay <DURATION>", "time to wait before each answer", duration)
      .addOption(jsonOption())
      .addHelpText("after", parts?.Help.listen ?? none)
      .action((options: Partial<Listen.Options> & Pick<Listen.Options, "port" | "respond">) =>
        load(
          options.json,
          () => import("./commands/Listen.js"),
          ({ run }) => run({ secret: [], delay: undefined, ...options, json: options.json === true })
        )
      )
  }

  if (wanted("sign")) {
    root.command("sign")
      .summary("print the headers that sign a body")
      .description("Signs a body and prints the headers.")
      .argument("[FILE]", "the body; - or none: stdin")
      .requiredOption("--id <ID>", "the message id: 1 to 64 characters of A-Z a-z 0-9 _ - (required)")
      .requiredOption("--timestamp <SECONDS>", "seconds since 1970, a whole number (required)", integer(0, maxSeconds))
      .addOption(secretOption())
      .addOption(jsonOption())
      .addHelpText("after", parts?.Help.sign ?? none)
      .action((file: string | undefined, options: Partial<Sign.Options> & Pick<Sign.Options, "id" | "timestamp">) =>
        load(
          options.json,
          () => import("./commands/Sign.js"),
          ({ run }) => run({ secret: [], ...options, json: options.json === true }, file)
        )
      )
  }

  if (wanted("verify")) {
    root.command("verify")
      .summary("check the signature of a body")
      .description("Checks the signature of a body, as a receiver does.")
      .argument("[FILE]", "the body; - or none: stdin")
      .option("-H, --header <'NAME: VALUE'>", "a header of the request; may be repeated", collect)
      .addOption(secretOption("; whpk_… too"))
      .addOption(
        new CliOption("--tolerance <DURATION>", "how far the timestamp may lie from now (default: 5m)").argParser(
          duration
        )
      )
      .option(
        "--now <SECONDS>",
        "the time to judge by, in seconds since 1970 (default: the clock)",
        integer(0, maxSeconds)
      )
      .addOption(jsonOption())
      .addHelpText("after", parts?.Help.verify ?? none)
      .action((file: string | undefined, options: Partial<Verify.Options>) =>
        load(
          options.json,
          () => import("./commands/Verify.js"),
          ({ run }) =>
            run(
              { header: [], secret: [], tolerance: undefined, now: undefined, ...options, json: options.json === true },
              file
            )
        )
      )
  }

  if (parts === undefined) return root
  const { Help } = parts

  const config = group(root, "config", "look at the configuration", Help.configCheck)
  config.command("check")
    .summary("decode the configuration and list the endpoints")
    .description("Decodes the configuration and lists the endpoints.")
    .addOption(jsonOption())
    .addHelpText("after", Help.configCheck)
    .action((options: Partial<ConfigCheck.Options>) =>
      load(
        options.json,
        () => import("./commands/ConfigCheck.js"),
        ({ run }) => run({ json: options.json === true })
      )
    )

  const egress = group(root, "egress", "ask the egress policy", Help.egressCheck)
  egress.command("check")
    .summary("say whether requests to a URL are allowed")
    .description("Says whether requests to a URL are allowed; nothing is connected.")
    .argument("<URL>", "the URL of an endpoint")
    .option("--resolve <IP>", "an address that the name stands for, in place of DNS; may be repeated", collect)
    .addOption(jsonOption())
    .addHelpText("after", Help.egressCheck)
    .action((url: string, options: Partial<EgressCheck.Options>) =>
      load(
        options.json,
        () => import("./commands/EgressCheck.js"),
        ({ run }) => run({ resolve: options.resolve ?? [], json: options.json === true }, url)
      )
    )

  const secret = group(root, "secret", "make secrets", Help.secretGenerate)
  secret.command("generate")
    .summary("print a fresh secret")
    .description("Prints a fresh secret.")
    .addOption(new CliOption("--kind <KIND>", "what it signs with").choices(["hmac", "ed25519"]).default("hmac"))
    .addOption(jsonOption())
    .addHelpText("after", Help.secretGenerate)
    .action((options: Partial<SecretGenerate.Options> & Pick<SecretGenerate.Options, "kind">) =>
      // Nothing of the environment is needed, so a `.env` that can't be read is none of its business.
      choose(withErrors(
        options.json,
        Effect.flatMap(
          Effect.promise(() => import("./commands/SecretGenerate.js")),
          ({ run }) => run({ ...options, json: options.json === true })
        )
      ))
    )

  root.command("help")
    .summary("show the help of a command")
    .description("Shows the help of a command.")
    .argument("[COMMAND...]", "the command, such as: config check")
    .action((names: ReadonlyArray<string>) => {
      let command: Command | undefined = root
      for (const name of names) command = command?.commands.find((one) => one.name() === name)
      if (command === undefined) return choose(Effect.fail(CliError.usage(unknownCommand(names.join(" ")))))
      command.outputHelp()
      choose(Effect.as(Stdio.write(shown.join("")), CliError.exitCodes.done))
    })

  return root
}

// Of a group, such as `deliveries`, or of all.
const missingCommand = (group: string | undefined): string =>
  `a command is missing; \`effect-webhooks ${group === undefined ? "" : `${group} `}--help\` lists them`
const maxSeconds = 9_999_999_999

const secretOption = (more = "") =>
  new CliOption("--secret <SECRET>", `a secret, in place of WEBHOOKS_SECRET; may be repeated${more}`).argParser(collect)

const collect = (text: string, previous: ReadonlyArray<string> = []): ReadonlyArray<string> => [...previous, text]

const statuses = (text: string): ReadonlyArray<number> =>
  text.split(",").map((one) => {
    const status = /^\d{3}$/.test(one.trim()) ? Number(one) : 0
    if (status < 200 || status > 599) throw new InvalidArgumentError("It is a list of statuses from 200 to 599.")
    return status
  })

// One line, whatever the parser says: its hints come on a line of their own. Values and words that nobody knows may be secrets.
const usageMessage = (error: CommanderError, first: string | undefined): string => {
  // A first word that is no command is an error of its own.
  if (error.code === "commander.help") return missingCommand(/^[a-z]+$/.test(first ?? "") ? first : undefined)
  const text = error.message.replace(/^error: /, "")
  const [, hint = ""] = /(?:\n)(\(Did you mean [a-z, -]+\?\))$/.exec(text) ?? []
  switch (error.code) {
    case "commander.unknownCommand":
      return `${unknownCommand(/^unknown command '([^]*?)'(?:\n|$)/.exec(text)?.[1] ?? "")} ${hint}`.trim()
    case "commander.unknownOption": {
      const option = /^unknown option '(-[^-=]|--[a-z][a-z-]{0,30}(?=[='\n]))/i.exec(text)?.[1]
      return `unknown option${option === undefined ? "" : ` '${visible(option)}'`} ${hint}`.trim()
    }
    case "commander.invalidArgument":
      return visible(text.replace(/ argument '[^]*' is invalid\. /, " is invalid. "), 300)
    default:
      return visible(text.replace(/\n/g, " "), 300)
  }
}

const unknownCommand = (word: string): string =>
  /^[a-z][a-z -]{0,30}$/i.test(word)
    ? `unknown command '${word}'`
    : "unknown command; `effect-webhooks --help` lists them"
