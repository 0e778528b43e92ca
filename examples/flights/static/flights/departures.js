// The live departures board. The page comes with the rows that the database holds and the position in the topic that
// belongs to them; from there on changes come over STOMP or as server-sent events, each with the position after it. So
// whatever is cut and connected again goes on where it was: no change is missed, none comes twice.

import { followRates, showRates } from "./rates.js";

const page = JSON.parse(document.getElementById("board").textContent);
const { topic, shown, departures, position: start, rates, rates_from: ratesFrom } = page;
const RETRY_MS = 2000 + Math.random() * 2000; // not all pages come back at once after a restart

const flights = new Map(departures.map((flight) => [flight.id, flight]));
let position = start;
let received = 0;
let receivedAt = null;

// -- the board --------------------------------------------------------------------------------------------------------

const find = (selector) => document.querySelector(selector);
const rows = new Map();
const changed = new Set();
const inNewYork = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "America/New_York", ...options });
const day = inNewYork({ day: "2-digit", month: "short" });
const time = inNewYork({ hour: "2-digit", minute: "2-digit" });
const clock = (date) => date.toLocaleTimeString("en-GB");

function apply(flight, at) {
  flights.set(flight.id, flight);
  changed.add(flight.id);
  position = at;
  received += 1;
  receivedAt = new Date();
  if (changed.size === 1) requestAnimationFrame(draw);
  if (flights.size > 50 * shown) keepNewest(); // a hidden tab draws nothing
}

function keepNewest() {
  const order = (a, b) => (a.scheduled_at === b.scheduled_at ? (a.id < b.id ? -1 : 1) : a.scheduled_at < b.scheduled_at ? 1 : -1);
  const newest = [...flights.values()].sort(order).slice(0, shown);
  flights.clear();
  for (const flight of newest) flights.set(flight.id, flight);
  for (const id of changed) if (!flights.has(id)) changed.delete(id);
}

function draw() {
  keepNewest();
  for (const id of rows.keys()) if (!flights.has(id) || changed.has(id)) remove(id);
  const body = find(".flights tbody");
  let next = body.firstElementChild;
  for (const flight of flights.values()) {
    if (next !== null && next === rows.get(flight.id)) next = next.nextElementSibling;
    else body.insertBefore(rowOf(flight), next);
  }
  changed.clear();
  find(".flights").hidden = flights.size === 0;
  find("[data-empty]").hidden = flights.size > 0;
  find("[data-received]").textContent = received.toLocaleString("en");
  find("[data-update]").textContent = `${received === 1 ? "change" : "changes"}${receivedAt ? `, last ${clock(receivedAt)}` : ""}`;
}

function remove(id) {
  rows.get(id).remove();
  rows.delete(id);
}

function rowOf(flight) {
  const row = document.getElementById("row").content.firstElementChild.cloneNode(true);
  const scheduled = new Date(flight.scheduled_at);
  const [tone, word] = statusOf(flight.delay_minutes);
  const texts = {
    day: day.format(scheduled),
    scheduled: time.format(scheduled),
    flight: flight.flight,
    origin: flight.origin,
    destination: flight.destination,
    departed: flight.delay_minutes === null ? "–" : time.format(new Date(+scheduled + flight.delay_minutes * 60_000)),
    status: word,
  };
  for (const cell of row.querySelectorAll("[data-field]")) cell.textContent = texts[cell.dataset.field];
  row.querySelector("time").dateTime = scheduled.toISOString();
  row.querySelector(".status").classList.add(`status-${tone}`);
  row.classList.toggle("changed", changed.has(flight.id));
  row.classList.toggle("cancelled", flight.delay_minutes === null);
  rows.set(flight.id, row);
  return row;
}

function statusOf(delay) {
  if (delay === null) return ["bad", "Cancelled"];
  if (delay < 15) return ["ok", delay < 0 ? `${-delay} min early` : "On time"];
  return ["warn", `${delay} min late`];
}

// -- the connection, in words -----------------------------------------------------------------------------------------

// What ends a connection for good; after anything else another try may do.
const OVER = ["forbidden", "invalid_last_event_id", "invalid_offset", "token_revoked", "topic_not_found", "unauthenticated"];

let countdown = 0;
let hasBeenLive = false;
let asOf = new Date();

function tell(state, word, detail) {
  clearInterval(countdown);
  find("[data-connection]").dataset.connection = state;
  find("[data-state]").textContent = word;
  find("[data-detail]").textContent = detail;
}

function live(how) {
  hasBeenLive = true;
  tell("live", "Connected", `${how}, live since ${clock(new Date())}`);
}

function lost(milliseconds) {
  if (find("[data-connection]").dataset.connection === "live") asOf = new Date();
  const until = Date.now() + milliseconds;
  const left = () => `in ${Math.max(1, Math.ceil((until - Date.now()) / 1000))} s; data as of ${clock(asOf)}`;
  tell("waiting", "Reconnecting", left());
  countdown = setInterval(() => (find("[data-detail]").textContent = left()), 1000);
}

// Where going on is impossible (signed out, retention has removed what should come next, the topic was made anew), the
// page is loaded again: it leads to the login, or shows what the database holds now.
function startOver(reason) {
  stop();
  if (hasBeenLive) location.reload();
  else tell("refused", "Refused", reason);
}

// -- over STOMP: a WebSocket, or SockJS where WebSockets do not get through -------------------------------------------

function overStomp() {
  let withSockJs = !window.WebSocket;
  let hasOpened = false;
  const client = new StompJs.Client({
    reconnectDelay: RETRY_MS,
    connectionTimeout: 10_000,
    webSocketFactory: () => {
      hasOpened = false;
      if (withSockJs) return new SockJS("/ws");
      return new WebSocket(`${location.origin.replace("http", "ws")}/ws`, ["v12.stomp"]);
    },
    onConnect: () => {
      hasOpened = true;
      const subscribed = `live-${Date.now()}`;
      client.watchForReceipt(subscribed, () => live(`STOMP over ${client.webSocket.transport ?? "WebSocket"}`));
      client.subscribe(
        `/topic/${topic}`,
        (message) => {
          if (message.headers.gap) startOver("retention has removed changes");
          else apply(JSON.parse(message.body), message.headers["message-id"]);
        },
        { resume: position, receipt: subscribed },
      );
      if (ratesFrom !== null) client.subscribe(ratesFrom, (message) => showRates(JSON.parse(message.body)));
    },
    onStompError: (frame) => {
      if (OVER.includes(frame.headers.message)) startOver(frame.body);
    },
    onWebSocketClose: () => {
      if (!client.active) return;
      if (!hasOpened) withSockJs = !withSockJs || !window.WebSocket; // who knows what stands between
      lost(RETRY_MS);
    },
  });
  client.activate();
  return () => client.deactivate();
}

// -- as server-sent events --------------------------------------------------------------------------------------------

function overEventSource() {
  const BROWSERS_OWN_MS = 3000; // what the server tells the browser to wait
  let source;
  let timer;
  const open = () => {
    source = new EventSource(`/api/v1/topics/${topic}/stream?last_event_id=${position}`);
    source.addEventListener("connected", () => live("Server-sent events"));
    source.addEventListener("record", (event) => apply(JSON.parse(event.data).value, event.lastEventId));
    source.addEventListener("gap", () => startOver("retention has removed changes"));
    source.addEventListener("error", async (event) => {
      if (event.data) {
        const { code, detail } = JSON.parse(event.data); // the server's last word; the end of the stream follows
        if (OVER.includes(code)) startOver(detail);
        return;
      }
      const hasGivenUp = source.readyState === EventSource.CLOSED; // as the browser does at any answer but a stream
      lost(hasGivenUp ? RETRY_MS : BROWSERS_OWN_MS);
      if (!hasGivenUp) return;
      timer = setTimeout(open, RETRY_MS);
      const page = await fetch(location.pathname, { method: "HEAD", redirect: "manual" }).catch(() => null);
      if (page !== null && !page.ok && page.status < 500) startOver("you may not read this"); // 0: to the login
    });
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

// -- which of the two -------------------------------------------------------------------------------------------------

const PROTOCOLS = { stomp: overStomp, events: overEventSource };
let stop = () => {};
let choices = 0;

async function follow(protocol) {
  const choice = ++choices;
  tell("connecting", "Connecting", "");
  for (const button of document.querySelectorAll("[data-protocol]")) {
    button.setAttribute("aria-pressed", String(button.dataset.protocol === protocol));
    button.onclick = () => follow(button.dataset.protocol);
  }
  history.replaceState(null, "", `?over=${protocol}`);
  await stop();
  if (choice !== choices) return; // another one was made meanwhile
  stop = PROTOCOLS[protocol]();
}

draw();
followRates(rates);
follow(new URLSearchParams(location.search).get("over") === "events" ? "events" : "stomp");
