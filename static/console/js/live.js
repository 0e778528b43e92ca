// Fetches the regions marked data-live again, every ten seconds or as many as it says, and says in the header how fresh
// they are. Stands still while the tab is hidden, while paused by the reader, while a dialog is open, and where the
// pointer is over a table or rows are selected.

const PERIOD_SECONDS = 10;
const button = document.querySelector("[data-live-state]");
const regions = () => document.querySelectorAll("[data-live]");
let refreshedAt = new Date();

function show(state, text) {
  button.dataset.state = state;
  button.setAttribute("aria-pressed", String(state === "paused"));
  button.querySelector("span").textContent = text;
}

let seconds = 0;

function isInUse(region) {
  return region.querySelector("table:hover, [data-row]:checked, [data-all]:checked") !== null;
}

function refresh(isDue) {
  if (document.hidden || button.dataset.state === "paused" || document.querySelector("main [popover]:popover-open")) return;
  for (const region of regions()) {
    if (isDue(region) && !isInUse(region)) window.htmx.trigger(region, "refresh");
  }
}

function tick() {
  seconds += 1;
  refresh((region) => seconds % (Number(region.dataset.live) || PERIOD_SECONDS) === 0);
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
      refresh(() => true);
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
  document.addEventListener("visibilitychange", () => refresh(() => true));
  setInterval(tick, 1000);
}

// A morph would otherwise close what the reader has opened.
if (window.Idiomorph) {
  window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && node.matches("details[data-keep-open]"));
}
