// The page's one stream of events, which says what kinds of things have changed. Closed while the tab is hidden, so that
// it takes none of the browser's few connections; opened again when the browser has given up, later and later.

const AGAIN_SECONDS = [5, 10, 20, 40, 60];
const DEAD_AFTER_MS = 45_000;

export class Stream {
  #source = null;
  #again = 0;
  #failures = 0;
  #heardAt = 0;
  #kinds = [];

  // `changed` is called with a kind, `connected` and `lost` when the stream comes and goes.
  constructor(url, { changed, connected, lost }) {
    this.url = url;
    this.changed = changed;
    this.connected = connected;
    this.lost = lost;
  }

  // Asks for these kinds from now on.
  want(kinds) {
    const sorted = [...kinds].sort();
    if (sorted.join() === this.#kinds.join()) return;
    this.#kinds = sorted;
    this.close();
    this.open();
  }

  open() {
    if (this.#source || this.#kinds.length === 0) return;
    clearTimeout(this.#again);
    this.#heardAt = performance.now();
    const source = new EventSource(`${this.url}?kinds=${this.#kinds.join()}`);
    this.#source = source;
    const hear = (type, act) => source.addEventListener(type, () => {
      this.#heardAt = performance.now();
      act();
    });
    hear("connected", () => {
      this.#failures = 0;
      this.connected();
    });
    hear("beat", () => {});
    for (const kind of this.#kinds) hear(kind, () => this.changed(kind));
    source.addEventListener("error", () => {
      this.lost();
      if (source.readyState === EventSource.CLOSED) this.#openLater();
    });
  }

  close() {
    clearTimeout(this.#again);
    this.#source?.close();
    this.#source = null;
  }

  // A connection may be dead without anybody having said so.
  check() {
    if (this.#source && performance.now() - this.#heardAt > DEAD_AFTER_MS) {
      this.lost();
      this.#openLater();
    }
  }

  #openLater() {
    this.close();
    const seconds = AGAIN_SECONDS[Math.min(this.#failures, AGAIN_SECONDS.length - 1)];
    this.#failures += 1;
    this.#again = setTimeout(() => { if (!document.hidden) this.open(); }, seconds * 1000);
  }
}
