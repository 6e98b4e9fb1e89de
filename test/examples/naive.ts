/** What the README sets the library against. */
export const naive = async (urls: ReadonlyArray<string>, event: unknown): Promise<void> => {
  // Without: no retry, no signature, no timeout; one slow receiver holds up all; a redirect into your network is followed.
  for (const url of urls) await fetch(url, { method: "POST", body: JSON.stringify(event) })
}
