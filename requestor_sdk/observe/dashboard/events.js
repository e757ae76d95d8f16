// The list of events: filtered by ids, kinds and words, and made only where it is seen.
"use strict";

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
