// Fetches the regions marked data-live again every ten seconds and says in the header how fresh they are.
// Stands still while the tab is hidden, while the pointer is over a table, and while paused by the reader.

const PERIOD_MS = 10_000;
const button = document.querySelector("[data-live-state]");
const regions = () => document.querySelectorAll("[data-live]");
let refreshedAt = new Date();

function show(state, text) {
  button.dataset.state = state;
  button.setAttribute("aria-pressed", String(state === "paused"));
  button.querySelector("span").textContent = text;
}

function refresh() {
  const pointerOverTable = document.querySelector("[data-live] table:hover") !== null;
  if (document.hidden || pointerOverTable || button.dataset.state === "paused") return;
  for (const region of regions()) window.htmx.trigger(region, "refresh");
}

function lost(event) {
  if (!event.target.closest("[data-live]") || button.dataset.state === "paused") return;
  show("lost", `Reconnecting, data as of ${refreshedAt.toISOString().slice(11, 19)}`);
}

if (button && window.htmx && regions().length > 0) {
  button.hidden = false;
  show("live", "Live");
  button.addEventListener("click", () => {
    if (button.dataset.state === "paused") {
      show("live", "Live");
      refresh();
    } else {
      show("paused", "Paused");
    }
  });
  document.addEventListener("htmx:sendError", lost);
  document.addEventListener("htmx:responseError", lost);
  document.addEventListener("htmx:afterSwap", () => {
    refreshedAt = new Date();
    if (button.dataset.state === "lost") show("live", "Live");
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, PERIOD_MS);
}

// A morph would otherwise close what the reader has opened.
if (window.Idiomorph) {
  window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && node.matches("details[data-keep-open]"));
}
