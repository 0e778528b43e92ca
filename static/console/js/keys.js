// Single-key shortcuts: `/` filter, `j` `k` rows, `g` then a letter for a page, `Esc` closes the panel, and the letters that
// links claim by data-key: within the row in focus, else on the page.
// Off when the reader switched them off (data-keys on <html>), and never inside a field.

const html = document.documentElement;
let pendingGo = false;

function rows() {
  return [...document.querySelectorAll("main .row-link")];
}

function move(step) {
  const links = rows();
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step];
  if (next) next.focus();
}

function go(letter) {
  const link = document.querySelector(`nav [data-go="${letter}"]`);
  if (link) link.click();
}

function claimed(key) {
  const row = document.activeElement.closest("tr");
  const selector = `[data-key="${CSS.escape(key)}"]`;
  return row?.querySelector(selector) ?? document.querySelector(`.page-head ${selector}`);
}

function handle(event) {
  if (html.dataset.keys === "off" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  if (pendingGo) {
    pendingGo = false;
    if (/^[a-z]$/.test(event.key)) go(event.key);
    return;
  }
  if (event.key === "g") {
    pendingGo = true;
    setTimeout(() => { pendingGo = false; }, 1500);
  } else if (event.key.length === 1 && claimed(event.key)) {
    claimed(event.key).click();
  } else if (event.key === "j" || event.key === "k") {
    move(event.key === "j" ? 1 : -1);
  } else if (event.key === "/") {
    const field = document.querySelector("[data-filter]");
    if (!field) return;
    event.preventDefault();
    field.focus();
  } else if (event.key === "Escape") {
    document.querySelector("[data-close-panel]")?.click();
  }
}

document.addEventListener("keydown", handle);
