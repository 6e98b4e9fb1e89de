import { expect, it } from "vitest"
import { table } from "../../src/cli/Table.js"

it("aligns the columns, their names included", () => {
  expect(table([["a", "long one", ""], ["bcd", "x", "y"]], ["ID", "NAME", ""])).toEqual([
    "ID   NAME",
    "a    long one",
    "bcd  x         y"
  ])
})

it("shows nothing of no rows, not even the names", () => {
  expect(table([], ["ID"])).toEqual([])
})

it("makes cells safe to show, and cuts them", () => {
  expect(table([["\u001b[31m\n", "b"]])).toEqual(["\\u001b[31m\\n  b"])
  expect(table([["x".repeat(3000)]])[0]).toHaveLength(2051)
})
