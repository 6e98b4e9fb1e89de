import { expect, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { version } from "../src/webhooks/Version.js"

const root = new URL("../", import.meta.url)
const read = (path: string): string => readFileSync(new URL(path, root), "utf8")

interface Manifest {
  readonly version: string
  readonly exports: Record<string, string | { readonly types: string; readonly default: string } | null>
  readonly dependencies: Record<string, string>
  readonly devDependencies: Record<string, string>
  readonly peerDependencies: Record<string, string>
}

const manifest = JSON.parse(read("package.json")) as Manifest

/** Modules that have a subpath of their own and no namespace in the index. */
const apart = ["Api", "ApiError", "ApiServer", "Defaults", "LegacySchema", "testing"]

const indexed = Array.from(
  read("src/index.ts").matchAll(/^export \* as (\w+) from "\.\/(.+)\.js"$/gm),
  ([, name = "", path = ""]) => ({ name, path })
)

const subpaths = Object.keys(manifest.exports).filter((key) => ![".", "./internal/*", "./package.json"].includes(key))

it("every namespace of the index has a subpath, and there is no other", () => {
  expect(indexed.length).toBeGreaterThan(10)
  expect([...subpaths].sort()).toEqual([...indexed.map(({ name }) => name), ...apart].map((name) => `./${name}`).sort())
})

it("each subpath leads to its module, types first", () => {
  for (const { name, path } of indexed) {
    expect(manifest.exports[`./${name}`]).toEqual({ types: `./dist/${path}.d.ts`, default: `./dist/${path}.js` })
  }
  for (const [key, target] of Object.entries(manifest.exports)) {
    if (typeof target !== "object" || target === null) continue
    expect(Object.keys(target), key).toEqual(["types", "default"])
    const source = target.default.replace(/^\.\/dist\//, "src/").replace(/\.js$/, ".ts")
    expect(existsSync(fileURLToPath(new URL(source, root))), source).toBe(true)
  }
  expect(manifest.exports["./internal/*"]).toBeNull()
})

it("dependencies are pinned, peers stay on Effect 3, one fast-check serves Effect and us", () => {
  for (const [name, range] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    expect(range, name).toMatch(/^(?:npm:[a-z-]+@)?\d+\.\d+\.\d+(?:-[a-z.\d]+)?$/)
  }
  expect(manifest.peerDependencies["effect"]).toMatch(/^\^3\./)
  expect(manifest.devDependencies["fast-check"]).toMatch(/^3\./)
})

it("the lock file names no registry", () => {
  const lock = JSON.parse(read("package-lock.json")) as { packages: Record<string, Record<string, unknown>> }
  expect(Object.entries(lock.packages).filter(([, entry]) => "resolved" in entry)).toEqual([])
})

/** npm drops what the registry at hand lacks, and then `npm ci` fails on every other platform. */
it("the lock file holds every platform's binaries", () => {
  const { packages } = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { readonly optionalDependencies?: Record<string, string> }>
  }
  const missing = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {})).filter(
    (name) => packages[`node_modules/${name}`] === undefined
  )
  expect(missing).toEqual([])
})

it("the version that receivers see is the package's", () => {
  expect(version).toBe(manifest.version)
})
