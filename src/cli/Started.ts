/**
 * What the services tell as they start: one line on stdout, and a warning where they have nobody to deliver to.
 */
import * as Effect from "effect/Effect"
import { Endpoints } from "../webhooks/Endpoints.js"
import * as DatabaseUrl from "./DatabaseUrl.js"
import { plural } from "./EnqueueLines.js"
import * as Stdio from "./Stdio.js"

/** Tells that a service has started, with how many endpoints and on which database. */
export const tell = (
  json: boolean,
  service: { readonly text: string; readonly json: Readonly<Record<string, string>> },
  target: DatabaseUrl.Target
): Effect.Effect<void, never, Endpoints> =>
  Effect.gen(function*() {
    const count = (yield* (yield* Endpoints).list).length
    const database = DatabaseUrl.shown(target)
    // Whether anybody reads it is nothing to the service.
    yield* Effect.ignore(
      json
        ? Stdio.json({ ...service.json, endpoints: count, database })
        : Stdio.lines(`${service.text}; ${plural(count, "endpoint")}; database ${database}`)
    )
    if (count === 0) {
      yield* Stdio.notes(
        "warning: no endpoints are configured, so nothing is delivered; set WEBHOOKS_CONFIG or WEBHOOKS_CONFIG_FILE " +
          "and start again"
      )
    }
  })
