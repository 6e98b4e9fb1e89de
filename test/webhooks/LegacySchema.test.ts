import * as LegacyArrayFormatter from "@effect/schema/ArrayFormatter"
import * as LegacyParseResult from "@effect/schema/ParseResult"
import * as Legacy from "@effect/schema/Schema"
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import * as Brand from "effect/Brand"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import * as LegacySchema from "../../src/webhooks/LegacySchema.js"

class OrderCreated extends Legacy.TaggedClass<OrderCreated>()("OrderCreated", {
  aggregateId: Legacy.String,
  placedAt: Legacy.Date,
  total: Legacy.NumberFromString.pipe(Legacy.positive()),
  note: Legacy.optional(Legacy.String)
}) {
  get label() {
    return `order ${this.aggregateId}`
  }
}

class Cancelled extends OrderCreated.extend<Cancelled>("Cancelled")({ reason: Legacy.Literal("stock", "fraud") }) {}

interface Tree {
  readonly value: number
  readonly children: ReadonlyArray<Tree>
}
interface TreeEncoded {
  readonly value: string
  readonly children: ReadonlyArray<TreeEncoded>
}
const Tree: Legacy.Schema<Tree, TreeEncoded> = Legacy.Struct({
  value: Legacy.NumberFromString,
  children: Legacy.Array(Legacy.suspend(() => Tree))
})

class Folder extends Legacy.Class<Folder>("Folder")({
  name: Legacy.NonEmptyString,
  inner: Legacy.Array(Legacy.suspend((): Legacy.Schema<Folder, FolderEncoded> => Folder))
}) {}
interface FolderEncoded {
  readonly name: string
  readonly inner: ReadonlyArray<FolderEncoded>
}

// What `enum Colour { Red, Green = "green" }` is once compiled.
const Colour = { 0: "Red", Red: 0, Green: "green" } as const

type UserId = string & Brand.Brand<"UserId">
const UserId = Brand.nominal<UserId>()

const order = { _tag: "OrderCreated", aggregateId: "o-1", placedAt: "2026-01-27T12:00:00.000Z", total: "5" }
const folder = { name: "a", inner: [{ name: "b", inner: [] }] }
const symbol = Symbol.for("legacy")

/** A declaration whose parameter is only asked whether a value is of its type. */
const Checked = <A, I>(item: Legacy.Schema<A, I>) =>
  Legacy.declare([item], {
    decode: (item) => (input, _, ast) =>
      Predicate.hasProperty(input, "checked") && LegacyParseResult.is(item)(input.checked)
        ? LegacyParseResult.succeed(input as { readonly checked: A })
        : LegacyParseResult.fail(new LegacyParseResult.Type(ast, input)),
    encode: () => (input) => LegacyParseResult.succeed(input as { readonly checked: I })
  })

/** Name, schema, inputs to decode (good and bad), inputs to encode beyond what was decoded. */
const cases: ReadonlyArray<
  readonly [string, Legacy.Schema.AnyNoContext, ReadonlyArray<unknown>, ReadonlyArray<unknown>?]
> = [
  [
    "keywords",
    Legacy.Tuple(
      Legacy.String,
      Legacy.Number,
      Legacy.Boolean,
      Legacy.Null,
      Legacy.Undefined,
      Legacy.Unknown,
      Legacy.Any,
      Legacy.Object,
      Legacy.BigIntFromSelf,
      Legacy.SymbolFromSelf,
      Legacy.Void
    ),
    [
      ["a", 1, true, null, undefined, {}, {}, {}, 1n, symbol, undefined],
      [1, 1, true, null, undefined, {}, {}, {}, 1n, symbol, undefined],
      ["a", 1, true, null, undefined, {}, {}, 5, 1n, symbol, undefined]
    ]
  ],
  ["never", Legacy.Union(Legacy.Never, Legacy.String), ["a", 1]],
  ["literals", Legacy.Literal("a", 1, null, true, 2n), ["a", 1, null, true, 2n, "b", 2, undefined]],
  ["unique symbols", Legacy.UniqueSymbolFromSelf(symbol), [symbol, Symbol("legacy")]],
  ["enums", Legacy.Enums(Colour), [0, "green", "Red", 1]],
  [
    "template literals",
    Legacy.TemplateLiteral(Legacy.Literal("a."), Legacy.String, Legacy.Literal("-"), Legacy.Number),
    ["a.b-1", "a.-1.5e3", "axb-1", "a.b-", "a.\n-1", "x"]
  ],
  [
    "structs",
    Legacy.Struct({
      a: Legacy.String,
      b: Legacy.optional(Legacy.NumberFromString),
      c: Legacy.optionalWith(Legacy.String, { exact: true })
    }),
    [
      { a: "x" },
      { a: "x", b: "1", c: "y" },
      { a: "x", b: undefined },
      { a: "x", c: undefined },
      { a: "x", b: "z" },
      {},
      null,
      { a: "x", extra: 1 }
    ]
  ],
  [
    "optional with default, option, rename",
    Legacy.Struct({
      a: Legacy.optionalWith(Legacy.NumberFromString, { default: () => 7 }),
      b: Legacy.optionalWith(Legacy.Date, { as: "Option" }),
      c: Legacy.propertySignature(Legacy.String).pipe(Legacy.fromKey("C")),
      d: Legacy.OptionFromNullOr(Legacy.NumberFromString)
    }),
    [{ C: "c", d: null }, { a: "1", b: order.placedAt, C: "c", d: "3" }, { c: "c", d: null }, { C: "c", d: "x" }]
  ],
  [
    "records",
    Legacy.Record({ key: Legacy.TemplateLiteral(Legacy.Literal("x-"), Legacy.String), value: Legacy.NumberFromString }),
    [{ "x-a": "1" }, { "x-a": "b" }, { y: "1" }, {}]
  ],
  ["records with a refined key", Legacy.Record({ key: Legacy.String.pipe(Legacy.minLength(2)), value: Legacy.Date }), [
    { ab: order.placedAt },
    { a: order.placedAt },
    { ab: 1 }
  ]],
  [
    "structs with a record",
    Legacy.Struct({ a: Legacy.Number }, Legacy.Record({ key: Legacy.String, value: Legacy.Number })),
    [{ a: 1, b: 2 }, { a: 1, b: "2" }, { b: 2 }]
  ],
  ["tuples", Legacy.Tuple([Legacy.NumberFromString, Legacy.optionalElement(Legacy.Date)], Legacy.String), [
    ["1"],
    ["1", order.placedAt],
    ["1", order.placedAt, "a", "b"],
    ["1", order.placedAt, 5],
    [],
    {}
  ]],
  ["tuples with an end", Legacy.Tuple([], Legacy.NumberFromString, Legacy.Boolean), [["1", true], [true], ["1"], [
    "1",
    "2",
    false
  ]]],
  ["arrays", Legacy.NonEmptyArray(Legacy.NumberFromString), [["1", "2"], [], ["x"]]],
  [
    "unions",
    Legacy.Union(
      OrderCreated,
      Legacy.Struct({ _tag: Legacy.Literal("Other"), n: Legacy.NumberFromString }),
      Legacy.Date
    ),
    [
      order,
      { _tag: "Other", n: "1" },
      { _tag: "Other", n: 1 },
      { _tag: "Nobody" },
      {},
      order.placedAt,
      5
    ]
  ],
  [
    "refinements",
    Legacy.String.pipe(Legacy.minLength(2), Legacy.pattern(/^a/), Legacy.filter((s) => s !== "abc" || "not abc")),
    ["ab", "a", "ba", "abc", 1]
  ],
  [
    "filters that point",
    Legacy.Struct({ a: Legacy.Number, b: Legacy.Number }).pipe(
      Legacy.filter(({ a, b }) => a < b || { path: ["b"], message: "b must be more" })
    ),
    [{ a: 1, b: 2 }, { a: 2, b: 1 }]
  ],
  ["brands", Legacy.String.pipe(Legacy.minLength(2), Legacy.brand("UserId")), ["ab", "a"]],
  ["brands from outside", Legacy.String.pipe(Legacy.fromBrand(UserId)), ["ab", 1]],
  [
    "transformations",
    Legacy.Struct({
      at: Legacy.Date,
      big: Legacy.BigInt,
      n: Legacy.Trim.pipe(Legacy.compose(Legacy.NumberFromString)),
      flag: Legacy.Not,
      url: Legacy.split(",")
    }),
    [
      { at: order.placedAt, big: "12", n: " 5 ", flag: true, url: "a,b" },
      { at: "never", big: "12", n: "5", flag: true, url: "" },
      { at: order.placedAt, big: "x", n: "5", flag: true, url: "" }
    ],
    [{ at: new Date(NaN), big: 1n, n: 1, flag: false, url: [] }]
  ],
  ["parseJson", Legacy.parseJson(Legacy.Struct({ a: Legacy.Date })), [
    "{\"a\":\"2026-01-27T12:00:00.000Z\"}",
    "{",
    "{\"a\":1}"
  ]],
  ["classes", OrderCreated, [order, { ...order, note: "n" }, { ...order, total: "-1" }, { ...order, _tag: "x" }, {}], [
    order,
    { ...order, placedAt: new Date(0), total: 5 },
    new OrderCreated({ aggregateId: "a", placedAt: new Date(0), total: 1 })
  ]],
  ["extended classes", Cancelled, [{ ...order, reason: "stock" }, { ...order, reason: "why" }]],
  ["type sides", Legacy.typeSchema(OrderCreated), [
    new OrderCreated({ aggregateId: "a", placedAt: new Date(0), total: 1 }),
    order
  ]],
  ["encoded sides", Legacy.encodedSchema(OrderCreated), [order, { ...order, total: 5 }]],
  ["recursion", Tree, [{ value: "1", children: [{ value: "2", children: [] }] }, {
    value: "1",
    children: [{ value: 2, children: [] }]
  }]],
  ["recursive classes", Folder, [folder, { name: "a", inner: [{ name: "", inner: [] }] }]],
  [
    "declarations",
    Legacy.Struct({
      option: Legacy.Option(Legacy.NumberFromString),
      map: Legacy.HashMap({ key: Legacy.String, value: Legacy.Date }),
      set: Legacy.Set(Legacy.NumberFromString),
      chunk: Legacy.Chunk(OrderCreated),
      either: Legacy.Either({ left: Legacy.String, right: Legacy.Date }),
      duration: Legacy.Duration,
      bytes: Legacy.Uint8Array
    }),
    [
      {
        option: { _tag: "Some", value: "1" },
        map: [["a", order.placedAt]],
        set: ["1"],
        chunk: [order],
        either: { _tag: "Left", left: "l" },
        duration: [1, 0],
        bytes: [1, 2]
      },
      {
        option: { _tag: "Some", value: 1 },
        map: [],
        set: [],
        chunk: [],
        either: { _tag: "Left", left: "l" },
        duration: [1, 0],
        bytes: []
      },
      {
        option: { _tag: "None" },
        map: [],
        set: [],
        chunk: [{ ...order, total: "0" }],
        either: { _tag: "Right", right: "x" },
        duration: [1, 0],
        bytes: []
      }
    ]
  ],
  [
    "declarations of themselves",
    Legacy.Struct({
      option: Legacy.OptionFromSelf(Legacy.NumberFromString),
      instance: Legacy.instanceOf(Map),
      redacted: Legacy.Redacted(Legacy.String)
    }),
    [
      { option: Option.some("1"), instance: new Map(), redacted: "r" },
      { option: Option.some("x"), instance: new Map(), redacted: "r" },
      { option: Option.none(), instance: {}, redacted: "r" }
    ]
  ],
  ["declarations of structs", Legacy.OptionFromSelf(Legacy.Struct({ a: Legacy.NumberFromString })), [
    Option.some({ a: "1" }),
    Option.some({ a: "x" }),
    Option.some({ a: 1 })
  ]],
  ["declarations that ask for the type side", Checked(Legacy.NumberFromString), [{ checked: 1 }, { checked: "1" }]],
  ["a fallback", Legacy.Struct({ a: Legacy.Number.annotations({ decodingFallback: () => Either.right(42) }) }), [{
    a: 1
  }, { a: "x" }]],
  [
    "a fallback that fails",
    Legacy.Struct({ a: Legacy.Number.annotations({ decodingFallback: (issue) => Either.left(issue) }) }),
    [{ a: "x" }]
  ],
  ["parse options", Legacy.Struct({ a: Legacy.Number }).annotations({ parseOptions: { onExcessProperty: "error" } }), [{
    a: 1
  }, { a: 1, b: 2 }]],
  ["attached keys", Legacy.Struct({ r: Legacy.Number }).pipe(Legacy.attachPropertySignature("kind", "circle")), [{
    r: 1
  }, { r: "x" }]],
  ["data", Legacy.Data(Legacy.Struct({ a: Legacy.NumberFromString })), [{ a: "1" }, { a: 1 }]]
]

/** Paths at which something was wrong. */
const paths = (issues: ReadonlyArray<{ readonly path: ReadonlyArray<PropertyKey> }>) => issues.map(({ path }) => path)

const legacyResult = (result: Either.Either<unknown, LegacyParseResult.ParseError>) =>
  Either.mapLeft(result, (error) => paths(LegacyArrayFormatter.formatErrorSync(error)))

const newResult = (result: Either.Either<unknown, ParseResult.ParseError>) =>
  Either.mapLeft(result, (error) => {
    // Formatting reaches every node that an issue points at.
    expect(error.message.length).toBeGreaterThan(0)
    return paths(ParseResult.ArrayFormatter.formatErrorSync(error))
  })

describe("a bridged schema", () => {
  it.each(cases.map(([name, schema, inputs, values = []]) => ({ name, schema, inputs, values })))(
    "gives the same results: $name",
    (row) => {
      const { inputs, name, schema: legacy, values } = row
      const bridged = LegacySchema.fromLegacy(legacy)
      for (const errors of ["first", "all"] as const) {
        for (const onExcessProperty of ["ignore", "error", "preserve"] as const) {
          const options = { errors, onExcessProperty }
          const decoded = inputs.flatMap((input) => {
            const expected = Legacy.decodeUnknownEither(legacy, options)(input)
            const actual = Schema.decodeUnknownEither(bridged, options)(input)
            expect(newResult(actual), inspect(input)).toStrictEqual(legacyResult(expected))
            expect(Schema.is(bridged, options)(input), inspect(input)).toBe(Legacy.is(legacy, options)(input))
            const wrapped = Schema.decodeUnknownEither(Schema.Struct({ list: Schema.Array(bridged) }), options)({
              list: [input]
            })
            expect(Either.map(wrapped, ({ list }) => list[0])).toStrictEqual(
              Either.isRight(expected) ? expected : Either.left(expect.anything())
            )
            return Either.isRight(expected) ? [expected.right] : []
          })
          for (const value of [...decoded, ...values, ...inputs]) {
            const expected = Legacy.encodeUnknownEither(legacy, options)(value)
            expect(newResult(Schema.encodeUnknownEither(bridged, options)(value)), inspect(value)).toStrictEqual(
              legacyResult(expected)
            )
            expect(Schema.is(Schema.Array(bridged), options)([value])).toBe(Legacy.is(legacy, options)(value))
          }
        }
      }
      expect(inputs.some((input) => Either.isRight(Legacy.decodeUnknownEither(legacy)(input)))).toBe(
        name !== "a fallback that fails"
      )
    }
  )

  it("does on both of its sides what the legacy one does", () => {
    for (const [name, legacy, inputs] of cases) {
      const bridged = LegacySchema.fromLegacy(legacy)
      for (const input of inputs) {
        // `effect` takes the filter off an encoded side, and with it the rule that no line break is in a span.
        if (input === "a.\n-1") continue
        expect(Schema.is(Schema.encodedSchema(bridged))(input), `${name} ${inspect(input)}`).toBe(
          Legacy.is(Legacy.encodedSchema(legacy))(input)
        )
        expect(Schema.is(Schema.typeSchema(bridged))(input), `${name} ${inspect(input)}`).toBe(
          Legacy.is(Legacy.typeSchema(legacy))(input)
        )
        expect(newResult(Schema.validateEither(bridged)(input)), name).toStrictEqual(
          legacyResult(Legacy.validateEither(legacy)(input))
        )
      }
    }
  })

  it("makes instances of the same class", () => {
    const decoded = Schema.decodeUnknownSync(Schema.Array(LegacySchema.fromLegacy(OrderCreated)))([order])
    expect(decoded[0]).toBeInstanceOf(OrderCreated)
    expect(decoded[0]!.label).toBe("order o-1")
    expect(Schema.encodeSync(LegacySchema.fromLegacy(OrderCreated))(decoded[0]!)).toEqual(order)
  })

  it("raw mixing is what it is there for", () => {
    expect(() => Schema.decodeUnknownSync(Schema.Array(OrderCreated as never))([order])).toThrow()
  })

  it("agrees on arbitrary trees", () => {
    const bridged = LegacySchema.fromLegacy(Tree)
    const encoded = FastCheck.letrec<{ tree: TreeEncoded }>((tie) => ({
      tree: FastCheck.record({
        value: FastCheck.oneof(FastCheck.integer().map(String), FastCheck.string({ maxLength: 2 })),
        children: FastCheck.oneof(
          { maxDepth: 4 },
          FastCheck.constant([]),
          FastCheck.array(tie("tree"), { maxLength: 3 })
        )
      })
    })).tree
    FastCheck.assert(FastCheck.property(encoded, (input) => {
      expect(newResult(Schema.decodeUnknownEither(bridged)(input))).toEqual(
        legacyResult(Legacy.decodeUnknownEither(Tree)(input))
      )
    }))
  })

  it("keeps names and texts", () => {
    const error = Either.getOrThrow(Either.flip(Schema.decodeUnknownEither(LegacySchema.fromLegacy(OrderCreated))({})))
    expect(error.message).toContain("OrderCreated")
    expect(String(LegacySchema.fromLegacy(Legacy.Positive).ast)).toContain("Positive")
  })

  it("keeps the message of a filter, and the issue that a declaration passes on", () => {
    const bridged = LegacySchema.fromLegacy(
      Legacy.Option(Legacy.Number.pipe(Legacy.filter((n) => n > 1 || "more than one")))
    )
    const error = Either.getOrThrow(Either.flip(Schema.decodeUnknownEither(bridged)({ _tag: "Some", value: 1 })))
    expect(error.message).toContain("more than one")
    const item = Schema.typeSchema(
      LegacySchema.fromLegacy(Legacy.OptionFromSelf(Legacy.DateFromSelf.pipe(Legacy.compose(Legacy.ValidDateFromSelf))))
    )
    const inner = Either.getOrThrow(Either.flip(Schema.decodeUnknownEither(item)(Option.some(new Date(NaN)))))
    expect(inner.message).toContain("Invalid Date")
  })

  it.effect("keeps services and asynchrony", () =>
    Effect.gen(function*() {
      class Prefix extends Context.Tag("Prefix")<Prefix, string>() {}
      const legacy = Legacy.transformOrFail(Legacy.String, Legacy.String, {
        decode: (text) => Effect.map(Effect.zipLeft(Prefix, Effect.yieldNow()), (prefix) => prefix + text),
        encode: (text, _, ast) => Effect.delay(Effect.fail(new LegacyParseResult.Type(ast, text, "one way")), 0)
      })
      const bridged = LegacySchema.fromLegacy(legacy)
      expectTypeOf(bridged).toEqualTypeOf<Schema.Schema<string, string, Prefix>>()
      const list = Schema.Array(bridged)
      expect(yield* Effect.provideService(Schema.decodeUnknown(list)(["a"]), Prefix, "p-")).toEqual(["p-a"])
      const sync = yield* Effect.exit(Effect.provideService(
        ParseResult.decodeUnknown(bridged)("a"),
        Prefix,
        "p-"
      ))
      expect(sync).toEqual(Exit.succeed("p-a"))
    }))

  it("has the types of the legacy one", () => {
    const bridged = LegacySchema.fromLegacy(OrderCreated)
    expectTypeOf<Schema.Schema.Type<typeof bridged>>().toEqualTypeOf<OrderCreated>()
    expectTypeOf<Schema.Schema.Encoded<typeof bridged>>().toEqualTypeOf<Legacy.Schema.Encoded<typeof OrderCreated>>()
    expectTypeOf<Schema.Schema.Context<typeof bridged>>().toEqualTypeOf<never>()
    expectTypeOf(Schema.decodeUnknownSync(Schema.Struct({ list: Schema.Array(bridged) }))).returns.toEqualTypeOf<
      { readonly list: ReadonlyArray<OrderCreated> }
    >()
    // @ts-expect-error a schema of effect is no legacy one
    expect(() => LegacySchema.fromLegacy(Schema.String)).toThrow("is already a schema of effect/Schema")
  })

  it("is made once", () => {
    expect(LegacySchema.fromLegacy(OrderCreated)).toBe(LegacySchema.fromLegacy(OrderCreated))
  })
})

describe("what can't be bridged", () => {
  it("is named", () => {
    const thrown = (schema: unknown) => {
      try {
        LegacySchema.fromLegacy(schema as never)
      } catch (error) {
        expect(error).toBeInstanceOf(LegacySchema.UnsupportedLegacySchema)
        return (error as Error).message
      }
    }
    expect(thrown({})).toBe("schema: is not a schema of @effect/schema")
    expect(thrown(undefined)).toBe("schema: is not a schema of @effect/schema")
    const odd = Legacy.make({ _tag: "Quantum", annotations: {} } as never)
    expect(thrown(Legacy.Struct({ a: Legacy.Array(odd) }))).toBe(
      "schema.a[0]: has a node \"Quantum\" that @effect/schema 0.75 doesn't know; install that version"
    )
  })

  it("is told from what can", () => {
    expect([OrderCreated, Legacy.String, Schema.String, {}, null].map(LegacySchema.isLegacySchema)).toEqual([
      true,
      true,
      false,
      false,
      false
    ])
  })
})
