/**
 * Tables for a person: columns side by side, nothing drawn around them.
 */
import { visible } from "./Visible.js"

/**
 * The rows as lines, each column as wide as its widest cell, the names of the columns above them where they are given (no rows: no
 * lines at all). Every cell is made safe to show; it ends after 2 048 characters.
 */
export const table = (
  rows: ReadonlyArray<ReadonlyArray<string>>,
  columns?: ReadonlyArray<string>
): ReadonlyArray<string> => {
  if (rows.length === 0) return []
  const cells = [...(columns === undefined ? [] : [columns]), ...rows].map((row) =>
    row.map((cell) => visible(cell, maxLength))
  )
  const widths: Array<number> = []
  for (const row of cells) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length)
  }
  return cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd())
}

// --- internal

const maxLength = 2048
