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

const names = ["ID", "ENDPOINT", "N", "WHY"]
const rows = [["dlv_1", "a-long-name", "1", "it was said that it was so"], ["dlv_2", "b", "20", "-"]]

it.each([
  [undefined, "dlv_1  a-long-name  1   it was said that it was so"],
  [0, "dlv_1  a-long-name  1   it was said that it was so"],
  [50, "dlv_1  a-long-name  1   it was said that it was so"],
  [49, "dlv_1  a-long-name  1   it was said that it was \u2026"],
  [35, "dlv_1  a-long-name  1   it was sai\u2026"],
  [33, "dlv_1  a-long-na\u2026  1   it was sa\u2026"],
  [10, "dlv_1  a-long-\u2026  1   it was \u2026"]
])("cuts the widest columns to fit a terminal of %j", (width, first) => {
  const lines = table(rows, names, width)
  expect(lines[1]).toBe(first)
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(Math.max(width || 50, 31))
})

it("cuts the first column last, characters never, and details neither", () => {
  expect(table([["a-name-of-twenty-----", "something else"]], ["ID", "WHY"], 31))
    .toEqual(["ID                     WHY", "a-name-of-twenty-----  somethi\u2026"])
  expect(table([["a-name-of-twenty-----", "something else"]], ["ID", "WHY"], 20)[1]).toBe(
    "a-name-of\u2026  somethi\u2026"
  )
  expect(table([["a", "\ud83d\ude00".repeat(9)]], ["ID", "WHY"], 14)[1]).toBe(`a   ${"\ud83d\ude00".repeat(4)}\u2026`)
  expect(table([["a", "x".repeat(100)]], undefined, 20)[0]).toHaveLength(103)
})

it("takes the width of the terminal that stdout is", () => {
  const columns = Object.getOwnPropertyDescriptor(process.stdout, "columns")
  Object.defineProperty(process.stdout, "columns", { value: 49, configurable: true })
  expect(table(rows, names)[1]).toMatch(/\u2026$/)
  if (columns === undefined) Reflect.deleteProperty(process.stdout, "columns")
  else Object.defineProperty(process.stdout, "columns", columns)
})
