// Copying what is shown and switching line wrapping. Buttons that need a script stay hidden without it.

function reveal(root) {
  for (const button of root.querySelectorAll("[data-copy], [data-wrap]")) button.hidden = false;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (!source || !navigator.clipboard) return;
  await navigator.clipboard.writeText(source.textContent);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
}

function wrap(button) {
  const text = document.getElementById(button.dataset.wrap);
  if (!text) return;
  const wrapped = !text.classList.toggle("nowrap");
  button.setAttribute("aria-pressed", String(wrapped));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-wrap]");
  if (!button) return;
  if (button.dataset.copy) copy(button);
  else wrap(button);
});
document.addEventListener("htmx:afterSettle", (event) => reveal(event.target));
reveal(document);
