// The compute-to-data jobs of a run, and the workers that have them, at any moment; of a foreign
// provider, which names no worker, there are none.
"use strict";

function jobState(code) { return code < 20 ? "pending" : code < 40 ? "starting" : code < 50 ? "running" : "stopping"; }

function stateWords(text) { return text.replaceAll("_", " ").trim(); }

const TONES = { succeeded: "good", failed: "bad", timed_out: "bad", expired: "bad", stopped: "dim" };

// A word of a shell's command line; null for what none can hold.
function quoted(word) {
  if (/[\u0000-\u001f\u007f]/.test(word)) return null;
  return /^[\w.:/@%+=,-]+$/.test(word) && !word.startsWith("-") ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

class ComputeJob {
  constructor(id, time) {
    this.id = id; this.began = time;
    this.runs = ""; this.datasets = []; this.environment = ""; this.provider = ""; this.address = "";
    this.versions = [];  // [time, status number, words]
    this.attempts = [];  // [time, number, worker]: where they are told
    this.end = null;     // what is told of its end
    this.ended = null;
  }

  attemptAt(time) {
    const place = placeAt(this.attempts, time);
    return place < 0 ? null : this.attempts[place];
  }

  workerAt(time) { const attempt = this.attemptAt(time); return attempt ? attempt[2] : ""; }

  overAt(time) { return this.ended !== null && this.ended <= time; }

  // What a user would type next; empty where no command can reach the job any more.
  next(over) {
    if (!this.address.includes("://")) return "";
    const id = quoted(this.id), url = quoted(this.address);
    if (id === null || url === null) return "";
    const verb = over && this.end.outcome === "succeeded" ? "result" : "logs";
    return `requestor-sdk job ${verb} ${id} --url ${url}`;
  }

  rowAt(time) {
    const over = this.overAt(time), attempt = this.attemptAt(time);
    const [, code, words] = this.versions[placeAt(this.versions, time)] || [0, 0, "submitted"];
    const took = over ? (this.end.seconds ?? (this.ended - this.began) / 1000) * 1000 : time - this.began;
    return {
      id: this.id, runs: this.runs || "?", environment: this.environment, provider: this.provider,
      state: over ? "" : jobState(code), tone: over ? TONES[this.end.outcome] || "" : "",
      words: over ? stateWords(this.end.outcome) : words || `status ${code}`,
      worker: attempt ? attempt[2] : "", attempt: attempt ? attempt[1] : 0, took,
      size: over ? this.end.size ?? null : null, next: this.next(over),
      rank: over ? 1 : 0, at: over ? this.ended : this.began, details: this.details(time, over),
    };
  }

  details(time, over) {
    const lines = [["job", this.id], ["runs", this.runs], ["on", this.datasets.join(", ")], ["at", this.address]];
    for (const [at, number, worker] of this.attempts) if (at <= time) lines.push([`attempt ${number}`, `${worker}, from ${clock(at)}`]);
    if (over && this.end.exit_code !== null) lines.push(["exit code", `${this.end.exit_code}`]);
    if (over && this.end.error) lines.push(["why", this.end.error]);
    return lines.filter(([, text]) => text);
  }
}

class JobBook {
  constructor() { this.jobs = new Map(); }

  job(id, time) {
    if (!this.jobs.has(id)) this.jobs.set(id, new ComputeJob(id, time));
    return this.jobs.get(id);
  }

  submitted(e, t) {
    const job = this.job(e.job_id, t);
    job.runs = e.algorithm; job.datasets = e.datasets; job.environment = e.environment;
    job.address = e.provider_name; job.provider = e.provider_name.split("://").pop();
    return job;
  }

  changed(e, t) {
    const job = this.job(e.job_id, t);
    job.versions.push([t, e.status, e.text.trim()]);
    this.heard(job, e, t);
    return job;
  }

  finished(e, t) {
    const job = this.job(e.job_id, t);
    this.heard(job, e, t);
    job.ended = t; job.end = e;
    return job;
  }

  heard(job, e, t) {
    const last = job.attempts[job.attempts.length - 1];
    if (e.worker && (!last || last[1] !== e.attempt || last[2] !== e.worker)) job.attempts.push([t, e.attempt, e.worker]);
  }

  jobsAt(time) {
    const rows = [];
    for (const job of this.jobs.values()) if (job.began <= time) rows.push(job.rowAt(time));
    return rows.sort((one, other) => one.rank - other.rank || other.at - one.at);
  }

  // Each worker that was named by then, with what became of its attempts.
  workersAt(time) {
    const found = new Map();
    for (const job of this.jobs.values()) {
      job.attempts.forEach(([at, , name], place) => {
        if (at > time) return;
        const row = found.get(name) || { id: name, running: [], done: 0, failed: 0, again: 0 };
        found.set(name, row);
        const next = job.attempts[place + 1];
        if (next && next[0] <= time) row.again += 1;
        else if (!job.overAt(time)) row.running.push(job.id);
        else if (job.end.outcome === "succeeded") row.done += 1;
        else row.failed += 1;
      });
    }
    return [...found.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
  }
}
