/** The version of this package, as it names itself to receivers. */
export const version = "0.1.0"
