// Departures per minute, as bars over the last hour. They come by live push every half minute; a page that is not told of
// them, over server-sent events or without the permission, asks.

const SHOWN = 60;
const MINUTE_MS = 60_000;
const STALE_MS = 45_000;
const SVG = "http://www.w3.org/2000/svg";

const card = document.querySelector(".rates");
const chart = card.querySelector("svg");
let toldAt = 0;

export function showRates({ now, minutes }) {
  toldAt = Date.now();
  const latest = Math.floor(Date.parse(now) / MINUTE_MS);
  const counts = new Map(minutes.map(([minute, ...numbers]) => [Date.parse(minute) / MINUTE_MS, numbers]));
  const most = Math.max(1, ...minutes.map(([, departures]) => departures));
  const [width, height] = [600 / SHOWN, 48];
  const bars = [];
  let [sum, late, off] = [0, 0, 0];
  for (let index = 0; index < SHOWN; index += 1) {
    const minute = latest - SHOWN + 1 + index;
    const [departures, delayed, cancelled] = counts.get(minute) ?? [0, 0, 0];
    [sum, late, off] = [sum + departures, late + delayed, off + cancelled];
    const tall = departures ? Math.max(2, (height * departures) / most) : 0.75;
    const bar = document.createElementNS(SVG, "rect");
    const at = { x: index * width + 1, y: height - tall, width: width - 2, height: tall };
    for (const [name, value] of Object.entries(at)) bar.setAttribute(name, value.toFixed(2));
    const title = document.createElementNS(SVG, "title");
    const clock = new Date(minute * MINUTE_MS).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    title.textContent = `${clock}: ${departures.toLocaleString("en")} departures, ${delayed.toLocaleString("en")} delayed, ${cancelled.toLocaleString("en")} cancelled`;
    bar.append(title);
    bar.classList.toggle("none", departures === 0);
    bars.push(bar);
  }
  chart.replaceChildren(...bars);
  card.querySelector("[data-rates]").textContent = sum
    ? `${sum.toLocaleString("en")} in the last hour: ${late.toLocaleString("en")} delayed, ${off.toLocaleString("en")} cancelled; at most ${most.toLocaleString("en")} a minute`
    : "None in the last hour";
}

export function followRates(rates) {
  showRates(rates);
  setInterval(async () => {
    if (document.hidden || Date.now() - toldAt < STALE_MS) return;
    toldAt = Date.now();
    const answer = await fetch(card.dataset.source, { redirect: "error" }).catch(() => null);
    if (answer?.ok) showRates(await answer.json());
  }, 5_000);
}
