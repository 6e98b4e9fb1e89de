/**
 * Tables for a person: columns side by side, nothing drawn around them.
 */
import { visible } from "./Visible.js"

/**
 * The rows as lines, each column as wide as its widest cell, the names of the columns above them where they are given (no rows: no
 * lines at all). Every cell is made safe to show; it ends after 2 048 characters. Below names, lines fit into `width` characters, by
 * default those of the terminal that stdout is (none: as wide as they come): the widest column is cut, then whichever is the widest, the
 * first one last, since it is what commands take; none below its name and 8 characters.
 */
export const table = (
  rows: ReadonlyArray<ReadonlyArray<string>>,
  columns?: ReadonlyArray<string>,
  width: number | undefined = process.stdout.columns
): ReadonlyArray<string> => {
  if (rows.length === 0) return []
  const cells = [...(columns === undefined ? [] : [columns]), ...rows].map((row) =>
    row.map((cell) => visible(cell, maxLength))
  )
  const widths: Array<number> = []
  for (const row of cells) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length)
  }
  // A terminal that doesn't know its width says 0.
  if (columns !== undefined && width) narrow(widths, columns, width)
  return cells.map((row) =>
    row.map((cell, column) => cut(cell, widths[column] ?? 0).padEnd(widths[column] ?? 0)).join("  ").trimEnd()
  )
}

// --- internal

const maxLength = 2048
const leastWidth = 8

const narrow = (widths: Array<number>, names: ReadonlyArray<string>, width: number): void => {
  for (let over = widths.reduce((sum, one) => sum + one + 2, -2) - width; over > 0; over--) {
    let widest: number | undefined
    for (const [column, one] of widths.entries()) {
      const wider = widest === undefined || widest === 0 || one > widths[widest]!
      if (wider && one > Math.max(leastWidth, names[column]?.length ?? 0)) widest = column
    }
    if (widest === undefined) return
    widths[widest]!--
  }
}

const cut = (cell: string, width: number): string =>
  // Not within a character of two units.
  cell.length <= width ? cell : `${cell.slice(0, width - 1).replace(/[\ud800-\udbff]$/, "")}\u2026`
