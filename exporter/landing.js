"use strict";
// Draws a few rates from /metrics, asked anew every few seconds while the page is seen.
const period = 2000, kept = 60;
const plots = [...document.querySelectorAll("[data-rate]")].map(box => ({ box, before: undefined, rates: [] }));

// total adds up the series of a counter.
function total(exposition, family) {
  let sum;
  for (const line of exposition.split("\n")) {
    const name = line.slice(0, line.search(/[{ ]/));
    if (name === family) sum = (sum ?? 0) + Number(line.slice(line.lastIndexOf(" ") + 1));
  }
  return sum;
}

function draw(plot) {
  const most = Math.max(...plot.rates, 1e-9);
  const points = plot.rates.map((r, i) => `${(i + kept - plot.rates.length) * 200 / (kept - 1)},${38 - 34 * r / most}`);
  plot.box.querySelector("polyline").setAttribute("points", points.join(" "));
  const last = plot.rates.at(-1);
  plot.box.querySelector("dd").textContent = (last >= 100 ? Math.round(last).toLocaleString("en") : last.toFixed(last >= 1 ? 1 : 2)) + " /s";
}

async function look() {
  if (document.hidden) return;
  const answer = await fetch("/metrics?" + new URLSearchParams(plots.map(plot => ["collect[]", plot.box.dataset.collector])));
  const exposition = await answer.text(), at = performance.now();
  for (const plot of plots) {
    const value = total(exposition, plot.box.dataset.rate);
    if (value === undefined) continue;
    if (plot.before) plot.rates = [...plot.rates, Math.max(value - plot.before.value, 0) / (at - plot.before.at) * 1000].slice(-kept);
    plot.before = { value, at };
    if (plot.rates.length > 0) draw(plot);
  }
}

if (plots.length > 0) {
  look().catch(() => {});
  setInterval(() => look().catch(() => {}), period);
}
