import * as FastCheck from "effect/FastCheck"
import { createHmac, createSecretKey } from "node:crypto"
import { describe, expect, it } from "vitest"
import { hmac } from "../../src/webhooks/internal/hmac.js"

describe("hmac", () => {
  it("is what node:crypto makes of it, at any length of key, head and body", () => {
    const bytes = (maxLength: number) => FastCheck.uint8Array({ minLength: 1, maxLength })
    FastCheck.assert(
      FastCheck.property(bytes(200), FastCheck.stringMatching(/^[ -~]{0,100}$/), bytes(300), (key, head, body) => {
        for (const encoding of ["base64", "hex"] as const) {
          expect(hmac(createSecretKey(key), head, body, encoding)).toBe(
            createHmac("sha256", key).update(head).update(body).digest(encoding)
          )
        }
      }),
      { numRuns: 500 }
    )
  })

  it.each([0, 63, 64, 65, 16_318, 16_319, 16_320, 16_321, 300_000])("takes a body of %i bytes", (length) => {
    const body = Buffer.alloc(length, "b")
    for (const size of [63, 64, 65]) {
      const key = createSecretKey(Buffer.alloc(size, "k"))
      // The one after a longer one finds nothing of it.
      for (const part of [body, body.subarray(0, length / 2)]) {
        expect(hmac(key, "m.", part, "hex")).toBe(createHmac("sha256", key).update("m.").update(part).digest("hex"))
      }
    }
  })
})
