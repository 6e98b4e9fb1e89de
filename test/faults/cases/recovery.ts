/** Recovering, killed half way; migrating, all at once. */
import { stop } from "../processes.js"
import { type Case, expect, numbered } from "../trial.js"
import { until } from "../waiting.js"

const failed = 3_000

export const cases: ReadonlyArray<Case> = [{
  name: "recover killed half way",
  on: ["sqlite", "postgres"],
  deaf: "only",
  run: async (trial) => {
    trial.configure({ a: {} })
    await trial.migrate()
    await trial.enqueue(numbered(failed))
    const now = trial.dialect === "postgres"
      ? "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
      : "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    await trial.database.query(
      `UPDATE webhook_deliveries SET state = 'exhausted', reason = 'attempts', ended_at = ${now} - 60000 + id % 1000, attempts = 10`
    )
    // A look at a worker's pace must fall between two of its batches, however fast the machine is.
    const atPace = trial.dialect === "postgres"
      ? [
        "CREATE FUNCTION at_pace() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$",
        "CREATE TRIGGER at_pace BEFORE UPDATE ON webhook_deliveries FOR EACH ROW WHEN (OLD.state = 'exhausted') EXECUTE FUNCTION at_pace()"
      ]
      : [`CREATE TRIGGER at_pace BEFORE UPDATE ON webhook_deliveries WHEN OLD.state = 'exhausted' BEGIN
          SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i FROM n);
        END`]
    for (const statement of atPace) await trial.database.query(statement)
    const worker = trial.supervised("w1", {
      WEBHOOKS_LEASE: "30s",
      WEBHOOKS_ENDPOINT_CONCURRENCY: "64",
      // On SQLite nothing else tells the worker what another process has done, and it is to see the first of many batches.
      ...(trial.dialect === "sqlite" ? { WEBHOOKS_POLL: "10ms" } : {})
    })
    await until("the worker is at work", () => worker.current()?.out().includes("worker started") === true)
    let left: Promise<number> | undefined
    const exhausted = () =>
      trial.database.count("SELECT count(*) AS n FROM webhook_deliveries WHERE state = 'exhausted'")
    // The first delivery that is sent again shows that recovering is under way.
    trial.receiver.answer(async () => {
      if (left === undefined) {
        recovering.signal("SIGKILL")
        left = recovering.ended.then(exhausted)
        await left
        await trial.database.query(
          `DROP TRIGGER at_pace${trial.dialect === "postgres" ? " ON webhook_deliveries" : ""}`
        )
      }
      return 204
    })
    const recovering = trial.start(["endpoints", "recover", "a", "--since", "1h"])
    const { code, err, signal } = await recovering.ended
    expect(signal === "SIGKILL", `recover was not killed in the middle: it ended with ${code} ${err}`)
    const open = await left
    // On SQLite a recovery that didn't give way would keep the worker out until nearly all was done.
    expect(open !== undefined && open > failed / 2, `it was not in its first half: ${open} were left`)
    // Nobody asks again: the worker goes on with it.
    await until("all of them recovered", async () => await exhausted() === 0, 60)
    await trial.settled()
    await worker.stop()
    const { deliveries, duplicates, requests } = trial.check()
    expect(requests === failed, `${requests} requests for ${failed} failed deliveries`)
    return { failed, "left at the kill": open!, deliveries, duplicates }
  }
}, {
  name: "migrations at once",
  on: ["sqlite", "postgres"],
  run: async (trial) => {
    trial.configure({ a: {} })
    const processes = Array.from({ length: 6 }, () => trial.start(["migrate"]))
    const ends = await Promise.all(processes.map(({ ended }) => ended))
    const bad = ends.filter(({ code }) => code !== 0)
    expect(bad.length === 0, `${bad.length} of ${ends.length} failed: ${bad[0]?.err}`)
    const versions = await trial.database.query("SELECT value FROM webhook_meta WHERE key = 'version'")
    expect(versions.length === 1, `${versions.length} versions`)
    // All of them can work with it: one writes, one delivers.
    const worker = trial.supervised("w1")
    await trial.enqueue(numbered(10))
    await trial.settled()
    await worker.stop()
    const { deliveries, duplicates } = trial.check()
    return { processes: ends.length, version: String(versions[0]?.value), deliveries, duplicates }
  }
}, {
  name: "services on an empty database",
  on: ["postgres"],
  run: async (trial) => {
    trial.configure({ a: {} })
    const services = await Promise.all(["s1", "s2"].map((name) => trial.serve(name)))
    for (const [index, { post }] of services.entries()) {
      trial.handOver(numbered(5, 10 * index))
      for (const event of numbered(5, 10 * index)) for (const id of await post([event])) trial.acknowledge(id)
    }
    await trial.settled()
    for (const { process } of services) await stop(process)
    const { deliveries, duplicates } = trial.check()
    expect(deliveries === 10, `${deliveries} deliveries of 10`)
    return { services: services.length, deliveries, duplicates }
  }
}]
