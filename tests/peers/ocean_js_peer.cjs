// A program for ocean.js 8.6: environments, jobs of raw code and of an asset, logs, stop, tokens.
// It prints a line beginning with OK for each thing that it has seen. ocean.js has no call that
// deletes a job: that is asked for by HTTP with a token that ocean.js got.
const assert = require("node:assert/strict");

const { ProviderInstance: provider } = require("@oceanprotocol/lib");
const { Wallet } = require("ethers");

const env = process.env;
const URL_ = env.PEERS_OCEAN_URL;
const PATIENCE_MS = 60_000;
const ZERO = "0x0000000000000000000000000000000000000000";
const OUTPUT = "raw code was here\n";
const RAW = `
print("to the log")
with open("/data/outputs/said", "w") as file:
    file.write(${JSON.stringify(OUTPUT)})
`;
const SLEEPER = `
import time
print("asleep", flush=True)
time.sleep(600)
`;
const ok = (what) => console.log(`OK ${what}`);
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));
const one = (said) => (Array.isArray(said) ? said[0] : said);

const meta = (rawcode) => ({
  rawcode,
  language: "python",
  version: "0.1",
  container: { entrypoint: "python3 $ALGO", image: "python", tag: "3.11", checksum: "" },
});

async function text(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const status = async (wallet, id) => one(await provider.computeStatus(URL_, wallet, id));

async function until(wallet, id, code) {
  const deadline = Date.now() + PATIENCE_MS;
  for (let before = 0; ; await pause()) {
    const said = await status(wallet, id);
    assert.equal(said.jobId, id);
    assert.ok(said.status >= before, `${said.status} after ${before}`);
    before = said.status;
    if (said.status === code) return said;
    assert.ok(Date.now() < deadline && !said.dateFinished, JSON.stringify(said));
  }
}

async function result(wallet, id, type, offset = 0) {
  const { results } = await status(wallet, id);
  const file = results.find((one) => one.type === type);
  return text(await provider.getComputeResult(URL_, wallet, id, file.index, offset));
}

async function service(did) {
  const ddo = await provider.resolveDdo(URL_, did);
  assert.equal(ddo?.id, did);
  return { documentId: did, serviceId: ddo.services[0].id };
}

async function rawCode(wallet, environment) {
  const algorithm = { meta: meta(RAW) };
  const id = one(await provider.freeComputeStart(URL_, wallet, environment.id, [], algorithm)).jobId;
  ok("raw code: started for free");
  const last = await until(wallet, id, 70);
  assert.ok(last.dateFinished);
  assert.equal(last.terminationDetails.exitCode, 0);
  ok("raw code: its status went up to 70");
  assert.equal(await result(wallet, id, "output"), OUTPUT);
  assert.equal(await result(wallet, id, "output", 4), OUTPUT.slice(4));
  ok("raw code: the result's bytes came as they are, and from an offset");
  assert.match(await result(wallet, id, "algorithmLog"), /to the log\n/);
  ok("raw code: what it wrote is in the log");
  return id;
}

async function asset(wallet, environment) {
  const dataset = await service(env.PEERS_OCEAN_DATASET);
  const algorithm = await service(env.PEERS_OCEAN_ALGORITHM);
  algorithm.algocustomdata = { column: "age" };
  const seconds = environment.maxJobDuration;
  const chain = Number(env.PEERS_OCEAN_CHAIN);
  const told = await provider.initializeCompute(
    [dataset], algorithm, environment.id, ZERO, seconds, URL_, wallet.address, [], chain,
  );
  assert.equal(told.datasets.length, 1);
  ok("asset: told what the job takes");
  const started = await provider.computeStart(
    URL_, wallet, environment.id, [dataset], algorithm, seconds, ZERO, [], chain,
  );
  const id = one(started).jobId;
  ok("asset: started");
  await until(wallet, id, 70);
  const found = JSON.parse(await result(wallet, id, "output"));
  assert.deepEqual(found, JSON.parse(env.PEERS_OCEAN_EXPECTED));
  ok("asset: its result over the dataset is right");
}

async function stopped(wallet, environment) {
  const algorithm = { meta: meta(SLEEPER) };
  const id = one(await provider.freeComputeStart(URL_, wallet, environment.id, [], algorithm)).jobId;
  await until(wallet, id, 40);
  const logs = (await provider.computeStreamableLogs(URL_, wallet, id))[Symbol.asyncIterator]();
  const first = await logs.next();
  assert.match(Buffer.from(first.value).toString(), /asleep/);
  ok("logs: streamed while the job ran");
  await provider.computeStop(id, URL_, wallet);
  while (!(await logs.next()).done);
  const last = await until(wallet, id, 70);
  assert.ok(last.dateFinished);
  ok("stop: the job ended, and its stream of logs with it");
}

async function notForOthers(id) {
  const other = Wallet.createRandom();
  await assert.rejects(async () => text(await provider.getComputeResult(URL_, other, id, 0)));
  // As today's node does, the answer to a stop lists the jobs that it was for: none.
  assert.deepEqual(await provider.computeStop(id, URL_, other), []);
  assert.equal(await status(other, id), undefined);
  ok("others: neither result, nor stop, nor status");
}

async function tokens(wallet, id) {
  const token = await provider.generateAuthToken(wallet, URL_);
  assert.equal((await status(token, id)).jobId, id);
  const query = new URLSearchParams({ consumerAddress: wallet.address, jobId: id });
  const path = `${URL_}/api/services/compute?${query}`;
  const remove = () => fetch(path, { method: "DELETE", headers: { Authorization: token } });
  const removed = await remove();
  assert.equal(removed.status, 200, await removed.clone().text());
  assert.equal(one(await removed.json()).statusText, "Job deleted successfully");
  assert.equal(await status(wallet, id), undefined);
  ok("delete: by a token, and nothing of the job is left");
  assert.equal((await provider.invalidateAuthToken(wallet, token, URL_)).success, true);
  assert.equal((await remove()).ok, false);
  ok("token: taken back, and good for nothing after it");
}

async function main() {
  const wallet = Wallet.createRandom();
  assert.ok(await provider.isValidProvider(URL_));
  const environments = await provider.getComputeEnvironments(URL_);
  const free = environments.find((one) => one.free);
  assert.ok(free, JSON.stringify(environments));
  ok("environments: listed, and a free one found");
  const id = await rawCode(wallet, free);
  await asset(wallet, free);
  await stopped(wallet, free);
  await notForOthers(id);
  await tokens(wallet, id);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
