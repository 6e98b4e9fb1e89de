/** Certificates of the tests, made when they are needed. */
import { generate } from "selfsigned"

/** PEM. */
export interface Certificate {
  readonly key: string
  readonly cert: string
}

/** All but `selfSigned` are signed by `ca` and, but for `wrongName`, for 127.0.0.1 and `*.peers.example`. */
export interface Certificates {
  readonly ca: string
  readonly valid: Certificate
  readonly expired: Certificate
  readonly wrongName: Certificate
  readonly selfSigned: Certificate
}

export const make = async (): Promise<Certificates> => {
  const authority = await generate([{ name: "commonName", value: "Test authority" }], {
    ...common,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, critical: true }
    ]
  })
  const ca = { key: authority.private, cert: authority.cert }
  const certificate = async (options: Parameters<typeof generate>[1], names = own): Promise<Certificate> => {
    const { cert, private: key } = await generate([{ name: "commonName", value: "peer" }], {
      ...common,
      ...options,
      extensions: [
        { name: "basicConstraints", cA: false },
        { name: "subjectAltName", altNames: [...names] }
      ]
    })
    return { key, cert }
  }
  const [valid, expired, wrongName, selfSigned] = await Promise.all([
    certificate({ ca }),
    certificate({ ca, notBeforeDate: new Date("2020-01-01"), notAfterDate: new Date("2021-01-01") }),
    certificate({ ca }, [{ type: 2, value: "somebody-else.example" }]),
    certificate({})
  ])
  return { ca: ca.cert, valid, expired, wrongName, selfSigned }
}

// --- internal

const common = { keyType: "ec", algorithm: "sha256" } as const

const own: ReadonlyArray<{ readonly type: 2 | 7; readonly value?: string; readonly ip?: string }> = [
  { type: 7, ip: "127.0.0.1" },
  { type: 2, value: "*.peers.example" }
]
