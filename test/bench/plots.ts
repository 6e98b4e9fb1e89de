/**
 * Curves as JSON and as SVG, side by side in `results`. `tsx test/bench/plots.ts` draws anew what is stored.
 */
import * as echarts from "echarts"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

export interface Curve {
  /** The name of its files. */
  readonly name: string
  readonly title: string
  /** What was measured on. */
  readonly about: string
  /** What varies: its values in their order, drawn at equal distances. */
  readonly x: { readonly name: string; readonly values: ReadonlyArray<number> }
  readonly y: string
  readonly series: ReadonlyArray<Series>
}

export interface Series {
  readonly name: string
  /** One for each value of `x`. */
  readonly points: ReadonlyArray<Point>
}

export interface Point {
  readonly median: number
  readonly low: number
  readonly high: number
}

/** Stores a curve and its plot. */
export const store = (curve: Curve): void => {
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}${curve.name}.json`, `${JSON.stringify(curve, null, 2)}\n`)
  writeFileSync(`${folder}${curve.name}.svg`, draw(curve))
}

/** Where results are kept. */
export const folder = fileURLToPath(new URL("./results/", import.meta.url))

// --- internal

const ink = "#24292f"
const colours = ["#0969da", "#bc4c00", "#1a7f37", "#8250df"]
const font = { color: ink, fontFamily: "Helvetica, Arial, sans-serif" }

const draw = ({ about, series, title, x, y }: Curve): string => {
  const points = series.flatMap(({ points }) => points)
  const [least, most] = [Math.min(...points.map(({ low }) => low)), Math.max(...points.map(({ high }) => high))]
  // Far apart they would all lie at the bottom.
  const logarithmic = most / least > 20
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: 720, height: 420 })
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    title: {
      text: title,
      subtext: about,
      left: 16,
      top: 10,
      textStyle: { ...font, fontSize: 17 },
      subtextStyle: { ...font, fontSize: 12 }
    },
    legend: {
      bottom: 10,
      itemGap: 36,
      data: series.map(({ name }) => name),
      textStyle: { ...font, fontSize: 13, padding: [0, 12, 0, 0] }
    },
    grid: { left: 84, right: 64, top: 96, bottom: 100 },
    xAxis: {
      type: "category",
      data: x.values.map(number),
      name: x.name,
      nameLocation: "middle",
      nameGap: 30,
      nameTextStyle: { ...font, fontSize: 13 },
      axisLabel: { ...font, fontSize: 13 }
    },
    yAxis: {
      ...(logarithmic
        ? { type: "log", min: 10 ** Math.floor(Math.log10(least)), max: 10 ** Math.ceil(Math.log10(most)) }
        : { type: "value", min: 0, max: ceiling(most) }),
      name: logarithmic ? `${y} (logarithmic)` : y,
      nameLocation: "end",
      nameTextStyle: { ...font, fontSize: 13, align: "left", padding: [0, 0, 0, -68] },
      axisLabel: { ...font, fontSize: 13, formatter: number }
    },
    series: series.flatMap(({ name, points }, index) => [
      {
        type: "line",
        name,
        data: points.map(({ median }, at) => ({
          value: median,
          label: { position: place(median, series.map(({ points }) => points[at]!.median)) }
        })),
        symbol: "circle",
        symbolSize: 9,
        itemStyle: { color: colours[index] },
        lineStyle: { width: 2.5, color: colours[index] },
        label: { show: true, color: colours[index], formatter: label }
      },
      {
        type: "custom",
        silent: true,
        data: points.map(({ high, low }, at) => [at, low, high]),
        renderItem: spread(colours[index]!)
      }
    ])
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

/** A line from the lowest round to the highest. */
const spread = (colour: string): echarts.CustomSeriesOption["renderItem"] => (_, api) => {
  const [x = 0, low = 0] = api.coord([api.value(0), api.value(1)])
  const [, high = 0] = api.coord([api.value(0), api.value(2)])
  return {
    type: "line",
    shape: { x1: x, y1: low, x2: x, y2: high },
    style: { stroke: colour, lineWidth: 5, opacity: 0.3 }
  }
}

/** Where a point's number stands, so that none lies on another's. */
const place = (value: number, all: ReadonlyArray<number>): "bottom" | "right" | "top" =>
  value >= Math.max(...all) ? "top" : value <= Math.min(...all) ? "bottom" : "right"

/** One or two digits and noughts, just above a value. */
const ceiling = (value: number): number => {
  const unit = 10 ** Math.floor(Math.log10(value)) / 2
  return Math.ceil(value / unit) * unit
}

const number = (value: number): string => value.toLocaleString("en").replaceAll(",", " ")

const label = ({ value }: { readonly value?: unknown }): string =>
  typeof value === "number" ? number(value >= 100 ? Math.round(value) : Math.round(value * 10) / 10) : ""

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const file of readdirSync(folder)) {
    if (!file.startsWith("growth-") || !file.endsWith(".json")) continue
    store(JSON.parse(readFileSync(`${folder}${file}`, "utf8")) as Curve)
  }
}
