// Draws the lanes and the cost on canvases. Only lanes that are seen are drawn, and of a lane only
// what lies in the window of time, so that a frame costs the same however long the run is.
"use strict";

class Colours {
  constructor() { this.read(); }
  read() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["ground", "band", "rule", "text", "faint", "batch", "failure", "restart",
      "cost", "costarea", "budget", "on", ...STATES])
      this[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

// Sizes a canvas to its box on the screen's own pixels; returns its context and size.
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const wide = Math.round(width * ratio), high = Math.round(height * ratio);
  if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
  const context = canvas.getContext("2d", { alpha: false });
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

// Labels say how long after the origin; of what has no beginning of its own, the time of day.
function ticks(from, until, origin, width, draw, ofDay) {
  const seconds = Math.max((until - from) / 1000, 0.001);
  const step = STEPS.find((one) => (one / seconds) * width >= 90) || 604800;
  for (let n = Math.ceil((from - origin) / 1000 / step); n * step * 1000 + origin <= until; n++) {
    const passed = n * step;
    const label = ofDay ? clock(passed * 1000 + origin).slice(0, step < 60 ? 8 : 5) : !passed ? "0 s" : passed < 60 && step < 60 ? `${Number(passed.toFixed(1))} s`
      : passed < 3600 ? `${Math.floor(passed / 60)}:${String(Math.round(passed % 60)).padStart(2, "0")} min`
        : `${Math.floor(passed / 3600)}:${String(Math.floor(passed / 60) % 60).padStart(2, "0")} h`;
    draw(((passed * 1000 + origin - from) / 1000 / seconds) * width, label);
  }
}

class Gantt {
  constructor(canvas, scroller, spacer, colours) {
    this.canvas = canvas; this.scroller = scroller; this.spacer = spacer; this.colours = colours;
    this.left = 120; this.right = 12; this.head = 24; this.letter = 7.3;
  }

  laneHeight(number) { return number <= 40 ? 24 : number <= 150 ? 18 : 14; }

  draw(run, lanes, from, until, selected) {
    const { context: c, width, height } = fitted(this.canvas);
    const k = this.colours, tall = this.laneHeight(lanes.length);
    this.tall = tall; this.lanes = lanes; this.from = from; this.until = until; this.width = width;
    const size = this.head + lanes.length * tall + 8;
    if (this.size !== size) {
      this.size = size;
      this.spacer.style.height = `${size}px`;
      this.scroller.parentElement.style.setProperty("--high", `${size}px`);
    }
    c.fillStyle = k.ground; c.fillRect(0, 0, width, height);
    const room = width - this.left - this.right, top = this.scroller.scrollTop;
    const scale = room / Math.max(until - from, 1);
    this.scale = scale;
    const first = Math.max(0, Math.floor(top / tall));
    const last = Math.min(lanes.length, Math.ceil((top + height) / tall));
    c.font = `${tall > 16 ? 12 : 10}px system-ui, "Segoe UI", "DejaVu Sans", sans-serif`;
    c.textBaseline = "middle";
    for (let place = first; place < last; place++)
      this.lane(c, lanes[place], place, this.head + place * tall - top, width, selected);
    this.axis(c, run, from, until, room, height);
  }

  axis(c, run, from, until, room, height) {
    const k = this.colours;
    c.fillStyle = k.ground; c.fillRect(0, 0, this.width, this.head);
    c.strokeStyle = k.rule; c.fillStyle = k.faint; c.lineWidth = 1; c.textAlign = "center";
    c.font = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
    const origin = run.ofDay ? new Date(from).setHours(0, 0, 0, 0) : run.began;
    ticks(from, until, origin, room, (x, label) => {
      const at = Math.round(this.left + x) + 0.5;
      c.beginPath(); c.moveTo(at, this.head - 4); c.lineTo(at, this.head); c.stroke();
      c.fillText(label, Math.min(Math.max(at, this.left + 16), this.width - 28), 10);
    }, run.ofDay);
    c.beginPath(); c.moveTo(0, this.head + 0.5); c.lineTo(this.width, this.head + 0.5); c.stroke();
    c.textAlign = "left";
  }

  lane(c, lane, place, y, width, selected) {
    const k = this.colours, tall = this.tall;
    if (lane.id === selected) { c.fillStyle = k.rule; c.fillRect(0, y, width, tall); }
    else if (place % 2 === 0) { c.fillStyle = k.band; c.fillRect(0, y, width, tall); }
    c.fillStyle = lane.faulty ? k.failure : k.text;
    c.fillText(this.fitting(c, lane.label), 10, y + tall / 2);
    this.spans(c, lane, y);
    this.batches(c, lane, y);
    for (const [at, kind] of lane.marks) {
      if (at < this.from || at > this.until) continue;
      const x = this.x(at) + (kind === "failure" ? -5 : 5), m = y + tall / 2;
      c.beginPath();
      if (kind === "failure") {
        c.strokeStyle = k.failure; c.lineWidth = 2;
        c.moveTo(x - 3.5, m - 3.5); c.lineTo(x + 3.5, m + 3.5); c.moveTo(x + 3.5, m - 3.5); c.lineTo(x - 3.5, m + 3.5);
        c.stroke();
      } else {
        c.fillStyle = k.restart;
        c.moveTo(x, m - 5); c.lineTo(x + 4.5, m); c.lineTo(x, m + 5); c.lineTo(x - 4.5, m);
        c.fill();
      }
    }
  }

  // A label as far as there is room for it, cut in its middle.
  fitting(c, label) {
    let most = Math.min(label.length, 40);
    const room = this.left - 18;
    if (c.measureText(label).width <= room) return label;
    while (most > 4 && c.measureText(short(label, most)).width > room) most -= 1;
    return short(label, most);
  }

  x(time) { return this.left + (time - this.from) * this.scale; }

  spans(c, lane, y) {
    const k = this.colours, tall = this.tall;
    let place = Math.max(0, placeAt(lane.spans, this.from));
    for (; place < lane.spans.length; place++) {
      const [begin, state, , provider] = lane.spans[place];
      if (begin > this.until) break;
      if (state === GONE) continue;
      const next = place + 1 < lane.spans.length ? lane.spans[place + 1][0] : lane.end;
      const end = Math.min(next === null ? this.until : next, this.until);
      if (end < this.from) continue;
      const left = Math.max(this.x(begin), this.left), wide = Math.max(this.x(end) - left, 0.8);
      c.fillStyle = k[state] || k.pending;
      c.fillRect(left, y + 2, wide, tall - 4);
      if (provider && wide > 44 && tall > 16) {
        c.fillStyle = k.on;
        const most = Math.floor((wide - 18) / this.letter);
        c.fillText(provider.length > most ? provider.slice(0, most - 1) + "…" : provider, left + 12, y + tall / 2 - 2);
      }
    }
  }

  batches(c, lane, y) {
    const k = this.colours, tall = this.tall;
    let last = -9;
    for (let place = Math.max(0, placeAt(lane.batches, this.from)); place < lane.batches.length; place++) {
      const [begin, end, , error] = lane.batches[place];
      if (begin > this.until) break;
      const left = Math.max(this.x(begin), this.left);
      const wide = Math.max(this.x(end === null ? this.until : Math.min(end, this.until)) - left, 1.2);
      if (left + wide < last + 1 && !error) continue;  // under the one before it
      last = left + wide;
      c.fillStyle = error ? k.failure : k.batch;
      c.fillRect(left, y + tall - 6, wide, 3.5);
    }
  }

  laneAt(y) {
    const place = Math.floor((y - this.head + this.scroller.scrollTop) / this.tall);
    return y < this.head || !this.lanes ? null : this.lanes[place] || null;
  }

  timeAt(x) { return this.from + (x - this.left) / this.scale; }
}

function drawCost(canvas, run, time, colours) {
  const { context: c, width, height } = fitted(canvas);
  const k = colours, left = 8, right = width - 52, top = 10, bottom = height - 18;
  c.fillStyle = k.ground; c.fillRect(0, 0, width, height);
  const [, spent, , budget] = run.moneyAt(time);
  let most = Math.max(spent * 1.05, 1e-9);
  const shows = budget > 0 && budget <= most * 4;
  if (shows) most = Math.max(most, budget);
  const from = run.began, until = Math.max(time, from + 1);
  const x = (at) => left + ((at - from) / (until - from)) * (right - left);
  const y = (value) => bottom - (value / most) * (bottom - top);
  c.font = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif'; c.textBaseline = "middle";
  c.strokeStyle = k.rule; c.lineWidth = 1; c.fillStyle = k.faint;
  for (const part of [0, 0.5, 1]) {
    const at = Math.round(y(most * part)) + 0.5;
    c.beginPath(); c.moveTo(left, at); c.lineTo(right, at); c.stroke();
    c.fillText(amount(Number((most * part).toPrecision(2))), right + 5, at);
  }
  const end = placeAt(run.money, time);
  const line = (value) => {
    c.beginPath(); c.moveTo(left, bottom);
    const step = Math.max(1, Math.floor(end / 2000));
    for (let n = 0; n <= end; n += step) {
      const at = x(run.money[n][0]);
      const before = n ? value(run.money[n - step]) : 0;
      c.lineTo(at, y(before)); c.lineTo(at, y(value(run.money[n])));
    }
    if (end >= 0) c.lineTo(right, y(value(run.money[end])));
  };
  c.fillStyle = k.costarea;
  line((m) => m[1]); c.lineTo(right, bottom); c.closePath(); c.fill();
  c.strokeStyle = k.cost; c.lineWidth = 2; line((m) => m[1]); c.stroke();
  if (shows) {
    c.strokeStyle = k.budget; c.setLineDash([5, 4]); c.lineWidth = 1;
    c.beginPath(); c.moveTo(left, y(budget)); c.lineTo(right, y(budget)); c.stroke(); c.setLineDash([]);
  }
}

// How many jobs waited and ran.
function drawLine(canvas, run, from, time, colours) {
  const { context: c, width, height } = fitted(canvas);
  const k = colours, left = 8, right = width - 34, top = 8, bottom = height - 6;
  c.fillStyle = k.ground; c.fillRect(0, 0, width, height);
  const points = run.series(), last = placeAt(points, time), first = Math.max(0, placeAt(points, from));
  let most = 1;
  for (let n = first; n <= last; n++) most = Math.max(most, points[n][1], points[n][2]);
  const x = (at) => left + ((Math.max(at, from) - from) / Math.max(time - from, 1)) * (right - left);
  const y = (value) => bottom - (value / most) * (bottom - top);
  c.font = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif'; c.textBaseline = "middle";
  c.strokeStyle = k.rule; c.lineWidth = 1; c.fillStyle = k.faint;
  for (const value of most > 1 ? [0, Math.ceil(most / 2), most] : [0, 1]) {
    const at = Math.round(y(value)) + 0.5;
    c.beginPath(); c.moveTo(left, at); c.lineTo(right, at); c.stroke();
    c.fillText(`${value}`, right + 5, at);
  }
  const path = (which) => {
    c.beginPath(); c.moveTo(left, bottom);
    let before = 0;
    for (let n = first; n <= last; n++) {
      c.lineTo(x(points[n][0]), y(before)); c.lineTo(x(points[n][0]), y(points[n][which]));
      before = points[n][which];
    }
    c.lineTo(right, y(before));
  };
  c.fillStyle = k.costarea; path(1); c.lineTo(right, bottom); c.closePath(); c.fill();
  c.lineWidth = 2; c.strokeStyle = k.cost; path(1); c.stroke();
  c.strokeStyle = k.running; path(2); c.stroke();
}
