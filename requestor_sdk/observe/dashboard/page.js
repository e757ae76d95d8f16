// Puts it together: takes events from the server, keeps the moment that is shown, fills the panels.
// A frame is drawn only where something changed; what is text is written four times a second.
"use strict";

const $ = (id) => document.getElementById(id);
const run = new Run();
const colours = new Colours();
const gantt = new Gantt($("gantt"), $("scroll"), $("spacer"), colours);
const state = {
  live: false,      // whether the run may still tell something
  moment: null,     // the time that is shown; null for as late as there is
  playing: false, speed: 1, last: 0, skew: 0,
  cluster: "", selected: null,
  dirty: true, came: false, drawnAt: 0, textAt: 0, eventsAt: -1, filter: "", filterWords: null, hits: null, hitsFor: "",
};

// Text is set only where it differs: each write costs the browser a layout.
function say(node, text) { if (node.textContent !== text) node.textContent = text; }

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "width") node.style.width = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function shownTime() {
  if (run.began === null) return 0;
  if (state.moment !== null) return state.moment;
  return state.live ? Math.max(run.ended, Date.now() + state.skew) : run.ended;
}

// Events ---------------------------------------------------------------------------------------

function connect() {
  const token = new URLSearchParams(location.search).get("token") || "";
  const source = new EventSource(`events?token=${encodeURIComponent(token)}`);
  source.addEventListener("hello", (message) => {
    const hello = JSON.parse(message.data);
    state.live = hello.live;
    state.skew = Date.parse(hello.now) - Date.now();
    $("link").hidden = true;
    state.dirty = true;
  });
  source.addEventListener("message", (message) => {
    for (const record of JSON.parse(message.data)) run.apply(record);
    state.came = true;
  });
  source.addEventListener("skipped", (message) => { run.missing += JSON.parse(message.data); });
  source.addEventListener("end", () => {
    state.live = false;
    source.close();
    state.dirty = true;
    document.body.dataset.ended = "yes";
  });
  source.addEventListener("open", () => { $("link").hidden = true; });
  source.addEventListener("error", () => { $("link").hidden = false; });
}

// Panels ---------------------------------------------------------------------------------------

function lanesShown(time) {
  const which = $("which").value;
  return run.order.filter((lane) => {
    if (state.cluster && lane.cluster !== state.cluster) return false;
    if (lane.spans.length && lane.spans[0][0] > time) return false;
    if (which === "living") return lane.spanAt(time) !== null;
    if (which === "failed") return lane.marks.some(([at, kind]) => kind === "failure" && at <= time);
    return true;
  });
}

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
  say($("number"), `${living}`);
  const key = [...counts, ["over", over]].map((one) => one.join(":")).join();
  if ($("counts").dataset.key === key) return;
  $("counts").dataset.key = key;
  $("states").replaceChildren(...[...counts].filter(([, number]) => number).map(([name, number]) =>
    make("i", { class: `s-${name}`, width: `${(100 * number) / living}%` })));
  $("counts").replaceChildren(...[...counts, ["over", over]].map(([name, number]) =>
    make("span", { class: "key" }, make("span", {}, make("i", { class: `s-${name}` }), name), make("b", {}, `${number}`))));
}

function writeClusters(time) {
  const found = new Map();
  for (const lane of run.order) {
    const row = found.get(lane.cluster) || { all: 0, running: 0, cost: 0 };
    row.all += 1;
    const span = lane.spanAt(time);
    if (span && span[1] === "running") row.running += 1;
    row.cost += lane.costAt(time);
    found.set(lane.cluster, row);
  }
  const key = JSON.stringify([...found]) + state.cluster;
  if ($("clusters").dataset.key === key) return;
  $("clusters").dataset.key = key;
  $("clusters").replaceChildren(make("table", {}, ...[...found].map(([id, row]) => {
    const line = make("tr", { class: `pick${id === state.cluster ? " on" : ""}`, title: "show only its instances" },
      make("td", {}, `${id || "none"} ${run.services.get(id) || ""}`),
      make("td", { class: "num" }, `${row.running}/${row.all}`), make("td", { class: "num" }, amount(row.cost)));
    line.addEventListener("click", () => {
      state.cluster = state.cluster === id ? "" : id;
      state.dirty = true; state.textAt = 0;
    });
    return line;
  })));
}

function writeFunnel(time) {
  const numbers = Object.entries(run.funnel).map(([name, list]) => [name, placeAt(list, time) + 1]);
  const most = Math.max(...numbers.map(([, number]) => number), 1);
  const key = numbers.join();
  if ($("funnel").dataset.key === key) return;
  $("funnel").dataset.key = key;
  $("funnel").replaceChildren(make("div", { class: "bars" }, ...numbers.flatMap(([name, number]) => [
    make("span", {}, name), make("div", {}, make("i", { width: `${(100 * number) / most}%` })), make("b", {}, `${number}`)])));
}

function writeMoney(time) {
  const [, spent, held, budget] = run.moneyAt(time);
  const key = `spent ${amount(spent)}|held ${amount(held)}|budget ${amount(budget)}`;
  if ($("money").dataset.key === key) return;
  $("money").dataset.key = key;
  $("money").replaceChildren(...key.split("|").map((text) => make("span", {}, text)));
}

function writeJobs(time) {
  const jobs = [...run.jobs.values()].filter((job) => job.began !== null && job.began <= time);
  $("jobsbox").hidden = !jobs.length;
  const rows = jobs.map((job) => [job.id, job.workers, placeAt(job.started, time) + 1, placeAt(job.done, time) + 1,
    placeAt(job.failed, time) + 1, job.ended !== null && job.ended <= time]);
  const key = rows.join(";");
  if ($("jobs").dataset.key === key) return;
  $("jobs").dataset.key = key;
  $("jobs").replaceChildren(...rows.flatMap(([id, workers, started, done, failed, over]) => {
    const all = Math.max(started, done + failed, 1);
    return [make("div", {}, `${id}: ${done} done, ${failed} not, ${started} attempts, up to ${workers} workers${over ? ", over" : ""}`),
      make("div", { class: "progress" }, make("i", { class: "done", width: `${(100 * done) / all}%` }),
        make("i", { class: "failed", width: `${(100 * failed) / all}%` }))];
  }));
}

// The list of events -----------------------------------------------------------------------------

const ROW = 19;
const BAD = /Failed|Rejected|Abandoned|Exhausted|NoOffers|Retried|LeftOver/;

function matcher(text) {
  const words = text.trim().split(/\s+/).filter(Boolean);
  return words.length ? (record) => words.every((word) => {
    const [key, value] = word.includes("=") ? [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)] : [null, word];
    if (key !== null) return String(record[`${key}_id`] ?? record[key] ?? "") === value;
    if (record.kind.toLowerCase().includes(word.toLowerCase())) return true;
    return Object.entries(record).some(([name, own]) => name.endsWith("_id") ? own === word
      : !HIDDEN.has(name) && own !== null && String(own).toLowerCase().includes(word.toLowerCase()));
  }) : null;
}

function hits(until) {
  const matches = matcher(state.filter);
  if (!matches) return { get: (n) => run.events[n], size: until + 1 };
  if (state.hitsFor !== state.filter || !state.hits || state.hits.until > until)
    state.hits = { until: -1, list: [] };
  state.hitsFor = state.filter;
  for (let n = state.hits.until + 1; n <= until; n++) if (matches(run.events[n][1])) state.hits.list.push(n);
  state.hits.until = until;
  return { get: (n) => run.events[state.hits.list[n]], size: state.hits.list.length };
}

function writeRows(time) {
  const box = $("rows");
  const stuck = box.scrollTop + box.clientHeight >= box.scrollHeight - ROW * 2;
  const found = hits(placeAt(run.events, time));
  say($("found"), `${found.size} of ${run.events.length}`);
  const high = `${found.size * ROW}px`;
  if ($("rowspace").style.height !== high) $("rowspace").style.height = high;
  if (stuck) box.scrollTop = found.size * ROW;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW));
  const last = Math.min(found.size, first + Math.ceil(box.clientHeight / ROW) + 1);
  const key = `${first}:${last}:${found.size}:${state.filter}`;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const rows = [];
  for (let n = first; n < last; n++) {
    const [at, record] = found.get(n);
    rows.push(make("div", { class: `row${BAD.test(record.kind) || record.success === false ? " bad" : ""}` },
      make("span", { class: "at" }, clock(at)), " ", make("span", { class: "kind" }, record.kind), ` ${told(record)}`));
  }
  $("rowsin").style.transform = `translateY(${first * ROW}px)`;
  $("rowsin").replaceChildren(...rows);
}

// The loop ---------------------------------------------------------------------------------------

function frame(now) {
  requestAnimationFrame(frame);
  const passed = Math.min(now - state.last, 500);
  state.last = now;
  if (run.began === null) { if (state.dirty) { writeHead(0); state.dirty = false; } return; }
  if (state.playing) {
    state.moment = Math.min(state.moment + passed * state.speed, run.ended);
    if (state.moment >= run.ended) setPlaying(false);
    state.came = true;
  }
  // What hands do is shown at once; what merely moves, twenty times a second.
  const moves = state.came || (state.live && state.moment === null);
  if (!state.dirty && !(moves && now - state.drawnAt >= 45)) return;
  state.dirty = state.came = false;
  state.drawnAt = now;
  const time = shownTime();
  const seconds = Number($("window").value);
  const from = seconds ? Math.max(run.began, time - seconds * 1000) : run.began;
  // Text is a quarter of a second behind at most; when nothing more comes the last one is written.
  if (now - state.textAt > 250) {
    state.textAt = now;
    state.lanes = lanesShown(time);
    for (const write of [writeHead, writeStates, writeClusters, writeFunnel, writeMoney, writeJobs, writeRows]) write(time);
    drawCost($("cost"), run, time, colours);
    writeFoot(time);
  } else state.came = true;
  gantt.draw(run, state.lanes || [], from, Math.max(time, from + 1000), state.selected);
}

function writeFoot(time) {
  const whole = Math.max(shownEnd() - run.began, 1);
  if (document.activeElement !== $("time") || state.playing || state.moment === null)
    $("time").value = state.moment === null ? 10000 : Math.round((10000 * (time - run.began)) / whole);
  say($("moment"), `${lasted(time - run.began)}, ${clock(time).slice(0, 8)}`);
  say($("play"), state.playing ? "❚❚" : "▶");
  $("live").disabled = state.moment === null;
}

function shownEnd() { return state.live ? Math.max(run.ended, Date.now() + state.skew) : run.ended; }

function setPlaying(on) {
  if (on && (state.moment === null || state.moment >= run.ended)) state.moment = run.began;
  state.playing = on && run.began !== null;
  state.textAt = 0; state.dirty = true;
}

// Hands on it --------------------------------------------------------------------------------------

function tipAt(event) {
  const box = $("gantt").getBoundingClientRect();
  const lane = gantt.laneAt(event.clientY - box.top);
  const x = event.clientX - box.left;
  if (!lane || x < 0 || x > box.width) return "";
  const time = gantt.timeAt(Math.max(x, gantt.left)), reach = 6 / gantt.scale;
  const words = [lane.id];
  const service = run.services.get(lane.cluster);
  if (lane.cluster) words[0] += ` of ${lane.cluster}${service ? `, ${service}` : ""}`;
  const span = x < gantt.left ? lane.spanAt(shownTime()) : lane.spanAt(time);
  if (span) words.push(`${span[1]}, attempt ${span[2]}${span[3] ? ` on ${span[3]}` : ""}${span[4] ? `\n${span[4]}` : ""}`);
  for (const [at, , text] of lane.marks) if (Math.abs(at - time) <= reach) words.push(text);
  const bar = lane.batches.find(([begin, end]) => begin - reach / 2 <= time && time <= (end === null ? Infinity : end) + reach / 2);
  if (bar) words.push(`batch: ${bar[2]}${bar[3] ? `\n${bar[3]}` : ""}`);
  const task = run.textAt(lane.tasks, time);
  if (task) words.push(`task ${task}`);
  words.push(`cost ${amount(lane.costAt(shownTime()))}`);
  return words.join("\n");
}

function listen() {
  $("scroll").addEventListener("scroll", () => { state.dirty = true; }, { passive: true });
  $("rows").addEventListener("scroll", () => { state.dirty = true; state.textAt = 0; }, { passive: true });
  for (const id of ["window", "which"]) $(id).addEventListener("change", () => { state.dirty = true; state.textAt = 0; });
  $("filter").addEventListener("input", () => { state.filter = $("filter").value; state.textAt = 0; state.dirty = true; });
  $("time").addEventListener("input", () => {
    const part = Number($("time").value) / 10000;
    state.playing = false;
    state.moment = part >= 1 ? null : run.began + part * (shownEnd() - run.began);
    state.textAt = 0; state.dirty = true;
  });
  $("play").addEventListener("click", () => setPlaying(!state.playing));
  $("live").addEventListener("click", () => { state.moment = null; state.playing = false; state.textAt = 0; state.dirty = true; });
  $("speed").replaceChildren(...[1, 2, 5, 10, 30, 100, 1000].map((one) => make("option", { value: one }, `${one}×`)));
  $("speed").addEventListener("change", () => { state.speed = Number($("speed").value); });
  $("gantt").addEventListener("mousemove", (event) => {
    const text = tipAt(event);
    $("tip").hidden = !text;
    if (!text) return;
    say($("tip"), text);
    $("tip").style.left = `${Math.min(event.clientX + 14, innerWidth - 460)}px`;
    $("tip").style.top = `${Math.min(event.clientY + 14, innerHeight - 150)}px`;
  });
  $("gantt").addEventListener("mouseleave", () => { $("tip").hidden = true; });
  $("gantt").addEventListener("click", (event) => {
    const lane = gantt.laneAt(event.clientY - $("gantt").getBoundingClientRect().top);
    state.selected = lane === state.selected ? null : lane;
    state.filter = $("filter").value = state.selected ? `instance=${state.selected.id}` : "";
    state.textAt = 0; state.dirty = true;
  });
  new ResizeObserver(() => { state.dirty = true; state.textAt = 0; }).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours.read(); state.dirty = true; state.textAt = 0; });
}

$("legend").replaceChildren(...STATES.map((name) => make("span", {}, make("i", { class: `s-${name}` }), name)));
listen();
connect();
requestAnimationFrame(frame);
