import effectPlugin from "@effect/eslint-plugin"
import tseslint from "typescript-eslint"

const anyCast = {
  selector: "TSAsExpression > TSAnyKeyword, TSTypeAssertion > TSAnyKeyword",
  message: "A cast to any switches the compiler off: narrow, or decode with Schema."
}

const doubleCast = {
  selector: "TSAsExpression > TSAsExpression > TSUnknownKeyword",
  message: "`as unknown as` is a cast to any in two steps: narrow, or decode with Schema."
}

export default tseslint.config(
  { ignores: ["dist/", "coverage/", "build/"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  ...effectPlugin.configs.dprint,
  {
    rules: {
      "@effect/dprint": ["error", {
        config: {
          indentWidth: 2,
          lineWidth: 120,
          semiColons: "asi",
          quoteStyle: "alwaysDouble",
          trailingCommas: "never",
          operatorPosition: "maintain",
          "arrowFunction.useParentheses": "force"
        }
      }],
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-constant-binary-expression": "error",
      "no-self-compare": "error",
      "no-unmodified-loop-condition": "error",
      "no-useless-rename": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": ["error", { destructuring: "all" }]
    }
  },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.recommended],
    rules: {
      "no-restricted-syntax": ["error", anyCast],
      "@typescript-eslint/array-type": ["error", { default: "generic", readonly: "generic" }],
      "@typescript-eslint/consistent-type-assertions": ["error", { assertionStyle: "as" }],
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/no-import-type-side-effects": "error",
      "@typescript-eslint/no-empty-object-type": ["error", { allowInterfaces: "with-single-extends" }],
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-namespace": "off",
      "@typescript-eslint/no-unused-vars": ["error", {
        argsIgnorePattern: "^_",
        varsIgnorePattern: "^_",
        caughtErrorsIgnorePattern: "^_",
        destructuredArrayIgnorePattern: "^_",
        ignoreRestSiblings: true
      }],
      // The language service judges an Effect.gen without a yield, and with types.
      "require-yield": "off",
      // noUncheckedIndexedAccess makes `!` the plain form after a bounds check.
      "@typescript-eslint/no-non-null-assertion": "off"
    }
  },
  {
    files: ["src/**/*.ts"],
    rules: {
      "no-restricted-syntax": ["error", anyCast, doubleCast],
      // The two that the language service lets through.
      "no-restricted-properties": ["error", { object: "process", property: "env", message: "Read a Config." }],
      "no-restricted-globals": ["error", "setImmediate", "performance"]
    }
  }
)
