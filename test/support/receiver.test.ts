import * as http from "node:http"
import { Webhook } from "standardwebhooks"
import { afterEach, describe, expect, it } from "vitest"
import { type Receiver, type ReceiverOptions, startReceiver } from "./receiver.js"

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
const started: Array<Receiver> = []
const start = async (options?: ReceiverOptions) => {
  const receiver = await startReceiver(options)
  started.push(receiver)
  return receiver
}
afterEach(async () => {
  await Promise.all(started.splice(0).map(({ close }) => close()))
})

const post = (to: string, body: string, headers: Record<string, string> = {}) => {
  const request = http.request(to, { method: "POST", headers, agent: false })
  const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on("response", (response) => {
      response.resume()
      resolve(response)
    })
    request.on("error", reject)
  })
  request.end(body)
  return { request, answered }
}

describe("receiver", () => {
  it("keeps what arrived, and answers as it is told", async () => {
    const receiver = await start({
      answer: ({ endpoint }) => endpoint === "busy" ? { status: 503, headers: { "retry-after": "3" }, delay: 20 } : 204
    })
    const first = await post(`${receiver.url}/orders?key=1`, "one", { "webhook-id": "m1" }).answered
    const second = await post(`${receiver.url}/busy`, "two", { "webhook-id": "m2" }).answered
    expect([first.statusCode, second.statusCode, second.headers["retry-after"]]).toEqual([204, 503, "3"])
    expect(receiver.received.map(({ body, endpoint, id, position }) => [position, id, endpoint, String(body)])).toEqual(
      [
        [0, "m1", "orders", "one"],
        [1, "m2", "busy", "two"]
      ]
    )
    await expect.poll(() => receiver.received.map(({ outcome }) => outcome)).toEqual([204, 503])
    const busy = receiver.received[1]!
    expect(busy.endedAt! - busy.at).toBeGreaterThan(19)
  })

  it("holds requests open until they are released", async () => {
    const receiver = await start({ answer: () => "hold" })
    const { answered } = post(receiver.url, "one", { "webhook-id": "m1" })
    await expect.poll(() => receiver.open().map(({ id }) => id)).toEqual(["m1"])
    receiver.release({ status: 202 })
    expect((await answered).statusCode).toBe(202)
    await expect.poll(() => receiver.open()).toEqual([])
  })

  it("knows a sender that went away from one that was answered, and can break the connection itself", async () => {
    const receiver = await start({ answer: ({ endpoint }) => endpoint === "reset" ? "reset" : "hold" })
    const gone = post(`${receiver.url}/gone`, "one")
    gone.answered.catch(() => {})
    await expect.poll(() => receiver.open().length).toBe(1)
    gone.request.destroy()
    await expect.poll(() => receiver.received[0]?.outcome).toBe("aborted")
    await expect(post(`${receiver.url}/reset`, "two").answered).rejects.toThrow()
  })

  it("verifies signatures where it has a secret", async () => {
    const receiver = await start({ secret: (endpoint) => endpoint === "signed" ? secret : undefined })
    const at = new Date()
    const headers = {
      "webhook-id": "m1",
      "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
      "webhook-signature": new Webhook(secret).sign("m1", at, "{}")
    }
    await post(`${receiver.url}/signed`, "{}", headers).answered
    await post(`${receiver.url}/signed`, "{ }", headers).answered
    await post(`${receiver.url}/open`, "{}").answered
    expect(receiver.received.map(({ verified }) => verified)).toEqual([true, false, undefined])
  })
})
