// What the page knows of a provider: its rows as they are, from which any moment since the oldest
// of them can be told. Times come in seconds and are kept in milliseconds.
"use strict";

const STAGES = { "": "starting", preparing: "starting", running: "running", publishing: "stopping" };
const ENDINGS = { completed: "running", lapsed: "unresponsive", released: "suspended", cancelled: "suspended" };
const MEANINGS = [["starting", "prepares"], ["running", "runs"], ["stopping", "publishes"],
  ["unresponsive", "worker lost"], ["suspended", "handed back"]];

const ms = (seconds) => seconds * 1000;

function ratio(value) { return Number(value.toPrecision(3)).toString(); }

class Provider {
  constructor() {
    this.began = null; this.ended = 0;
    this.ofDay = true;
    this.legend = MEANINGS;
    this.clear();
  }

  // Who comes back is told all anew.
  hello(now) {
    this.began = this.began === null ? now - 60000 : this.began;
    this.clear();
  }

  clear() {
    this.about = { name: "", served: null, lost_sec: 30, trouble: "" };
    this.queue = null;
    this.jobs = new Map(); this.workers = new Map(); this.samples = [];
    this.stale = true;
  }

  apply(record) {
    if (record.kind === "provider") this.about = record;
    else if (record.kind === "queue") this.queue = record;
    else if (record.kind === "sample") {
      if (!record.gone) this.samples.push([ms(record.at), record.waiting, record.running]);
    } else {
      const rows = record.kind === "job" ? this.jobs : this.workers;
      if (record.gone) rows.delete(record.id); else rows.set(record.id, record);
    }
    if (record.kind === "job" && !record.gone) this.began = Math.min(this.began, ms(record.created));
    this.stale = true;
  }

  // All attempts by worker, each with its job, in the order they began.
  prepare() {
    if (!this.stale) return;
    this.stale = false;
    this.byWorker = new Map([...this.workers.keys()].map((id) => [id, []]));
    for (const job of this.jobs.values())
      job.attempts.forEach((one, place) => {
        if (!this.byWorker.has(one.worker)) this.byWorker.set(one.worker, []);
        this.byWorker.get(one.worker).push({ ...one, job, place, begun: ms(one.begun), ended: one.ended === null ? null : ms(one.ended) });
      });
    for (const list of this.byWorker.values()) list.sort((one, other) => one.begun - other.begun);
    this.lanes = null; this.line = null;
  }

  // A lane for each run that a worker has at one time.
  get order() {
    this.prepare();
    if (this.lanes) return this.lanes;
    this.lanes = [];
    for (const [name, attempts] of [...this.byWorker].sort(([one], [other]) => (one < other ? -1 : 1))) {
      const worker = this.workers.get(name);
      if (worker && !worker.seen && !attempts.length) continue;  // it never came
      const slots = [new Lane(name, name)];
      for (const one of attempts) {
        let lane = slots.find((slot) => !slot.spans.length || slot.free <= one.begun);
        if (!lane) { lane = new Lane(name, name); lane.label = ""; slots.push(lane); }
        this.draw(lane, one);
      }
      this.lanes.push(...slots);
    }
    return this.lanes;
  }

  draw(lane, one) {
    lane.spans.push([one.begun, one.ending ? ENDINGS[one.ending] || "pending" : STAGES[one.stage] || "running",
      one.number, one.job.id.slice(0, 12), one.reason, one]);
    lane.free = one.ended === null ? Infinity : one.ended;
    if (one.ended === null) return;
    lane.spans.push([one.ended, GONE, 0, "", ""]);
    if (one.ending === "lapsed") lane.marks.push([one.ended, "failure", "the worker was lost"]);
    else if (one.ending === "released") lane.marks.push([one.ended, "restart", `handed back: ${one.reason}`]);
    else if (one.reason) lane.marks.push([one.ended, "failure", one.reason]);
  }

  tell(lane, time, reach, now) {
    const words = [`worker ${lane.id}`], span = lane.spanAt(time ?? now);
    if (span) {
      const one = span[5], until = one.ended === null ? now : one.ended;
      words.push(`job ${one.job.id}, attempt ${one.number}`, `${one.stage || "claimed"}, ${lasted(until - one.begun)}`);
      if (one.ending) words.push(`${one.ending}${one.reason ? `: ${one.reason}` : ""}`);
    }
    for (const [at, , text] of lane.marks) if (time !== null && Math.abs(at - time) <= reach) words.push(text);
    return words.join("\n");
  }

  jobsAt(time, now) {
    this.prepare();
    const rows = [];
    for (const job of this.jobs.values()) if (ms(job.created) <= time) rows.push(this.jobAt(job, time, now));
    return rows.sort((one, other) => one.rank - other.rank || one.at - other.at);
  }

  jobAt(job, time, now) {
    const created = ms(job.created), over = job.finished !== null && ms(job.finished) <= time;
    const begun = job.attempts.filter((one) => ms(one.begun) <= time);
    const last = begun[begun.length - 1];
    const runs = !over && last && (last.ended === null || ms(last.ended) > time);
    const waits = begun.length ? "waits again" : "waits";
    return {
      id: job.id, runs: job.runs, environment: job.environment, owner: job.owner,
      state: over ? "" : runs ? STAGES[last.stage] || "running" : "pending",
      tone: over ? TONES[job.outcome] || "" : "",
      words: over ? stateWords(job.outcome) : now ? (job.stopping ? `${job.text}, is to stop` : job.text) : runs ? "runs" : waits,
      worker: last ? last.worker : "", attempt: last ? last.number : 0,
      waited: (begun.length ? ms(begun[0].begun) : over ? ms(job.finished) : time) - created,
      took: (over ? ms(job.finished) : time) - created, size: over ? job.size : null,
      rank: over ? 2 : runs ? 0 : 1, at: over ? -job.finished : !runs && job.line ? job.line : job.created + 1e6,
      details: this.details(job, over, time),
    };
  }

  details(job, over, time) {
    const lines = [["job", job.id], ["consumer", job.owner], ["runs", `${job.runs}, on ${job.datasets} dataset${job.datasets === 1 ? "" : "s"}`]];
    for (const one of job.attempts) {
      if (ms(one.begun) > time) continue;
      const end = one.ended === null ? "" : `, ${one.ending === "lapsed" ? "lost" : one.ending} after ${lasted(ms(one.ended - one.begun))}`;
      lines.push([`attempt ${one.number}`, `${one.worker}, from ${clock(ms(one.begun)).slice(0, 8)}${end}${one.reason ? ` (${one.reason})` : ""}`]);
    }
    if (over && job.error) lines.push(["why", job.error]);
    return lines;
  }

  workersAt(time) {
    this.prepare();
    const rows = [];
    for (const worker of this.workers.values())
      if (ms(worker.created) <= time) rows.push(this.workerAt(worker, this.byWorker.get(worker.id), time));
    return rows.sort((one, other) => (one.id < other.id ? -1 : 1));
  }

  workerAt(worker, attempts, time) {
    const begun = attempts.filter((one) => one.begun <= time);
    const holds = begun.filter((one) => one.ended === null || one.ended > time);
    const ended = begun.filter((one) => one.ended !== null && one.ended <= time);
    const sum = (name) => holds.reduce((all, one) => all + one[name], 0);
    const lost = ended.filter((one) => one.ending === "lapsed");
    const again = ended.filter((one) => one.ending !== "completed"
      && one.job.attempts[one.place + 1] && ms(one.job.attempts[one.place + 1].begun) <= time);
    const age = Math.max(0, time - ms(worker.seen));
    return {
      id: worker.id, tags: worker.tags, age: worker.seen ? age : null, ...this.stateOf(worker, age, lost),
      cpu: [sum("cpu"), worker.cpu], ram: [sum("ram_mb"), worker.ram_mb],
      gpu: [sum("vram_mb"), worker.vram_mb], gpus: worker.gpus,
      running: holds.map((one) => one.job.id), done: ended.filter((one) => one.ending === "completed").length,
      lost: lost.length, again: again.length,
    };
  }

  // It is lost once its lease was over and nothing was heard of it since, or after a long silence.
  stateOf(worker, age, lost) {
    const limit = ms(this.about.lost_sec), seen = ms(worker.seen);
    if (!worker.seen) return { words: "never came", tone: "dim" };
    if (age > limit || lost.some((one) => one.ended > seen))
      return worker.draining ? { words: "ended", tone: "dim" } : { words: "lost", tone: "bad" };
    if (worker.draining) return { words: "draining", tone: "odd" };
    return age > limit / 2 ? { words: "silent", tone: "odd" } : { words: "alive", tone: "good" };
  }

  countsAt(time, now) {
    if (now && this.queue) {
      const { preparing, waiting, running, succeeded, failed, stopped } = this.queue;
      return { waiting: waiting + preparing, running, finished: succeeded + failed + stopped, failed };
    }
    const found = { waiting: 0, running: 0, finished: 0, failed: 0 };
    for (const row of this.jobsAt(time, false)) {
      found[["running", "waiting", "finished"][row.rank]] += 1;
      if (row.tone === "bad") found.failed += 1;
    }
    return found;
  }

  // How many waited and ran, as [time, waiting, running]: before anybody looked, as the jobs tell.
  series() {
    this.prepare();
    if (this.line) return this.line;
    const steps = [];
    for (const job of this.jobs.values()) {
      let from = ms(job.created);
      for (const one of job.attempts) {
        steps.push([from, 1, 0], [ms(one.begun), -1, 1]);
        if (one.ended === null) { from = null; break; }
        steps.push([ms(one.ended), 0, -1]);
        from = ms(one.ended);
      }
      const end = job.finished === null ? null : ms(job.finished);
      if (from !== null && (end === null || !job.attempts.length)) steps.push([from, 1, 0], ...(end === null ? [] : [[end, -1, 0]]));
    }
    steps.sort((one, other) => one[0] - other[0]);
    const first = this.samples.length ? this.samples[0][0] : Infinity;
    let waiting = 0, running = 0;
    this.line = [];
    for (const [at, more, runs] of steps) {
      if (at >= first) break;
      waiting += more; running += runs;
      this.line.push([at, waiting, running]);
    }
    this.line.push(...this.samples);
    return this.line;
  }
}
