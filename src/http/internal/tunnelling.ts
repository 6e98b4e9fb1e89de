/**
 * Connections through a proxy: it is asked for each with CONNECT (RFC 9110, section 9.3.6), and what it then passes on is as a connection to the target.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as http from "node:http"
import * as https from "node:https"
import * as net from "node:net"
import type * as tls from "node:tls"

/** A proxy, and how it is spoken to. */
export interface Proxy {
  readonly isTls: boolean
  readonly host: string
  readonly port: number
  /** What is said in `Proxy-Authorization`. */
  readonly authorization: Redacted.Redacted<string> | undefined
}

/**
 * No connection came about through the proxy, at whichever step: nothing has been sent to the target. `code` is the system's or the parser's, or `PROXY_` with the
 * status that the proxy refused with.
 */
export class NoTunnel extends Data.TaggedError("NoTunnel")<{ readonly code: string | undefined }> {}

/** The proxy that a URL stands for, `http[s]://[USER:PASSWORD@]HOST[:PORT]`; `undefined`: it is no such URL. */
export const parse = (text: string): Proxy | undefined => {
  if (!URL.canParse(text)) return undefined
  const { hash, hostname, password, pathname, port, protocol, search, username } = new URL(text)
  const isTls = protocol === "https:"
  if (!isTls && protocol !== "http:" || pathname !== "/" || search !== "" || hash !== "") return undefined
  return {
    isTls,
    host: hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === "" ? (isTls ? 443 : 80) : Number(port),
    authorization: username === "" && password === ""
      ? undefined
      : Redacted.make(
        `Basic ${Buffer.concat([decode(username), Buffer.from(":"), decode(password)]).toString("base64")}`
      )
  }
}

/** A connection to the target, made by the proxy; `secure` is for the TLS that the proxy itself may want. */
export const open = (
  proxy: Proxy,
  secure: tls.SecureContext,
  host: string,
  port: number
): Effect.Effect<net.Socket, NoTunnel> =>
  Effect.async((resume) => {
    const target = `${host.includes(":") ? `[${host}]` : host}:${port}`
    const request = (proxy.isTls ? https : http).request({
      method: "CONNECT",
      host: proxy.host,
      port: proxy.port,
      path: target,
      headers: {
        host: target,
        ...(proxy.authorization === undefined ? {} : { "proxy-authorization": Redacted.value(proxy.authorization) })
      },
      // One connection, for this alone.
      agent: false,
      maxHeaderSize: 16_384,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
      secureContext: secure,
      rejectUnauthorized: true,
      // Else that of the target, which the `Host` header names.
      servername: net.isIP(proxy.host) === 0 ? proxy.host : ""
    } as https.RequestOptions)
    request.on("error", (error) => {
      const code: unknown = Reflect.get(error, "code")
      resume(Effect.fail(new NoTunnel({ code: typeof code === "string" ? code : undefined })))
    })
    // With any status, an interim one too.
    request.on("connect", ({ statusCode = 0 }, stream, more) => {
      const socket = stream as net.Socket
      socket.on("error", () => undefined)
      const isOpen = statusCode >= 200 && statusCode < 300
      // Whatever is spoken through it, it is we who begin.
      if (isOpen && more.length === 0) return resume(Effect.succeed(socket))
      socket.destroy()
      resume(Effect.fail(new NoTunnel({ code: isOpen ? undefined : `PROXY_${statusCode}` })))
    })
    request.end()
    return Effect.sync(() => {
      request.destroy()
      request.socket?.destroy()
    })
  })

// --- internal

/** The bytes that are written with `%`, as they come: no sequence of them is an error. */
const decode = (text: string): Buffer =>
  Buffer.from(
    text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(parseInt(digits, 16))),
    "latin1"
  )
