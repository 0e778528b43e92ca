// Rows chosen for one action: the box that chooses the page, how many are chosen, and `x` for the row in focus.
// Without a script the same boxes and buttons work; the server says when nothing was chosen.

function update(form) {
  const rows = [...form.querySelectorAll("[data-row]")];
  const chosen = rows.filter((box) => box.checked).length;
  const all = form.querySelector("[data-all]");
  const everything = all !== null && all.checked;
  const page = form.querySelector("[data-page]");
  page.hidden = false;
  page.checked = chosen === rows.length;
  page.indeterminate = chosen > 0 && chosen < rows.length;
  const count = form.querySelector("[data-count]");
  if (everything) count.textContent = "Everything that matches is selected";
  else count.textContent = chosen === 0 ? "Select rows to act on them" : `${chosen.toLocaleString("en")} selected`;
  for (const button of form.querySelectorAll("[data-needs-rows]")) {
    button.setAttribute("aria-disabled", String(chosen === 0 && !everything));
  }
  form.classList.toggle("has-selection", chosen > 0 || everything);
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("[data-select]");
  if (!form) return;
  if (event.target.matches("[data-page]")) {
    for (const box of form.querySelectorAll("[data-row]")) box.checked = event.target.checked;
  }
  update(form);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-needs-rows][aria-disabled=true]")) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (document.documentElement.dataset.keys === "off" || event.key !== "x") return;
  if (event.ctrlKey || event.metaKey || event.altKey || !event.target.matches(".row-link")) return;
  const box = event.target.closest("tr").querySelector("[data-row]");
  if (box) box.click();
});

function start() {
  for (const form of document.querySelectorAll("[data-select]")) update(form);
}

document.addEventListener("htmx:afterSettle", start);
start();
