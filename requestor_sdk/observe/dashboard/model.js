// What the page knows of the run: an append-only store that can be asked about any moment.
// The server sends events as the journal has them; amounts come added up in the field "$".
"use strict";

const STATES = ["pending", "starting", "running", "unresponsive", "stopping", "suspended"];

const GONE = "";  // the state of all instances while no process of the run lived

// The last place in a sorted list of [time, ...] that is not later than a time; -1 before the first.
function placeAt(list, time) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle][0] <= time) low = middle + 1; else high = middle;
  }
  return low - 1;
}

class Lane {
  constructor(id, cluster) {
    this.id = id;
    this.cluster = cluster;
    this.spans = [];    // [begin, state, attempt, provider, cause], until the next one begins
    this.end = null;    // when the instance was over
    this.batches = [];  // [begin, end or null, text, error]
    this.marks = [];    // [time, kind, text]
    this.costs = [];    // [time, amount]
    this.tasks = [];    // [time, text]
    this.label = id;
    this.isJob = false; // whether it is a compute-to-data job, and no instance
    this.faulty = false;
  }

  spanAt(time) {
    const place = placeAt(this.spans, time);
    if (place < 0 || (this.end !== null && this.end <= time)) return null;
    return this.spans[place][1] === GONE ? null : this.spans[place];
  }

  costAt(time) {
    const place = placeAt(this.costs, time);
    return place < 0 ? 0 : this.costs[place][1];
  }
}

class Run {
  constructor() {
    this.id = ""; this.network = "";
    this.began = null; this.ended = null;
    this.lanes = new Map();
    this.order = [];
    this.services = new Map();
    this.clusters = new Map();
    this.funnel = { seen: [], scored: [], "ruled out": [], negotiated: [], agreed: [] };
    this.money = [];    // [time, spent, held, budget]
    this.phases = [];   // [time, text]: how the run as a whole is
    this.notices = [];  // [time, text]: why nothing moves
    this.jobs = new Map();  // of tasks
    this.book = new JobBook();  // compute-to-data jobs
    this.events = [];   // [time, record]
    this.scripts = new Map();
    this.missing = 0;
    this.ofDay = false;  // whether its times are told as those of a day
    this.legend = STATES.map((state) => [state, state]);
  }

  hello() {}

  hasJobsOnly() { return this.book.jobs.size > 0 && !this.funnel.seen.length && this.order.every((lane) => lane.isJob); }

  lane(id, cluster) {
    let lane = this.lanes.get(id);
    if (!lane) {
      lane = new Lane(id, cluster || "");
      this.lanes.set(id, lane);
      this.order.push(lane);
    }
    if (cluster && !lane.cluster) lane.cluster = cluster;
    return lane;
  }

  job(id) {
    if (!this.jobs.has(id))
      this.jobs.set(id, { id, began: null, ended: null, workers: 0, started: [], done: [], failed: [] });
    return this.jobs.get(id);
  }

  apply(record) {
    const time = Date.parse(record.at);
    this.began = this.began === null ? time : Math.min(this.began, time);
    this.ended = this.ended === null ? time : Math.max(this.ended, time);
    this.events.push([time, record]);
    const money = record["$"];
    if (money) {
      this.money.push([time, money.spent, money.held, money.budget]);
      if (money.instance) this.lane(money.instance).costs.push([time, money.cost]);
    }
    const take = TAKE[record.kind];
    if (take) take(this, record, time);
  }

  moneyAt(time) {
    const place = placeAt(this.money, time);
    return place < 0 ? [time, 0, 0, 0] : this.money[place];
  }

  // What the pointer at a moment of a lane is told.
  tell(lane, time, reach, now) {
    const words = [lane.id], service = this.services.get(lane.cluster);
    if (lane.isJob) words[0] = `job ${lane.id}`;
    else if (lane.cluster) words[0] += ` of ${lane.cluster}${service ? `, ${service}` : ""}`;
    const span = lane.spanAt(time ?? now);
    if (span) words.push(`${span[1]}, attempt ${span[2]}${span[3] ? ` on ${span[3]}` : ""}${span[4] ? `\n${span[4]}` : ""}`);
    for (const [at, , text] of lane.marks) if (time !== null && Math.abs(at - time) <= reach) words.push(text);
    const bar = lane.batches.find(([begin, end]) =>
      time !== null && begin - reach / 2 <= time && time <= (end === null ? Infinity : end) + reach / 2);
    if (bar) words.push(`batch: ${bar[2]}${bar[3] ? `\n${bar[3]}` : ""}`);
    const task = time === null ? "" : this.textAt(lane.tasks, time);
    if (task) words.push(`task ${task}`);
    if (!lane.isJob) words.push(`cost ${amount(lane.costAt(now))}`);
    return words.join("\n");
  }

  textAt(list, time) {
    const place = placeAt(list, time);
    return place < 0 ? "" : list[place][1];
  }

  countsAt(time) {
    const counts = new Map(STATES.map((state) => [state, 0]));
    let over = 0;
    for (const lane of this.order) {
      if (lane.isJob) continue;
      const span = lane.spanAt(time);
      if (span) counts.set(span[1], (counts.get(span[1]) || 0) + 1);
      else if (lane.end !== null && lane.end <= time) over += 1;
    }
    return { counts, over };
  }
}

const TAKE = {
  ComputationStarted(run, e, t) {
    run.id = e.run_id; run.network = e.network; run.phases.push([t, "running"]);
  },
  ComputationRecovered(run, e, t) {
    run.id = e.run_id; run.network = e.network;
    const last = run.events.length > 1 ? run.events[run.events.length - 2][0] : t;
    run.phases.push([last, "crashed"], [t, "recovered"]);
    for (const lane of run.order)
      if (lane.end === null && lane.spans.length) lane.spans.push([last, GONE, 0, "", ""]);
    for (const bar of run.scripts.values()) { bar[1] = last; bar[3] = "its process died"; }
    run.scripts.clear();
  },
  ServiceTakenUp(run, e, t) {
    const lane = run.lane(e.instance_id, e.cluster_id);
    const before = lane.spans[lane.spans.length - 2];
    if (before && lane.spans[lane.spans.length - 1][1] === GONE) lane.spans.push([t, ...before.slice(1)]);
    lane.marks.push([t, "restart", "taken up by another process"]);
  },
  ShutdownStarted(run, e, t) { run.phases.push([t, "stopping"]); },
  ComputationFinished(run, e, t) {
    run.phases.push([t, e.error ? "failed" : "over"]);
    run.notices.push([t, e.error || ""]);
  },
  ComputationSuspended(run, e, t) {
    run.phases.push([t, "suspended"]); run.notices.push([t, e.error || ""]);
  },
  ClusterStarted(run, e) {
    run.services.set(e.cluster_id, e.service);
  },
  ProposalReceived(run, e, t) { run.funnel.seen.push([t]); },
  ProposalScored(run, e, t) { run.funnel.scored.push([t]); },
  ProposalRejected(run, e, t) { run.funnel["ruled out"].push([t]); },
  ProposalConfirmed(run, e, t) { run.funnel.negotiated.push([t]); },
  AgreementConfirmed(run, e, t) { run.funnel.agreed.push([t]); run.notices.push([t, ""]); },
  AgreementCreated(run, e, t) {
    const lane = run.lane(e.instance_id, e.cluster_id);
    if (!lane.spans.length) lane.spans.push([t, "pending", 1, "", ""]);
  },
  NoOffersYet(run, e, t) {
    const why = e.ruled_out ? `: ${e.ruled_out}` : "";
    run.notices.push([t, e.offers ? `none of ${e.offers} offers fits${why}` : "the market has no offers yet"]);
  },
  BudgetExhausted(run, e, t) {
    run.notices.push([t, `the budget has no room: an offer may cost ${amount(e.needed)}, ${amount(e.available)} is available`]);
  },
  LoopRetried(run, e, t) { run.notices.push([t, `${e.loop}: ${e.error}; trying again`]); },
  ServiceStateChanged(run, e, t) {
    const lane = run.lane(e.instance_id, e.cluster_id);
    if (!lane.spans.length && e.new === "terminated") lane.spans.push([t, e.old, e.attempt, "", ""]);
    const marked = lane.marks.length && lane.marks[lane.marks.length - 1][0] === t;
    if (e.cause && !marked && (e.new === "pending" || e.new === "terminated"))
      lane.marks.push([t, "failure", `${e.stimulus}: ${e.cause}`]);
    if (e.new === "terminated") { lane.end = t; return; }
    lane.end = null;
    const name = e.new === "pending" ? "" : e.provider_name || e.provider_id || "";
    lane.spans.push([t, e.new, e.attempt, name, e.cause || ""]);
  },
  ServiceFailed(run, e, t) {
    const first = e.error.split("\n")[0];
    run.lane(e.instance_id, e.cluster_id).marks.push([t, "failure", `attempt ${e.attempt} failed: ${first}`]);
  },
  ServiceRestarting(run, e, t) {
    run.lane(e.instance_id).marks.push([t, "restart", `attempt ${e.attempt} follows`]);
  },
  ServiceRenewing(run, e, t) {
    run.lane(e.instance_id).marks.push([t, "restart", `${e.successor_id} is to take its place`]);
  },
  ScriptSent(run, e, t) {
    const bar = [t, null, e.commands.slice(0, 6).join("; ") || "an empty batch", ""];
    run.scripts.set(e.script_id, bar);
    run.lane(e.instance_id).batches.push(bar);
  },
  ScriptFinished(run, e, t) {
    const bar = run.scripts.get(e.script_id);
    if (bar) { bar[1] = t; bar[3] = e.error || ""; run.scripts.delete(e.script_id); }
  },
  JobStarted(run, e, t) {
    const job = run.job(e.job_id); job.began = t; job.workers = e.max_workers;
  },
  JobFinished(run, e, t) { run.job(e.job_id).ended = t; },
  ComputeJobSubmitted(run, e, t) {
    const lane = run.lane(e.job_id), job = run.book.submitted(e, t);
    lane.isJob = true;
    lane.spans.push([t, "pending", 1, job.provider, ""]);
  },
  ComputeJobStatusChanged(run, e, t) {
    const lane = run.lane(e.job_id), last = lane.spans[lane.spans.length - 1];
    lane.isJob = true;
    const job = run.book.changed(e, t), state = jobState(e.status), attempt = Math.max(e.attempt || 0, last ? last[2] : 1);
    const who = job.workerAt(t) || job.provider;
    if (last && attempt > last[2]) lane.marks.push([t, "restart", `attempt ${attempt}${e.worker ? `, by worker ${e.worker}` : ""}`]);
    if (!last || last[1] !== state || last[2] !== attempt || last[3] !== who) lane.spans.push([t, state, attempt, who, ""]);
  },
  ComputeJobFinished(run, e, t) {
    const lane = run.lane(e.job_id);
    lane.isJob = true;
    run.book.finished(e, t);
    lane.end = t;
    if (e.outcome !== "succeeded")
      lane.marks.push([t, "failure", e.error ? `${e.outcome}: ${e.error}` : e.outcome]);
  },
  TaskStarted(run, e, t) {
    run.job(e.job_id).started.push([t]);
    run.lane(e.instance_id).tasks.push([t, `${e.task_id}, attempt ${e.attempt}`]);
  },
  TaskAccepted(run, e, t) { run.lane(e.instance_id).tasks.push([t, ""]); },
  TaskRejected(run, e, t) { run.lane(e.instance_id).tasks.push([t, ""]); },
  TaskAttemptFailed(run, e, t) {
    const lane = run.lane(e.instance_id);
    lane.tasks.push([t, ""]);
    lane.marks.push([t, "failure", `${e.task_id}: ${e.error.split("\n")[0]}`]);
  },
  TaskFinished(run, e, t) {
    const job = run.job(e.job_id);
    (e.status === "accepted" ? job.done : job.failed).push([t]);
  },
};

// Words ------------------------------------------------------------------------------------------

function amount(value) {
  const number = Number(value);
  if (!number) return "0";
  return Number(number.toPrecision(Math.abs(number) < 0.001 ? 3 : 6)).toString().includes("e")
    ? number.toFixed(9).replace(/0+$/, "") : Number(number.toPrecision(6)).toString();
}

function lasted(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor(whole / 60) % 60).padStart(2, "0")} min`;
}

function bytes(number) {
  if (number === null || number === undefined) return "";
  let value = number, unit = "B";
  for (const larger of ["KiB", "MiB", "GiB", "TiB"]) { if (value < 1023.95) break; value /= 1024; unit = larger; }
  return unit === "B" ? `${number} B` : `${value.toFixed(1)} ${unit}`;
}

function short(id, most) {
  const head = Math.floor(most / 2);
  return id.length <= most ? id : `${id.slice(0, head)}…${id.slice(head + 1 - most)}`;
}

function clock(ms) {
  return new Date(ms).toTimeString().slice(0, 8) + "." + String(ms % 1000).padStart(3, "0");
}

const HIDDEN = new Set(["v", "n", "kind", "at", "$", "traceback", "counters", "coeffs", "fixed", "threads"]);

// Networks count to the eighteenth decimal; zeros there hide the amount.
const IDLE = /^(-?\d+(?:\.\d*?[1-9])?)\.?0+$(?<=\..*)/;

function told(record) {
  const words = [];
  for (const [name, value] of Object.entries(record)) {
    if (HIDDEN.has(name) || value === null || value === "" || (Array.isArray(value) && !value.length)) continue;
    if (name === "provider_id" && record.provider_name) continue;
    if (name === "attempt" && !value) continue;
    const text = Array.isArray(value) ? value.join(" | ") : String(value).split("\n")[0].replace(IDLE, "$1");
    words.push(`${name.replace(/_id$/, "")} ${text}`);
  }
  return words.join(", ");
}
