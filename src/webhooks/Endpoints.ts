/**
 * Which endpoints want an event. From the configuration by default; a host may provide its own, such as a database of its customers'
 * endpoints.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Endpoint } from "./Endpoint.js"
import { WebhookConfig } from "./WebhookConfig.js"

/** The endpoints that exist, and which of them want an event. */
export class Endpoints extends Context.Tag("effect-webhooks/Endpoints")<Endpoints, {
  /** The enabled endpoints that want an event of this type and tenant, each once. */
  readonly matching: (event: EventKey) => Effect.Effect<ReadonlyArray<Endpoint>>
  /** The endpoint of an id, enabled or not. */
  readonly get: (id: string) => Effect.Effect<Option.Option<Endpoint>>
  /** All endpoints, enabled or not, one an id: for display. */
  readonly list: Effect.Effect<ReadonlyArray<Endpoint>>
}>() {}

/** What of an event decides who gets it. */
export interface EventKey {
  readonly type: string
  /** An endpoint with a tenant gets the events of this tenant only; one without gets all. */
  readonly tenant?: string | undefined
}

/**
 * A fixed list of endpoints. Each wants the types in its `events`: an exact type, `invoice.*` (every type that continues `invoice.`, not
 * `invoice` itself) or `*`. Disabled ones never match. The order is that of the list; of two with one id `get` and `list` know the first.
 */
export const fromEndpoints = (endpoints: ReadonlyArray<Endpoint>): Context.Tag.Service<Endpoints> => {
  const index = makeIndex(endpoints.filter((endpoint) => endpoint.enabled))
  const byId = new Map<string, Endpoint>()
  for (const endpoint of endpoints) if (!byId.has(endpoint.id)) byId.set(endpoint.id, endpoint)
  return {
    matching: (event) => Effect.sync(() => ofTenant(index(event.type), event.tenant)),
    get: (id) => Effect.sync(() => Option.fromNullable(byId.get(id))),
    list: Effect.succeed([...byId.values()])
  }
}

/** The configured endpoints. */
export const layer: Layer.Layer<Endpoints, never, WebhookConfig> = Layer.effect(
  Endpoints,
  Effect.map(WebhookConfig, (config) => fromEndpoints(config.endpoints))
)

/** A fixed list of endpoints as a layer: for hosts that hold theirs in memory, and for tests. */
export const layerOf = (endpoints: ReadonlyArray<Endpoint>): Layer.Layer<Endpoints> =>
  Layer.sync(Endpoints, () => fromEndpoints(endpoints))

// --- internal

type Candidates = ReadonlyArray<Endpoint>

const none: Candidates = []

/** The endpoints by what they want, unions made beforehand: a configured type costs one look-up, any other one for each of its dots. */
const makeIndex = (endpoints: Candidates): (type: string) => Candidates => {
  const exact = new Map<string, Array<Endpoint>>()
  const prefixes = new Map<string, Array<Endpoint>>()
  const every: Array<Endpoint> = []
  for (const endpoint of endpoints) {
    for (const event of new Set(endpoint.events)) {
      if (event === "*") every.push(endpoint)
      else if (event.endsWith(".*")) add(prefixes, event.slice(0, -2), endpoint)
      else add(exact, event, endpoint)
    }
  }
  const order = new Map(endpoints.map((endpoint, position) => [endpoint, position]))
  const union = (lists: ReadonlyArray<Candidates>): Candidates => {
    if (lists.length <= 1) return lists[0] ?? none
    return [...new Set(lists.flat())].sort((left, right) => (order.get(left) ?? 0) - (order.get(right) ?? 0))
  }
  const byPattern = (type: string): ReadonlyArray<Candidates> => {
    const lists: Array<Candidates> = every.length === 0 ? [] : [every]
    if (prefixes.size === 0) return lists
    for (let dot = type.indexOf("."); dot !== -1 && dot < type.length - 1; dot = type.indexOf(".", dot + 1)) {
      const list = prefixes.get(type.slice(0, dot))
      if (list !== undefined) lists.push(list)
    }
    return lists
  }
  const known = new Map([...exact].map(([type, list]) => [type, union([list, ...byPattern(type)])]))
  return (type) => known.get(type) ?? union(byPattern(type))
}

const add = (lists: Map<string, Array<Endpoint>>, key: string, endpoint: Endpoint): void => {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [endpoint])
  else list.push(endpoint)
}

const ofTenant = (endpoints: Candidates, tenant: string | undefined): Candidates =>
  endpoints.every((endpoint) => endpoint.tenant === undefined)
    ? endpoints
    : endpoints.filter((endpoint) => endpoint.tenant === undefined || endpoint.tenant === tenant)
