/**
 * What there is by path, read off the API: which methods a path knows, and which query parameters. HttpApi's own router answers what it doesn't know
 * without a word, and takes more paths than there are (`//v1/stats/`).
 */
import * as HttpApi from "@effect/platform/HttpApi"
import * as AST from "effect/SchemaAST"
import { quote } from "../../webhooks/internal/encodeTree.js"
import { nearest } from "../../webhooks/internal/nearest.js"
import { Api } from "../Api.js"
import { ApiError } from "../ApiError.js"
import { refusal, unknownPath } from "./failures.js"

/** A path that there is. */
export interface Route {
  /** With names for its parameters: `/v1/messages/:messageId`. */
  readonly pattern: string
  readonly methods: ReadonlyMap<string, ReadonlyArray<string> | undefined>
}

/** What a request's target says; `undefined`: it isn't one. A proxy may send the whole URL. */
export const parse = (target: string): Target | undefined => {
  const [whole = "", authority] = /^https?:\/\/([^/?#]*)/i.exec(target) ?? []
  const [, path, query] = /^(\/[^?#]*)(?:\?([^#]*))?$/.exec(target.slice(whole.length)) ?? []
  if (path === undefined) return undefined
  try {
    decodeURIComponent(path)
  } catch {
    return undefined
  }
  return { path, query: query ?? "", authority }
}

/** Where a request wants to go. */
export interface Target {
  readonly path: string
  readonly query: string
  /** Of a whole URL: it counts in place of `Host` (RFC 9112, section 3.2.2). */
  readonly authority: string | undefined
}

/** The route of a path, if there is one. */
export const find = (path: string): Route | undefined => {
  const segments = path.split("/")
  return routes.find(({ parts }) =>
    parts.length === segments.length &&
    parts.every((part, index) => part.startsWith(":") ? segments[index] !== "" : part === segments[index])
  )
}

/** Why a route doesn't take a request, if it doesn't. */
export const check = (route: Route | undefined, method: string, query: string): ApiError | undefined => {
  if (route === undefined) return unknownPath
  // HEAD is GET without the body.
  if (!route.methods.has(method === "HEAD" ? "GET" : method)) {
    const allowed = [...route.methods.keys()].flatMap((name) => name === "GET" ? ["GET", "HEAD"] : [name])
    return new ApiError({
      status: 405,
      code: "method_not_allowed",
      message: `this path knows ${allowed.join(" and ")}`,
      headers: { allow: allowed.join(", ") }
    })
  }
  const known = route.methods.get(method === "HEAD" ? "GET" : method)
  return known === undefined ? undefined : checkQuery(query, known)
}

// --- internal

// A filter that isn't one would list everything.
const checkQuery = (query: string, known: ReadonlyArray<string>): ApiError | undefined => {
  const seen = new Set<string>()
  for (const name of new URLSearchParams(query).keys()) {
    if (!known.includes(name)) {
      const meant = nearest(name, known)
      const hint = meant === undefined ? `there are ${known.join(", ")}` : `did you mean "${meant}"?`
      return refusal(`is not a parameter of this list; ${hint}`, /^[A-Za-z_]{1,32}$/.test(name) ? name : quote(name))
    }
    if (seen.has(name)) return refusal("is given more than once; give it once", name)
    seen.add(name)
  }
  return undefined
}

const routes: ReadonlyArray<Route & { readonly parts: ReadonlyArray<string> }> = (() => {
  const found = new Map<string, Map<string, ReadonlyArray<string> | undefined>>([
    ["/openapi.json", new Map([["GET", undefined]])],
    ["/docs", new Map([["GET", undefined]])]
  ])
  HttpApi.reflect(Api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint }) => {
      const methods = found.get(endpoint.path) ?? new Map<string, ReadonlyArray<string> | undefined>()
      const { urlParamsSchema } = endpoint
      methods.set(
        endpoint.method,
        urlParamsSchema._tag === "None"
          ? undefined
          : AST.getPropertySignatures(urlParamsSchema.value.ast).map(({ name }) => String(name))
      )
      found.set(endpoint.path, methods)
    }
  })
  return [...found].map(([pattern, methods]) => ({ pattern, methods, parts: pattern.split("/") }))
})()
