// Keeps the regions marked data-live="<kinds>" up to date: each is fetched again when the page's stream says that one of
// its kinds has changed, and every data-live-every seconds for what no event tells of, such as ages and rates. Without
// the stream all are fetched every five seconds. The header says which, and how fresh the data are.
//
// Stands still while the tab is hidden, while paused by the reader and while a dialog is open. Rows never move under the
// pointer or a selection: what would move them waits behind a button.

import { Stream } from "./stream.js";

const POLL_MS = 5000;
const SLOW_SECONDS = 20;
const SHORTEST_MS = 1000;
const REST = 10; // a page spends no more than about a tenth of its time on fetching
const LONGEST_FETCH_MS = 30_000;

const button = document.querySelector("[data-live-state]");
const waiting = document.querySelector("[data-waiting]");
const regions = () => [...document.querySelectorAll("[data-live]")];
const known = new Map();
const loading = performance.getEntriesByType("navigation")[0];
let refreshedAt = new Date();
let isPaused = false;
let isStreaming = false;
let hasTried = false;
let problem = "";

function show() {
  button.hidden = !hasTried && !isPaused;
  const asOf = `data as of ${refreshedAt.toISOString().slice(11, 19)}`;
  let state = "live";
  let text = "Live";
  if (isPaused) [state, text] = ["paused", "Paused"];
  else if (problem === "signed out") [state, text] = ["lost", "Signed out"];
  else if (problem === "gone") [state, text] = ["lost", `Not updated, ${asOf}`];
  else if (problem) [state, text] = ["lost", `Reconnecting, ${asOf}`];
  else if (!isStreaming) [state, text] = ["polling", `Updates every ${POLL_MS / 1000} s`];
  if (button.dataset.state === state && button.querySelector("span").textContent === text) return;
  button.dataset.state = state;
  button.setAttribute("aria-pressed", String(isPaused));
  button.querySelector("span").textContent = text;
}

function stateOf(region) {
  if (!known.has(region.id)) {
    known.set(region.id, {
      at: performance.now(), cost: loading ? loading.responseEnd - loading.requestStart : 0, isStale: false, isBusy: false,
    });
  }
  return known.get(region.id);
}

function stale(isConcerned) {
  for (const region of regions()) if (isConcerned(region)) stateOf(region).isStale = true;
  tick();
}

function isStill() {
  return document.hidden || isPaused || problem === "signed out"
    || document.querySelector("main [popover]:popover-open, dialog[open]") !== null;
}

function tick() {
  if (isStill()) return;
  const now = performance.now();
  for (const region of regions()) {
    const state = stateOf(region);
    const since = now - state.at;
    if (state.isBusy && since < LONGEST_FETCH_MS) continue;
    const slow = Number(region.dataset.liveEvery || SLOW_SECONDS) * 1000;
    const period = isStreaming ? slow : Math.min(slow, POLL_MS);
    if (state.held && !isInUse(region)) state.isStale = true;
    if (since >= period) state.isStale = true;
    if (state.isStale && since >= Math.max(SHORTEST_MS, REST * state.cost)) fetchAgain(region, state);
  }
}

function fetchAgain(region, state) {
  state.isStale = false;
  state.isBusy = true;
  state.at = performance.now();
  window.htmx.trigger(region, "refresh");
}

// -- what comes back

// The region that such a request was made for; other requests are none of ours.
function fetched(event) {
  const request = event.detail.requestConfig;
  return request?.triggeringEvent?.type === "refresh" ? request.elt : null;
}

// Whether the reader has meanwhile gone on to another filter, or opened something in the region.
function isLate(region, request) {
  return !region.isConnected || !region.matches("[data-live]") || region.getAttribute("hx-get") !== request.path;
}

function isInUse(region) {
  return region.querySelector("tbody:hover") !== null || isSelected(region);
}

function isSelected(region) {
  return region.querySelector("[data-row]:checked, [data-all]:checked") !== null;
}

function rowsOf(root) {
  return [...root.querySelectorAll("tbody tr")].map((row) => row.id || row.querySelector("a")?.getAttribute("href") || "");
}

function beforeSwap(event) {
  const region = fetched(event);
  if (!region) return;
  const { detail } = event;
  if (isLate(region, detail.requestConfig)) {
    detail.shouldSwap = false;
    return;
  }
  if (new URL(detail.xhr.responseURL).pathname.includes("/login/")) {
    detail.shouldSwap = false;
    problem = "signed out";
    show();
    return;
  }
  const page = new DOMParser().parseFromString(detail.xhr.responseText, "text/html");
  const fresh = page.getElementById(region.id);
  if (!fresh) {
    detail.shouldSwap = false;
    return;
  }
  if (detail.xhr.status === 404) { // what the page was about is over, and its view says so in the region
    detail.shouldSwap = true;
    detail.isError = false;
  }
  if (!detail.shouldSwap) return;
  const [before, after] = [rowsOf(region), rowsOf(fresh)];
  const state = stateOf(region);
  state.held = isSelected(region) || (isInUse(region) && before.join() !== after.join());
  if (state.held) {
    const added = after.filter((row) => !before.includes(row)).length;
    const beyond = added > 0 && added === after.length ? "+" : "";
    state.words = added > 0 ? `${added}${beyond} new · show` : "Changes wait · show";
    detail.shouldSwap = false;
  }
  const navigation = page.getElementById("navigation");
  if (navigation) window.Idiomorph.morph(document.getElementById("navigation"), navigation.innerHTML, { morphStyle: "innerHTML" });
  refreshedAt = new Date();
  problem = "";
  hasTried = true;
  offer();
  show();
}

function offer() {
  const held = regions().find((region) => stateOf(region).held);
  waiting.hidden = held === undefined;
  if (held) waiting.querySelector("span").textContent = stateOf(held).words;
}

function showWaiting() {
  for (const region of regions()) {
    const state = stateOf(region);
    if (!state.held) continue;
    for (const box of region.querySelectorAll("[data-row]:checked, [data-all]:checked")) box.click();
    state.held = false;
    fetchAgain(region, state);
  }
  offer();
}

function afterRequest(event) {
  const region = fetched(event);
  if (!region) return;
  const state = stateOf(region);
  state.isBusy = false;
  state.cost = performance.now() - state.at;
}

function failed(event) {
  if (!fetched(event)) return;
  const status = event.detail.xhr?.status ?? 0;
  problem = status >= 400 && status < 500 && status !== 429 ? "gone" : "away";
  show();
}

function settled() {
  offer();
  stream.want(kinds());
}

// -- the stream

function kinds() {
  return new Set(regions().flatMap((region) => region.dataset.live.split(" ").filter(Boolean)));
}

const stream = new Stream("/admin/events", {
  changed: (kind) => stale((region) => region.dataset.live.split(" ").includes(kind)),
  connected: () => {
    isStreaming = hasTried = true;
    stale(() => true); // what changed before was not told of
    show();
  },
  lost: () => {
    if (isStreaming) problem ||= "away"; // until a fetch shows that only the stream is
    isStreaming = false;
    hasTried = true;
    stale(() => true);
    show();
  },
});

function visibility() {
  if (document.hidden) stream.close();
  else if (!isPaused) {
    stream.open();
    stale(() => true);
  }
}

function pause() {
  if (problem === "signed out") {
    location.reload();
    return;
  }
  isPaused = !isPaused;
  if (isPaused) stream.close();
  else visibility();
  show();
}

if (button && window.htmx && regions().length > 0) {
  button.addEventListener("click", pause);
  waiting.addEventListener("click", showWaiting);
  document.addEventListener("htmx:beforeSwap", beforeSwap);
  document.addEventListener("htmx:afterRequest", afterRequest);
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:afterSettle", settled);
  document.addEventListener("visibilitychange", visibility);
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => { if (event.persisted) visibility(); });
  if (!document.hidden) stream.want(kinds());
  setInterval(tick, 250);
  setInterval(() => stream.check(), 5000);
}

// A morph would otherwise close what the reader has opened.
if (window.Idiomorph) {
  window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && node.matches("details[data-keep-open]"));
}
