/**
 * The house: a folder is a floor and imports go down, never up, and never round in a circle.
 * Type-only imports count, because a type that points upwards is a room that can't be moved.
 */
const floors = [
  ["cli", "^src/cli/"],
  ["server", "^src/server/"],
  ["outbox", "^src/outbox/"],
  ["webhooks", "^src/webhooks/"],
  ["http", "^src/http/"],
  ["ground", "^src/(?!index\\.ts$)[^/]+\\.ts$"]
]

const downwards = floors.slice(1).map(([name, path], index) => ({
  name: `downwards-${name}`,
  severity: "error",
  comment: `src/${name} must not know the floors above it`,
  from: { path },
  to: { path: floors.slice(0, index + 1).map(([, above]) => above) }
}))

module.exports = {
  forbidden: [
    ...downwards,
    {
      name: "no-circle",
      severity: "error",
      from: {},
      to: { circular: true }
    },
    {
      name: "no-index",
      severity: "error",
      comment: "The index is for users; inside, import the module itself",
      from: { path: "^src/" },
      to: { path: "^src/index\\.ts$" }
    },
    {
      name: "no-barrel",
      severity: "error",
      comment: "Importing a barrel costs 50 to 150 ms at start: import effect/Effect, not effect",
      from: { path: "^src/" },
      to: { path: "node_modules/(effect|@effect/[^/]+)/(src|dist/(esm|cjs|dts))/index\\.(d\\.ts|[cm]?[jt]s)$" }
    },
    {
      name: "only-legacy-schema",
      severity: "error",
      comment: "@effect/schema is an optional peer: only LegacySchema knows it",
      from: { path: "^src/", pathNot: "^src/webhooks/(LegacySchema|internal/legacy[A-Za-z]*)\\.ts$" },
      to: { path: "node_modules/@effect/schema/" }
    },
    {
      name: "legacy-schema-by-type",
      severity: "error",
      comment: "Whoever hasn't installed the optional peer must still be able to import the package",
      from: { path: "^src/" },
      to: { path: "node_modules/@effect/schema/", dependencyTypesNot: ["type-only"] }
    },
    {
      name: "light-signature",
      severity: "error",
      comment: "sign and verify start in milliseconds: Schema alone costs 170 ms",
      from: { path: "^src/webhooks/WebhookSignature\\.ts$" },
      to: { reachable: true, path: "node_modules/(@effect/platform|effect/dist/(esm|cjs|dts)/Schema\\.)" }
    },
    {
      name: "no-dev-dependency",
      severity: "error",
      comment: "What src imports is a dependency or a peer",
      from: { path: "^src/" },
      to: {
        dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"],
        dependencyTypesNot: ["npm", "npm-peer", "npm-optional"]
      }
    },
    {
      name: "not-resolvable",
      severity: "error",
      from: {},
      to: { couldNotResolve: true }
    }
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "types", "default"]
    }
  }
}
