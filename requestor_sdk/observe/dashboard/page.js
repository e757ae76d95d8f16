// Puts it together: takes events from the server, keeps the moment that is shown, fills the panels.
// A frame is drawn only where something changed; what is text is written four times a second.
"use strict";

const run = SUBJECT === "provider" ? new Provider() : new Run();
const colours = new Colours();
const gantt = new Gantt($("gantt"), $("scroll"), $("spacer"), colours);
const state = {
  live: false,      // whether the run may still tell something
  moment: null,     // the time that is shown; null for as late as there is
  playing: false, speed: 1, last: 0, skew: 0,
  cluster: "",      // the cluster, or of a provider the worker, that alone is shown
  selected: null,   // the id of the lane that was chosen
  job: null,        // the id of the job that was chosen
  dirty: true, came: false, drawnAt: 0, textAt: 0, eventsAt: -1, filter: "", filterWords: null, hits: null, hitsFor: "",
};

// What hands did is shown at once.
function touched() { state.textAt = 0; state.dirty = true; }

function shownTime() {
  if (run.began === null) return 0;
  if (state.moment !== null) return state.moment;
  return state.live ? Math.max(run.ended, Date.now() + state.skew) : run.ended;
}

function fromTime(time) {
  const seconds = Number($("window").value);
  return seconds ? Math.max(run.began, time - seconds * 1000) : run.began;
}

// Events ---------------------------------------------------------------------------------------

function connect() {
  const token = new URLSearchParams(location.search).get("token") || "";
  const source = new EventSource(`events?token=${encodeURIComponent(token)}`);
  source.addEventListener("hello", (message) => {
    const hello = JSON.parse(message.data);
    state.live = hello.live;
    state.skew = Date.parse(hello.now) - Date.now();
    run.hello(Date.parse(hello.now));
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

function lanesShown(time) {
  const which = $("which").value;
  return run.order.filter((lane) => {
    if (state.cluster && lane.cluster !== state.cluster) return false;
    if (!run.ofDay && lane.spans.length && lane.spans[0][0] > time) return false;
    if (which === "living") return lane.spanAt(time) !== null;
    if (which === "failed") return lane.marks.some(([at, kind]) => kind === "failure" && at <= time);
    return true;
  });
}

// The loop ---------------------------------------------------------------------------------------

const WRITERS = {
  run: [writeHead, writeStates, writeClusters, writeFunnel, writeMoney, writeTasks, writeBook, writeRows],
  provider: [writeProvider, writeFleet],
};

function frame(now) {
  requestAnimationFrame(frame);
  const passed = Math.min(now - state.last, 500);
  state.last = now;
  if (run.began === null) { if (state.dirty && SUBJECT === "run") writeHead(0); state.dirty = false; return; }
  if (state.playing) {
    const end = shownEnd();
    state.moment = Math.min(state.moment + passed * state.speed, end);
    if (state.moment >= end) { setPlaying(false); if (state.live) state.moment = null; }
    state.came = true;
  }
  // What hands do is shown at once; what merely moves, twenty times a second.
  const moves = state.came || (state.live && state.moment === null);
  if (!state.dirty && !(moves && now - state.drawnAt >= 45)) return;
  state.dirty = state.came = false;
  state.drawnAt = now;
  const time = shownTime();
  // Text is a quarter of a second behind at most; when nothing more comes the last one is written.
  if (now - state.textAt > 250) {
    state.textAt = now;
    state.lanes = lanesShown(time);
    for (const write of WRITERS[SUBJECT]) write(time);
    writeFoot(time);
  } else state.came = true;
  const from = fromTime(time);
  gantt.draw(run, state.lanes || [], from, Math.max(time, from + 1000), state.selected);
}

function writeFoot(time) {
  const whole = Math.max(shownEnd() - run.began, 1);
  if (document.activeElement !== $("time") || state.playing || state.moment === null)
    $("time").value = state.moment === null ? 10000 : Math.round((10000 * (time - run.began)) / whole);
  say($("moment"), `${run.ofDay ? "" : `${lasted(time - run.began)}, `}${clock(time).slice(0, 8)}`);
  say($("play"), state.playing ? "❚❚" : "▶");
  $("live").disabled = state.moment === null;
}

function shownEnd() { return state.live ? Math.max(run.ended, Date.now() + state.skew) : run.ended; }

function setPlaying(on) {
  if (on && (state.moment === null || state.moment >= shownEnd())) state.moment = run.began;
  state.playing = on && run.began !== null;
  touched();
}

// Hands on it --------------------------------------------------------------------------------------

// Chooses a lane, and shows only its events; null for none.
function pick(id, kind) {
  state.selected = id;
  if (kind !== "job") state.job = null;
  state.filter = $("filter").value = id === null ? "" : `${kind}=${id}`;
  touched();
}

function pickJob(id) {
  state.job = state.job === id ? null : id;
  if (SUBJECT === "run") pick(state.job, "job"); else touched();
}

function pickWorker(id) {
  const chosen = chosenWorker() === id ? "" : id;
  if (SUBJECT === "run") pick(chosen || null, "worker");
  else { state.cluster = state.selected = chosen; touched(); }
}

function tipAt(event) {
  const box = $("gantt").getBoundingClientRect();
  const lane = gantt.laneAt(event.clientY - box.top);
  const x = event.clientX - box.left;
  if (!lane || x < 0 || x > box.width) return "";
  return run.tell(lane, x < gantt.left ? null : gantt.timeAt(x), 6 / gantt.scale, shownTime());
}

function listen() {
  $("scroll").addEventListener("scroll", () => { state.dirty = true; }, { passive: true });
  $("rows").addEventListener("scroll", () => { touched(); }, { passive: true });
  for (const id of ["window", "which"]) $(id).addEventListener("change", () => { touched(); });
  $("filter").addEventListener("input", () => { state.filter = $("filter").value; touched(); });
  $("time").addEventListener("input", () => {
    const part = Number($("time").value) / 10000;
    state.playing = false;
    state.moment = part >= 1 ? null : run.began + part * (shownEnd() - run.began);
    touched();
  });
  $("play").addEventListener("click", () => setPlaying(!state.playing));
  $("live").addEventListener("click", () => { state.moment = null; state.playing = false; touched(); });
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
    if (SUBJECT === "provider") pickWorker(lane ? lane.id : "");
    else if (lane && lane.isJob) pickJob(lane.id);
    else pick(lane && lane.id !== state.selected ? lane.id : null, "instance");
  });
  new ResizeObserver(() => { touched(); }).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours.read(); touched(); });
}

$("legend").replaceChildren(...run.legend.map(([name, word]) => make("span", {}, make("i", { class: `s-${name}` }), word)));
if (run.ofDay) { $("window").value = "900"; $("which").parentElement.hidden = true; gantt.left = 150; gantt.letter = 7.8; }
makeTables();
listen();
connect();
requestAnimationFrame(frame);
