/** What the tests of `WebhookConfig` share: a document in, paths and codes of its errors out. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { inspect } from "node:util"
import * as WebhookConfig from "../../src/webhooks/WebhookConfig.js"

export const printed = (error: WebhookConfig.InvalidWebhookConfig): string =>
  [inspect(error, { depth: 10 }), JSON.stringify(error), error.message, String(error), error.stack ?? ""].join("\n")

export const good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
export const url = "https://hooks.example.com/in"

export const run = (text: string, options?: WebhookConfig.Options) => Effect.either(WebhookConfig.parse(text, options))
export const errorsOf = (text: string, options?: WebhookConfig.Options) =>
  Effect.map(Effect.flip(WebhookConfig.parse(text, options)), (error) => error.errors)
export const codes = (document: unknown, options?: WebhookConfig.Options) =>
  Effect.map(
    run(JSON.stringify(document), options),
    (result) => Either.isRight(result) ? [] : result.left.errors.map((error) => `${error.path} ${error.code}`)
  )
export const one = (fields: Record<string, unknown>) => ({ E: [{ url, ...fields }] })
export const urlCode = (text: string, options?: WebhookConfig.Options) =>
  Effect.map(
    codes({ E: [{ url: text }] }, options),
    (found) => found.map((code) => code.replace("E[0].url ", "")).join()
  )

export const provide = (environment: Record<string, string>) =>
  Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment))))
export const fromEnv = (environment: Record<string, string>, overrides?: WebhookConfig.Options) =>
  Effect.map(WebhookConfig.WebhookConfig, (config) => config.endpoints).pipe(
    Effect.provide(WebhookConfig.layerFromEnv(overrides)),
    Effect.provide(NodeFileSystem.layer),
    provide(environment)
  )
