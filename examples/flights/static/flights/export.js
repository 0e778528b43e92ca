// How far an export is: the events of its progress, until it has completed or failed. A stream that is cut goes on by
// itself, and says again how it stands. A form that was sent cannot be sent again.

const form = document.querySelector("[data-ask]");
form.addEventListener("submit", () => (form.querySelector("button").disabled = true));
window.addEventListener("pageshow", () => (form.querySelector("button").disabled = false));

const card = document.querySelector('[data-export][data-standing="running"]');
if (card !== null) follow(card);

function follow(card) {
  const word = card.querySelector("[data-word]");
  const bar = card.querySelector("progress");
  const source = new EventSource(`/api/progress/${card.dataset.export}/stream`);

  source.addEventListener("progress", (event) => {
    const { current, total, message } = JSON.parse(event.data);
    if (total === null) return; // no worker has begun
    bar.max = Math.max(total, current, 1);
    bar.value = current;
    word.textContent = `${current.toLocaleString("en")} of ${total.toLocaleString("en")} departures${message && `. ${message}`}`;
  });
  source.addEventListener("completed", (event) => {
    const { departures, bytes } = JSON.parse(event.data).result;
    end("completed", `${departures.toLocaleString("en")} departures, ${sizeOf(bytes)}`);
  });
  source.addEventListener("failed", (event) => {
    end("failed", `${JSON.parse(event.data).error}. Export again, and it goes on where it stopped.`);
  });
  source.addEventListener("error", (event) => {
    if (event.data) end("failed", JSON.parse(event.data).detail); // the server's last word
    else if (source.readyState === EventSource.CLOSED) end("failed", "How far it is cannot be said. Load the page again.");
  });

  function end(state, text) {
    source.close();
    card.dataset.standing = state;
    word.textContent = text;
  }
}

function sizeOf(bytes) {
  return bytes < 2 ** 20 ? `${(bytes / 2 ** 10).toFixed(1)} KB` : `${(bytes / 2 ** 20).toFixed(1)} MB`;
}
