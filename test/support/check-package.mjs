/**
 * What a user gets: packs the project, lints the tarball, installs it into an empty folder with nothing but what npm
 * brings along, imports every export and runs the program. Needs the registry, so `npm test` leaves it out.
 */
import { spawnSync } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"

const root = path.resolve(import.meta.dirname, "../..")
const manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"))
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "effect-webhooks-package-"))
const consumer = path.join(temporary, "consumer")
process.on("exit", () => fs.rmSync(temporary, { recursive: true, force: true }))

const run = (command, args, cwd = root) => {
  const result = spawnSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
  const output = `${result.stdout ?? ""}${result.stderr ?? ""}`
  if (result.error !== undefined) throw result.error
  if (result.status !== 0) throw new Error(`${path.basename(command)} exited ${result.status}\n${output}`)
  return result.stdout
}

const tool = (name, ...args) => run(path.join(root, "node_modules/.bin", name), args)

const expect = (condition, message) => {
  if (!condition) throw new Error(message)
}

const specifier = (subpath) => `${manifest.name}${subpath.slice(1)}`
const modules = Object.entries(manifest.exports)
  .filter(([subpath, target]) => target !== null && subpath !== "./package.json")
  .map(([subpath]) => specifier(subpath))

let tarball = ""
let passed = 0
let failed = 0

/** After a failure the later checks still run, each saying for itself what is wrong. */
const check = (name, body) => {
  try {
    body()
    passed++
    console.log(`ok      ${name}`)
  } catch (error) {
    failed++
    console.log(`FAILED  ${name}\n${String(error.message).replaceAll(/^/gm, "        ")}`)
  }
}

check("npm pack holds dist and src, and nothing of the tests", () => {
  const [packed] = JSON.parse(run("npm", ["pack", "--json", "--silent", "--pack-destination", temporary]))
  tarball = path.join(temporary, packed.filename)
  const files = packed.files.map((file) => file.path)
  const strangers = files.filter((file) => !/^(dist\/|src\/|package\.json$|README\.md$|LICENSE$)/.test(file))
  expect(strangers.length === 0, `unexpected files: ${strangers.join(", ")}`)
  for (const needed of ["README.md", "LICENSE", "dist/index.js", "dist/index.d.ts", manifest.bin[manifest.name]]) {
    expect(files.includes(needed.replace(/^\.\//, "")), `missing file: ${needed}`)
  }
})

check("publint finds nothing", () => tool("publint", "run", tarball, "--strict"))

check("attw finds nothing", () => tool("attw", tarball, "--profile", "esm-only", "--no-color"))

check("installs into an empty folder, with Effect 3", () => {
  fs.mkdirSync(consumer)
  fs.writeFileSync(path.join(consumer, "package.json"), JSON.stringify({ private: true, type: "module" }))
  run("npm", ["install", "--no-audit", "--no-fund", tarball], consumer)
  const { version } = JSON.parse(fs.readFileSync(path.join(consumer, "node_modules/effect/package.json"), "utf8"))
  expect(version.startsWith("3."), `effect resolved to ${version}`)
})

check(`imports every export (${modules.length})`, () => {
  const script = `const broken = []
for (const name of ${JSON.stringify(modules)}) {
  try {
    const module = await import(name)
    if (Object.keys(module).length === 0) broken.push(name + ": exports nothing")
  } catch (error) {
    broken.push(name + ": " + error.message)
  }
}
if (broken.length > 0) throw new Error(broken.join("\\n"))`
  run("node", ["--input-type=module", "--eval", script], consumer)
})

check("internal modules stay out of reach", () => {
  const script = `await import("${manifest.name}/internal/monotonic").then(
  () => { throw new Error("imported") },
  (error) => { if (error.code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") throw error }
)`
  run("node", ["--input-type=module", "--eval", script], consumer)
})

check("a strict TypeScript program sees every export's types", () => {
  const lines = modules.map((name, index) => `import * as M${index} from "${name}"`)
  const uses = modules.map((_, index) => `M${index}`)
  fs.writeFileSync(
    path.join(consumer, "program.ts"),
    [...lines, `export const all = [${uses.join(", ")}]`, ""].join("\n")
  )
  const settings = [
    "--noEmit",
    "--strict",
    "--target",
    "ES2022",
    "--module",
    "NodeNext",
    "--skipLibCheck"
  ]
  // A user's compiler may be older than the one that wrote the declarations.
  for (const compiler of ["typescript", "@typescript/native"]) {
    run(process.execPath, [path.join(root, "node_modules", compiler, "bin/tsc"), ...settings, "program.ts"], consumer)
  }
})

const program = path.join(consumer, "node_modules/.bin", manifest.name)

check("the program says its version", () => {
  const output = run(program, ["--version"], consumer)
  expect(output.trim() === manifest.version, `printed ${JSON.stringify(output)}`)
})

check("the program prints its help", () => {
  const output = run(program, ["--help"], consumer)
  expect(output.includes(manifest.name), `printed ${JSON.stringify(output)}`)
})

console.log(`package: ${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
