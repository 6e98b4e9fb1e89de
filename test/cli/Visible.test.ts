import { expect, it } from "vitest"
import { visible } from "../../src/cli/Visible.js"

it("escapes what could move a terminal or deceive its reader", () => {
  expect(visible("a\u001b[31m\n\r\t\u0000\u007f\u009b")).toBe("a\\u001b[31m\\n\\r\\t\\u0000\\u007f\\u009b")
  expect(visible("\u202eevil\u2066\u200b\u2028\u{e0041}")).toBe("\\u202eevil\\u2066\\u200b\\u2028\\u{e0041}")
  expect(visible("\ud800 é 日 😀")).toBe("\\ud800 é 日 😀")
})

it("cuts what is long", () => {
  expect(visible("x".repeat(20), 10)).toBe(`${"x".repeat(10)}...`)
})
