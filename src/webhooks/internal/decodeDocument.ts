/**
 * A whole configuration: endpoints by event key, those of one URL brought together, ids and URLs told apart.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { type Context, type Decoded, decodeEndpoint, note, refuseNode } from "./decodeEndpoint.js"
import type { EndpointFields } from "./endpointFields.js"
import * as rules from "./endpointRules.js"
import type { Node } from "./JsonDocument.js"
import { renderPath } from "./problems.js"
import { check } from "./rule.js"

/** Decodes `{ "<type or pattern>": [endpoint, …] }`. The result counts only if the context has no problems. */
export const decodeDocument = (context: Context, root: Node): Effect.Effect<ReadonlyArray<EndpointFields>> =>
  Effect.gen(function*() {
    if (root._tag !== "Object") {
      refuseNode(context, root, [], "an object of event types, each with an array of endpoints")
      return []
    }
    const entries: Array<Entry> = []
    for (const [event, list] of root.entries) {
      const accepted = check(rules.eventKey, event)
      if (Either.isLeft(accepted)) note(context, [event], accepted.left)
      if (list._tag === "Array") {
        for (const [index, item] of list.items.entries()) {
          entries.push({ event, decoded: yield* decodeEndpoint(context, item, [event, index]) })
        }
      } else refuseNode(context, list, [event], "an array of endpoints")
    }
    return merge(context, entries)
  })

// --- internal

interface Entry {
  readonly event: string
  readonly decoded: Decoded
}

interface Merged {
  readonly first: Decoded
  readonly events: Set<string>
}

const merge = (context: Context, entries: ReadonlyArray<Entry>): ReadonlyArray<EndpointFields> => {
  const byUrl = new Map<string, Merged>()
  const byId = new Map<string, Decoded>()
  for (const { decoded, event } of entries) {
    const same = decoded.href === undefined ? undefined : byUrl.get(decoded.href)
    if (same !== undefined) {
      same.events.add(event)
      noteDifference(context, same.first, decoded)
      continue
    }
    if (decoded.href !== undefined) byUrl.set(decoded.href, { first: decoded, events: new Set([event]) })
    if (decoded.id === undefined) continue
    const holder = byId.get(decoded.id)
    if (holder === undefined) byId.set(decoded.id, decoded)
    else if (holder.href !== undefined && decoded.href !== undefined) {
      note(context, [...decoded.path, "id"], {
        code: "duplicate_id",
        message: `is the id of ${renderPath(holder.path)}, which has another URL; give each endpoint its own`
      })
    }
  }
  return [...byUrl.values()].flatMap(({ events, first }) =>
    first.settings === undefined ? [] : [{ ...first.settings, events: [...events] }]
  )
}

const noteDifference = (context: Context, first: Decoded, other: Decoded): void => {
  if (first.settings === undefined || other.settings === undefined) return
  const left = comparable(first.settings)
  const right = comparable(other.settings)
  const names = Object.keys(left).filter((name) => left[name] !== right[name])
  if (names.length === 0) return
  note(context, [...other.path, "url"], {
    code: "url_conflict",
    message: `is the URL of ${renderPath(first.path)}, which has other settings (${
      names.join(", ")
    }); one URL has one set of settings`
  })
}

/** The settings as texts to compare, by the names they have in the document. Unveiled only for the comparison. */
const comparable = (settings: Omit<EndpointFields, "events">): Record<string, string | undefined> => ({
  id: settings.id,
  secret: JSON.stringify(settings.secrets.map(({ expiresAt, value }) => [Redacted.value(value), expiresAt ?? null])),
  enabled: String(settings.enabled),
  headers: JSON.stringify(
    Object.entries(settings.headers).map(([name, value]) => [name.toLowerCase(), Redacted.value(value)]).sort()
  ),
  timeout: JSON.stringify(settings.timeout),
  maxConcurrency: JSON.stringify(settings.maxConcurrency),
  rateLimit: JSON.stringify(settings.rateLimit),
  ordered: String(settings.ordered),
  format: settings.format,
  tenant: settings.tenant,
  description: settings.description
})
