// Tables of any length: of their rows only those that are seen are made. What others named is only
// ever set as text.
"use strict";

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

class Table {
  // Columns: [class, head, what a row's cell holds: text or a node].
  constructor(box, columns, tall, pick) {
    this.box = box; this.columns = columns; this.tall = tall;
    this.space = make("div", { class: "space" }); this.inner = make("div", { class: "inner", role: "presentation" });
    this.scroll = make("div", { class: "scroll", tabindex: "0", role: "rowgroup" }, this.space, this.inner);
    this.detail = make("div", { class: "detail", hidden: "" });
    const head = make("div", { class: "trow head", role: "row" },
      ...columns.map(([name, text]) => make("span", { class: name, role: "columnheader" }, text)));
    box.append(make("div", { class: "table", role: "table" }, head, this.scroll), this.detail);
    this.rows = [];
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    this.inner.addEventListener("click", (event) => {
      const row = event.target.closest(".trow");
      if (row) pick(this.rows[Number(row.dataset.place)].id);
    });
    this.scroll.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || !this.rows.length) return;
      event.preventDefault();
      const place = this.rows.findIndex((row) => row.id === this.selected) + step;
      const next = this.rows[Math.min(Math.max(place, 0), this.rows.length - 1)].id;
      if (next !== this.selected) pick(next);
    });
  }

  show(rows, selected) {
    this.rows = rows; this.selected = selected;
    const high = `${rows.length * this.tall}px`;
    if (this.space.style.height !== high) this.space.style.height = high;
    this.box.style.setProperty("--rows", `${rows.length}`);
    const place = rows.findIndex((row) => row.id === selected);
    this.tell(place >= 0 && rows[place].details ? rows[place] : null);
    if (this.seen !== selected && place >= 0) this.reveal(place);
    this.seen = selected;
    this.draw();
  }

  reveal(place) {
    const top = place * this.tall, room = this.scroll.clientHeight;
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (top + this.tall > this.scroll.scrollTop + room) this.scroll.scrollTop = top + this.tall - room;
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / this.tall));
    const last = Math.min(this.rows.length, first + Math.ceil(this.scroll.clientHeight / this.tall) + 1);
    const made = [];
    for (let place = first; place < last; place++) {
      const row = this.rows[place];
      made.push({ row, cells: this.columns.map(([, , cell]) => cell(row)) });
    }
    const key = `${first}:${this.selected}:${made.map(({ row, cells }) => row.id + cells.map((one) => one.key ?? one)).join()}`;
    if (this.key === key) return;
    this.key = key;
    this.inner.style.transform = `translateY(${first * this.tall}px)`;
    this.inner.replaceChildren(...made.map(({ row, cells }, n) => make("div",
      { class: `trow${row.id === this.selected ? " on" : ""}`, role: "row", "data-place": `${first + n}` },
      ...cells.map((cell, at) => make("span", { class: this.columns[at][0], role: "cell" }, cell.node ? cell.node() : cell)))));
  }

  tell(row) {
    const key = row ? JSON.stringify([row.details, row.next]) : "";
    if (this.detail.dataset.key === key) return;
    this.detail.dataset.key = key;
    this.detail.hidden = !row;
    if (!row) return;
    const lines = row.next ? [...row.details, ["next", row.next]] : row.details;
    this.detail.replaceChildren(...lines.flatMap(([name, text]) =>
      [make("b", {}, name), make(name === "next" ? "code" : "span", name === "next" ? { class: "whole" } : {}, text)]));
  }
}

// Cells ------------------------------------------------------------------------------------------

const SIGNS = { good: "✓", bad: "✗", dim: "■", odd: "!" };

function status(row) {
  const sign = row.tone ? make("span", { class: `sign ${row.tone}` }, SIGNS[row.tone]) : make("i", { class: `s-${row.state}` });
  return make("span", { class: `status ${row.tone}`, title: row.words }, sign, row.words);
}

function statusCell(row) { return { key: `${row.tone}${row.state}${row.words}`, node: () => status(row) }; }

function meter([used, all], words) {
  if (!all) return "";
  const part = all > 0 ? Math.min(100, (100 * used) / all) : 0;
  return { key: `${used}/${all}`, node: () => make("span", { class: "use" },
    make("span", { class: "meter" }, make("i", { width: `${part}%` })), words) };
}

function tipped(text, most) {
  return { key: text, node: () => make("span", { title: text }, most ? short(text, most) : text) };
}

// Its verb; the whole of it is told of the job that is chosen.
function commandCell(row) {
  return { key: row.next, node: () => make("code", { title: row.next }, row.next.split(" ").slice(1, 3).join(" ")) };
}

function ago(ms) {
  const minutes = Math.floor(ms / 60000);
  return !minutes ? `${Math.round(ms / 1000)} s` : minutes < 60 ? `${minutes} min` : minutes < 1440 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}

// What is used of what there is, in the unit of all that there is.
function memory([used, all]) {
  const [number, unit] = bytes(all * 1048576).split(" "), each = (Number(number) * 1) / all;
  return meter([used, all], all ? `${(used * each).toFixed(1)} / ${number} ${unit}` : "");
}

function who(name) { return short(name, 30); }

const JOB_COLUMNS = {
  job: ["c-id", "job", (row) => tipped(row.id, 11)],
  runs: ["c-runs", "runs", (row) => tipped(row.runs)],
  environment: ["c-env", "environment", (row) => tipped(row.environment)],
  status: ["c-status", "status", statusCell],
  worker: ["c-worker", "worker", (row) => tipped(row.worker && row.attempt > 1 ? `${who(row.worker)}, attempt ${row.attempt}` : who(row.worker))],
  waited: ["c-waited num", "waited", (row) => lasted(row.waited)],
  took: ["c-took num", "took", (row) => lasted(row.took)],
  left: ["c-size num", "left", (row) => bytes(row.size)],
  consumer: ["c-owner", "consumer", (row) => tipped(row.owner, 11)],
  next: ["c-next", "next", commandCell],
};

const WORKER_COLUMNS = {
  worker: ["c-id", "worker", (row) => tipped(row.id, 30)],
  state: ["c-state", "state", statusCell],
  heard: ["c-heard num", "heard of", (row) => (row.age === null ? "" : `${ago(row.age)} ago`)],
  cpu: ["c-cpu", "processors", (row) => meter(row.cpu, `${ratio(row.cpu[0])} / ${ratio(row.cpu[1])}`)],
  memory: ["c-ram", "memory", (row) => memory(row.ram)],
  gpu: ["c-gpu", "GPU memory", (row) => (row.gpus ? memory(row.gpu) : row.cpu[1] ? "none" : "")],
  runs: ["c-runs", "runs now", (row) => ({ ...tipped(row.running.length ? `${row.running.length}: ${row.running.map((id) => short(id, 9)).join(", ")}` : "idle") })],
  now: ["c-now num", "runs now", (row) => `${row.running.length}`],
  done: ["c-done num", "done", (row) => `${row.done}`],
  failed: ["c-failed num", "failed", (row) => `${row.failed}`],
  lost: ["c-lost num", "lost", (row) => `${row.lost}`],
  again: ["c-again num", "retried", (row) => `${row.again}`],
  tags: ["c-tags", "tags", (row) => tipped(row.tags.join(", "))],
};
