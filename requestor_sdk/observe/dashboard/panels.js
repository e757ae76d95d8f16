// What the panels say at a moment. Each is written only where it differs from what it said.
"use strict";

const $ = (id) => document.getElementById(id);
const SUBJECT = document.body.dataset.subject;

// Puts nodes into a box where a key says that they are others than before.
function fill(box, key, nodes) {
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(...nodes());
}

function bars(box, numbers) {
  const most = Math.max(...numbers.map(([, number]) => number), 1);
  fill(box, numbers.join(), () => [make("div", { class: "bars" }, ...numbers.flatMap(([name, number]) => [
    make("span", { title: name }, name), make("div", {}, make("i", { width: `${(100 * number) / most}%` })), make("b", {}, `${number}`)]))]);
}

// Of a run ----------------------------------------------------------------------------------------

function writeHead(time) {
  const phase = run.textAt(run.phases, time) || (run.id ? "" : "waiting for the run");
  document.title = run.id ? `run ${run.id}: ${phase}` : "waiting for a run";
  say($("title"), run.id ? `run ${run.id}` : "no run yet");
  say($("phase"), phase);
  $("phase").classList.toggle("bad", phase === "failed");
  const missing = run.missing ? `, ${run.missing} older events are left out` : "";
  say($("about"), run.began === null ? "" : `on ${run.network || "?"}, ${lasted(time - run.began)}${missing}`);
  say($("notice"), run.textAt(run.notices, time));
}

function writeStates(time) {
  const { counts, over } = run.countsAt(time);
  const living = [...counts.values()].reduce((sum, one) => sum + one, 0);
  // A run that had jobs done and rented nothing has none of this to show.
  const jobsOnly = run.hasJobsOnly();
  for (const id of ["statesbox", "costbox", "clustersbox", "offersbox"]) $(id).hidden = jobsOnly;
  document.querySelector("main").classList.toggle("alone", jobsOnly && !run.jobs.size);
  say($("number"), `${living}`);
  const all = [...counts, ["over", over]], key = all.map((one) => one.join(":")).join();
  fill($("states"), key, () => [...counts].filter(([, number]) => number).map(([name, number]) =>
    make("i", { class: `s-${name}`, width: `${(100 * number) / living}%` })));
  fill($("counts"), key, () => all.map(([name, number]) =>
    make("span", { class: "key" }, make("span", {}, make("i", { class: `s-${name}` }), name), make("b", {}, `${number}`))));
}

function writeClusters(time) {
  const found = new Map();
  for (const lane of run.order) {
    if (lane.isJob) continue;
    const row = found.get(lane.cluster) || { all: 0, running: 0, cost: 0 };
    row.all += 1;
    const span = lane.spanAt(time);
    if (span && span[1] === "running") row.running += 1;
    row.cost += lane.costAt(time);
    found.set(lane.cluster, row);
  }
  fill($("clusters"), JSON.stringify([...found]) + state.cluster, () => [make("table", {}, ...[...found].map(([id, row]) => {
    const line = make("tr", { class: `pick${id === state.cluster ? " on" : ""}`, title: "show only its instances" },
      make("td", {}, `${id || "none"} ${run.services.get(id) || ""}`),
      make("td", { class: "num" }, `${row.running}/${row.all}`), make("td", { class: "num" }, amount(row.cost)));
    line.addEventListener("click", () => {
      state.cluster = state.cluster === id ? "" : id;
      touched();
    });
    return line;
  }))]);
}

function writeFunnel(time) {
  bars($("funnel"), Object.entries(run.funnel).map(([name, list]) => [name, placeAt(list, time) + 1]));
}

function writeMoney(time) {
  const [, spent, held, budget] = run.moneyAt(time);
  const key = `spent ${amount(spent)}|held ${amount(held)}|budget ${amount(budget)}`;
  fill($("money"), key, () => key.split("|").map((text) => make("span", {}, text)));
  if (!$("costbox").hidden) drawCost($("cost"), run, time, colours);
}

function writeTasks(time) {
  const jobs = [...run.jobs.values()].filter((job) => job.began !== null && job.began <= time);
  $("tasksbox").hidden = !jobs.length;
  const rows = jobs.map((job) => [job.id, job.workers, placeAt(job.started, time) + 1, placeAt(job.done, time) + 1,
    placeAt(job.failed, time) + 1, job.ended !== null && job.ended <= time]);
  fill($("tasks"), rows.join(";"), () => rows.flatMap(([id, workers, started, done, failed, over]) => {
    const all = Math.max(started, done + failed, 1);
    return [make("div", {}, `${id}: ${done} done, ${failed} not, ${started} attempts, up to ${workers} workers${over ? ", over" : ""}`),
      make("div", { class: "progress" }, make("i", { class: "done", width: `${(100 * done) / all}%` }),
        make("i", { class: "failed", width: `${(100 * failed) / all}%` }))];
  }));
}

function writeBook(time) {
  const jobs = run.book.jobsAt(time), workers = run.book.workersAt(time);
  showTables(jobs, workers);
  const open = jobs.filter((row) => !row.rank).length;
  say($("jobsnumber"), `${jobs.length}`);
  say($("jobsnote"), open ? `${open} not over` : "all over");
}

// Of a provider -----------------------------------------------------------------------------------

function writeProvider(time) {
  const now = state.moment === null, { name, served, trouble } = run.about;
  const counts = run.countsAt(time, now);
  document.title = `jobs: ${counts.running} running, ${counts.waiting} waiting`;
  say($("title"), "provider of jobs");
  say($("phase"), served === null ? "" : served ? "serving" : "no server runs");
  $("phase").hidden = served === null;
  $("phase").classList.toggle("bad", served === false);
  say($("about"), name);
  say($("notice"), trouble);
  for (const id of ["waiting", "running", "finished", "failed"]) say($(`q-${id}`), `${counts[id]}`);
  const { waiting, running } = counts, all = Math.max(waiting + running, 1);
  fill($("queuestack"), `${waiting}:${running}`, () => [["running", running], ["waiting", waiting]].map(([which, number]) =>
    make("i", { class: `q-${which}`, width: `${(100 * number) / all}%` })));
  const open = Object.entries(run.queue && now ? run.queue.open_in : {}).sort();
  $("environmentsbox").hidden = !open.length;
  bars($("environments"), open);
  drawLine($("line"), run, fromTime(time), time, colours);
}

function writeFleet(time) {
  const now = state.moment === null, jobs = run.jobsAt(time, now), workers = run.workersAt(time);
  const named = (row) => !state.cluster || row.worker === state.cluster;
  for (const lane of run.order) lane.faulty = workers.some((one) => one.id === lane.id && one.words === "lost");
  showTables(jobs.filter(named), workers);
  const alive = workers.filter((one) => one.tone === "good").length, lost = workers.filter((one) => one.words === "lost").length;
  say($("jobsnumber"), `${jobs.filter(named).length}`);
  say($("jobsnote"), state.cluster ? `of worker ${state.cluster}` : "what runs, what is next, and the newest");
  say($("workersnumber"), `${workers.length}`);
  say($("workersnote"), `${alive} alive${lost ? `, ${lost} lost` : ""}; attempts are those of the jobs below`);
}

// Both --------------------------------------------------------------------------------------------

const tables = {};

function makeTables() {
  const columns = (all, names) => names.split(" ").map((name) => all[name]);
  const jobs = SUBJECT === "run" ? "job runs environment status worker took left next"
    : "job status worker runs environment waited took left consumer";
  const workers = SUBJECT === "run" ? "worker now done failed again" : "worker state heard cpu memory gpu runs done lost again tags";
  tables.jobs = new Table($("jobs"), columns(JOB_COLUMNS, jobs), 26, (id) => pickJob(id));
  tables.workers = new Table($("workers"), columns(WORKER_COLUMNS, workers), 28, (id) => pickWorker(id));
}

// Of a run the worker whose events alone are shown, of a provider the one whose jobs are.
function chosenWorker() {
  if (SUBJECT === "provider") return state.cluster;
  return state.filter.startsWith("worker=") ? state.filter.slice("worker=".length) : "";
}

function showTables(jobs, workers) {
  const none = SUBJECT === "run" && !jobs.length;
  if ($("tables").hidden !== none) { $("tables").hidden = none; state.dirty = true; }
  $("workersbox").hidden = !workers.length;
  if (SUBJECT === "run") say($("workersnumber"), `${workers.length}`);
  const names = SUBJECT === "run" ? workers.length > 0 : workers.some((row) => row.gpus);
  $("tables").classList.toggle(SUBJECT === "run" ? "named" : "gpus", names);
  tables.jobs.show(jobs, state.job);
  tables.workers.show(workers, chosenWorker());
}
