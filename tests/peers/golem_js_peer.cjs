// A program for golem-js 3.6: rents, runs commands, sends and fetches files, and is invoiced.
// It prints a line beginning with OK for each thing that it has seen. CommonJS, because the other
// build of golem-js 3.6 cannot download into memory: it finds no sha3_256 in js-sha3. It streams no
// output: a daemon (yagna 0.17.6) finds no address for a stream whose provider is its own.
const assert = require("node:assert/strict");
const { createHash, randomBytes } = require("node:crypto");
const { mkdtemp, readFile, rm, writeFile } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");

const { GolemNetwork } = require("@golem-sdk/golem-js");

const SIZE = 3_000_000;
const env = process.env;
const ok = (what) => console.log(`OK ${what}`);
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const quiet = { debug() {}, info() {}, warn: console.error, error: console.error, child: () => quiet };

const golem = new GolemNetwork({
  api: { key: env.YAGNA_APPKEY, url: env.YAGNA_API_URL },
  payment: { driver: env.YAGNA_PAYMENT_DRIVER, network: env.YAGNA_PAYMENT_NETWORK },
  logger: quiet,
});

const order = {
  demand: {
    workload: {
      imageHash: env.PEERS_IMAGE_HASH,
      imageUrl: env.PEERS_IMAGE_URL,
      minMemGib: 0.1,
      minStorageGib: 0.1,
    },
    subnetTag: env.YAGNA_SUBNET,
  },
  market: {
    rentHours: 0.25,
    pricing: { model: "linear", maxStartPrice: 1, maxCpuPerHourPrice: 5, maxEnvPerHourPrice: 5 },
  },
};

async function main() {
  const folder = await mkdtemp(join(tmpdir(), "peer-"));
  const invoices = [];
  golem.payment.events.on("invoiceAccepted", ({ invoice }) => invoices.push(invoice.amount));
  try {
    await golem.connect();

    const rental = await golem.oneOf({ order });
    const exe = await rental.getExeUnit();
    ok(`one: rented of ${exe.provider.name}`);

    const said = await exe.run("echo out; echo err >&2");
    assert.equal(said.result, "Ok");
    assert.deepEqual([said.stdout, said.stderr], ["out\n", "err\n"]);
    const failed = await exe.run("exit 3");
    assert.equal(failed.result, "Error");
    ok("one: commands ran, and one that failed is told");

    const data = randomBytes(SIZE);
    await writeFile(join(folder, "sent"), data);
    await exe.uploadFile(join(folder, "sent"), "/tmp/file.bin");
    const hashed = await exe.run("sha256sum /tmp/file.bin");
    assert.ok(hashed.stdout.startsWith(sha256(data)), hashed.stdout);
    await exe.downloadFile("/tmp/file.bin", join(folder, "back"));
    assert.equal(sha256(await readFile(join(folder, "back"))), sha256(data));
    ok("one: a file went up, was the same there, and came back");

    await exe.uploadJson({ a: [1, 2] }, "/tmp/one.json");
    const told = await exe.downloadJson("/tmp/one.json");
    assert.deepEqual(told.data, { a: [1, 2] });
    ok("one: JSON went up and came back");

    await rental.stopAndFinalize();
    assert.ok(invoices.length >= 1);
    ok("one: invoiced, and the invoice accepted");

    const pool = await golem.manyOf({ poolSize: { min: 1, max: 2 }, order });
    const names = await Promise.all(
      [1, 2].map((number) =>
        pool.withRental(async (one) => {
          const unit = await one.getExeUnit();
          const answer = await unit.run(`echo ${number}; sleep 1`);
          assert.equal(answer.stdout, `${number}\n`);
          return unit.provider.id;
        }),
      ),
    );
    assert.equal(new Set(names).size, 2);
    ok("many: two computers at one time, of two providers");
    await pool.drainAndClear();
    assert.ok(invoices.length >= 3, `${invoices.length} invoices`);
    ok("many: all invoiced");
  } finally {
    await golem.disconnect();
    await rm(folder, { recursive: true, force: true });
  }
  ok("gone in good order");
}

main();
