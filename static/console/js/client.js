// The test client of the Connections page: STOMP over /ws with the console's session. What came is shown as text, the
// last hundred messages of it. An error ends the connection, as it does for every client; the next action opens another.

const MOST_MESSAGES = 100;
const MOST_CHARACTERS = 20_000;
const PREFETCH = "20";

const find = (selector, root = document) => root.querySelector(selector);
const subscriptions = new Map();
const messages = find("[data-messages]");
let client = null;
let count = 0;
let serial = 0;

// -- what the page says

function tell(state, words) {
  const shown = find("#client-state .status");
  const tone = { closed: "mute", connecting: "info", open: "ok", failed: "bad" }[state];
  shown.className = `status status-${tone}`;
  shown.dataset.state = state;
  const icon = document.getElementById("state-icons").content.querySelector(`[data-icon="${state}"] svg`);
  shown.replaceChildren(icon.cloneNode(true), text("span", words));
  find("[data-disconnect]").hidden = state !== "open" && state !== "connecting";
}

function text(name, words) {
  const made = document.createElement(name);
  made.textContent = words;
  return made;
}

function complain(words) {
  const problem = find("[data-problem]");
  problem.hidden = !words;
  find("span", problem).textContent = words;
}

// -- the connection

function connect() {
  if (client) return client.ready;
  const made = new window.StompJs.Client({
    reconnectDelay: 0,
    connectionTimeout: 10_000,
    webSocketFactory: () => new WebSocket(`${location.origin.replace("http", "ws")}/ws`, ["v12.stomp"]),
    beforeConnect: () => tell("connecting", "Connecting"),
    onStompError: (frame) => {
      made.error = `${frame.headers.message}: ${frame.body}`;
    },
    onWebSocketClose: (event) => closed(made, event),
    onUnhandledMessage: () => {},
  });
  made.ready = new Promise((resolve, reject) => {
    made.refuse = reject;
    made.onConnect = (frame) => {
      tell("open", "Connected");
      const link = find("[data-connection]");
      link.hidden = false;
      find("a", link).href = `../${frame.headers.session}/`;
      resolve();
    };
  });
  made.ready.catch(() => {});
  client = made;
  complain("");
  made.activate();
  return made.ready;
}

function closed(made, event) {
  if (client !== made) return;
  client = null;
  made.deactivate();
  made.refuse();
  subscriptions.clear();
  find("[data-subscriptions]").replaceChildren();
  find("[data-connection]").hidden = true;
  find("[data-sent]").textContent = "";
  const reason = made.error || (made.isLeaving ? "" : `The connection was closed${event.reason ? `: ${event.reason}` : ""}.`);
  complain(reason);
  tell(reason ? "failed" : "closed", reason ? "Ended with an error" : "Not connected");
}

async function disconnect() {
  if (!client) return;
  const made = client;
  made.isLeaving = true;
  await made.deactivate();
  closed(made, { reason: "" });
}

// What the server has done with a frame that asks for a receipt.
function receipt(words) {
  const name = `receipt-${++serial}`;
  client.watchForReceipt(name, words);
  return name;
}

// -- subscribing

async function subscribe(form) {
  const { destination, offset, ack } = Object.fromEntries(new FormData(form));
  try {
    await connect();
  } catch {
    return;
  }
  const name = `sub-${++serial}`;
  const item = document.getElementById("subscription-item").content.firstElementChild.cloneNode(true);
  find("[data-field=destination]", item).textContent = destination;
  find("[data-field=state]", item).textContent = "asked for";
  const holds = !/^[/](topic|user)[/]/.test(destination);
  const headers = { id: name, receipt: receipt(() => { find("[data-field=state]", item).textContent = ""; }) };
  if (holds) Object.assign(headers, { ack, "prefetch-count": PREFETCH });
  else if (offset && destination.startsWith("/topic/")) headers.offset = offset;
  subscriptions.set(name, client.subscribe(destination, show, headers));
  find("[data-unsubscribe]", item).addEventListener("click", () => {
    subscriptions.get(name)?.unsubscribe();
    subscriptions.delete(name);
    item.remove();
  });
  find("[data-subscriptions]").append(item);
}

function show(message) {
  const row = document.getElementById("message-row").content.firstElementChild.cloneNode(true);
  const size = message.binaryBody.length;
  const body = message.body.slice(0, MOST_CHARACTERS);
  const fields = {
    time: new Date().toLocaleTimeString("en-GB"),
    destination: message.headers.destination,
    size: size ? `${size.toLocaleString("en")} B` : "none",
    summary: body.slice(0, 80).replaceAll(/\s+/g, " ") || "no body",
    body: message.body.length > body.length ? `${body} …` : body,
  };
  for (const [name, words] of Object.entries(fields)) find(`[data-field=${name}]`, row).textContent = words;
  find("[data-field=headers]", row).append(
    ...Object.entries(message.headers).reverse().flatMap(([name, words]) => [text("dt", name), text("dd", words)]),
  );
  const rows = find("tbody", messages);
  rows.prepend(row);
  while (rows.childElementCount > MOST_MESSAGES) rows.lastElementChild.remove();
  count += 1;
  summarise();
}

function summarise() {
  const rows = find("tbody", messages).childElementCount;
  messages.hidden = rows === 0;
  find("[data-clear]").hidden = rows === 0;
  const kept = count > rows ? `, the last ${rows} are shown` : "";
  find("[data-count]").textContent = count ? `${count.toLocaleString("en")} came${kept}` : "none yet";
}

// -- sending

async function send(form) {
  const { destination, type, body } = Object.fromEntries(new FormData(form));
  const told = find("[data-sent]");
  try {
    await connect();
  } catch {
    return;
  }
  told.textContent = "under way";
  const taken = receipt(() => { told.textContent = `${destination}: done at ${new Date().toLocaleTimeString("en-GB")}`; });
  client.publish({ destination, body, headers: { "content-type": type, receipt: taken } });
}

for (const [name, action] of [["subscribe", subscribe], ["send", send]]) {
  find(`[data-${name}]`).addEventListener("submit", (event) => {
    event.preventDefault();
    complain("");
    action(event.currentTarget);
  });
}
find("[data-disconnect]").addEventListener("click", disconnect);
find("[data-clear]").addEventListener("click", () => {
  find("tbody", messages).replaceChildren();
  count = 0;
  summarise();
});
addEventListener("pagehide", () => client?.forceDisconnect());
