"use strict";
// Draws a dashboard of dashboards/json from the Prometheus that serves this page.

const boards = ["overview", "node", "syscalls", "network", "pipeline", "security", "sensor"];
const choices = new URLSearchParams(location.search);
const name = boards.includes(choices.get("d")) ? choices.get("d") : "overview";

async function ask(path, parameters) {
  const answer = await (await fetch("../api/v1/" + path + "?" + new URLSearchParams(parameters))).json();
  if (answer.status !== "success") throw new Error(answer.error);
  return answer.data;
}

function link(board, more) {
  const next = new URLSearchParams(choices);
  next.set("d", board);
  for (const [key, value] of Object.entries(more ?? {})) next.set(key, value);
  return "?" + next;
}

// written puts the choices and times into an expression, as Grafana does.
function written(expr, range, step) {
  const values = { __rate_interval: Math.max(4 * interval, step + interval) + "s", __range: range + "s", cluster: ".*", job: ".+", instance: choices.get("instance") ?? ".+", syscall: ".+" };
  return expr.replace(/\$(\w+)/g, (whole, key) => values[key] ?? whole);
}

const interval = 5; // between scrapes of the demo, in seconds

function legend(target, metric) {
  return target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? "");
}

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

async function overTime(panel, range) {
  const to = Math.floor(Date.now() / 1000), step = Math.max(Math.ceil(range / 150), interval), from = to - range;
  const answers = await Promise.all(panel.targets.map(async t => {
    const data = await ask("query_range", { query: written(t.expr, range, step), start: from, end: to, step });
    return data.result.map(s => ({ ...s, name: legend(t, s.metric), values: (s.values ?? []).map(([at, v]) => [at, +v]) }));
  }));
  return { series: answers.flat(), from, to, step };
}

async function now(panel, range) {
  return Promise.all(panel.targets.map(async t => {
    const data = await ask("query", { query: written(t.expr, range, 0) });
    return data.result.map(s => ({ metric: s.metric, name: legend(t, s.metric), value: +s.value?.[1] }));
  }));
}

function latest(s) { return s.values.map(v => v[1]).findLast(isFinite) ?? 0; }

const drawers = {
  async timeseries(panel, body, range) {
    const { series, from, to } = await overTime(panel, range);
    if (series.length === 0) return false;
    const { unit, thresholds, custom } = panel.fieldConfig.defaults;
    series.sort((a, b) => latest(b) - latest(a) || a.name.localeCompare(b.name));
    body.classList.add("plot");
    body.append(element("canvas"));
    const table = element("div", undefined, "legend");
    series.forEach((s, i) => {
      const label = element("b"), mark = element("i");
      mark.style.background = palette[i % palette.length];
      label.append(mark, s.name);
      const numbers = s.values.map(v => v[1]).filter(isFinite);
      table.append(label, element("span", format(numbers.at(-1), unit)), element("span", "max " + format(numbers.length ? Math.max(...numbers) : NaN, unit)));
    });
    body.append(table);
    lines(body, series, from, to, { unit, thresholds: custom?.thresholdsStyle ? thresholds : undefined, stacked: custom?.stacking?.mode === "normal" });
    return true;
  },
  async heatmap(panel, body, range) {
    const { series, from, to, step } = await overTime(panel, range);
    body.append(element("canvas"));
    return series.length > 0 && heat(body, series, from, to, step, panel.fieldConfig.defaults.unit);
  },
  async stat(panel, body, range) {
    const [first] = await now(panel, range);
    if (first.length === 0) return false;
    const { unit, thresholds } = panel.fieldConfig.defaults;
    body.append(element("div", format(first[0].value, unit), "big " + color(first[0].value, thresholds)));
    return true;
  },
  async bargauge(panel, body, range) {
    const all = (await now(panel, range)).flat().sort((a, b) => b.value - a.value);
    if (all.length === 0) return false;
    const { unit, thresholds } = panel.fieldConfig.defaults;
    const most = unit === "percentunit" ? 1 : Math.max(...all.map(s => s.value), 1e-12);
    for (const s of all) {
      const bar = element("div", undefined, "bar"), whole = element("div"), part = element("div");
      part.style.width = Math.min(100 * s.value / most, 100) + "%";
      whole.append(part);
      whole.className = color(s.value, thresholds);
      bar.append(element("span", s.name), whole, element("span", format(s.value, unit), "n"));
      body.append(bar);
    }
    return true;
  },
  async table(panel, body, range) {
    const columns = await now(panel, range);
    const organize = panel.transformations.find(t => t.id === "organize").options;
    const rows = new Map();
    columns.forEach((column, i) => column.forEach(s => {
      const labels = Object.entries(s.metric).filter(([key]) => key !== "__name__");
      const key = JSON.stringify(labels);
      if (!rows.has(key)) rows.set(key, { labels: Object.fromEntries(labels), values: [] });
      rows.get(key).values[i] = s.value;
    }));
    if (rows.size === 0) return false;
    const keys = [...new Set([...rows.values()].flatMap(r => Object.keys(r.labels)))].sort();
    const shown = columns.map((_, i) => columns.length > 1 ? "Value #" + String.fromCharCode(65 + i) : "Value").map((n, i) => ({ i, title: organize.renameByName[n] })).filter(c => c.title);
    const table = element("table"), head = element("tr");
    for (const key of keys) head.append(element("th", key));
    for (const c of shown) head.append(element("th", c.title, "n"));
    table.createTHead().append(head);
    const tbody = table.createTBody();
    const way = panel.options.sortBy?.[0]?.desc === false ? -1 : 1;
    for (const row of [...rows.values()].sort((a, b) => way * ((b.values[0] ?? 0) - (a.values[0] ?? 0)))) tbody.append(tableRow(panel, row, keys, shown));
    body.append(table);
    return true;
  },
};

// properties are those of the column with a title.
function properties(panel, title) {
  const found = panel.fieldConfig.overrides.find(o => o.matcher.options === title)?.properties ?? [];
  return Object.fromEntries(found.map(p => [p.id, p.value]));
}

function tableRow(panel, row, keys, shown) {
  const tr = element("tr");
  for (const key of keys) {
    const cell = element("td"), links = properties(panel, key).links;
    if (links && row.labels[key]) {
      const a = element("a", row.labels[key]);
      a.href = link(links[0].url.match(/^\/d\/sonde-(\w+)/)[1], { instance: row.labels[key] });
      cell.append(a);
    } else cell.textContent = row.labels[key] ?? "";
    tr.append(cell);
  }
  for (const c of shown) {
    const { unit, thresholds } = properties(panel, c.title);
    tr.append(element("td", format(row.values[c.i], unit), "n " + (thresholds ? color(row.values[c.i], thresholds) : "")));
  }
  return tr;
}

async function draw(panel, box, range) {
  const body = element("div", undefined, "body");
  box.querySelector(".body")?.remove();
  box.append(body);
  try {
    box.dataset.state = await drawers[panel.type](panel, body, range) ? "ok" : "nodata";
    if (box.dataset.state === "nodata") body.replaceChildren(element("div", "No data", "none"));
  } catch (err) {
    box.dataset.state = "error";
    body.replaceChildren(element("div", err.message, "none"));
  }
}

async function start() {
  const board = await (await fetch("json/" + name + ".json")).json();
  document.title = board.title;
  document.getElementById("title").textContent = board.title;
  document.getElementById("about").textContent = board.description;
  for (const b of boards) {
    const a = element("a", b[0].toUpperCase() + b.slice(1));
    a.href = link(b);
    if (b === name) a.setAttribute("aria-current", "page");
    document.getElementById("menu").append(a);
  }
  const instances = document.getElementById("instance"), range = document.getElementById("range");
  for (const s of (await ask("query", { query: 'up{job="sonde"}' })).result) instances.append(new Option(s.metric.instance, s.metric.instance));
  instances.value = choices.get("instance") ?? ".+";
  instances.onchange = () => { location.search = link(name, { instance: instances.value }); };
  if (choices.get("range")) range.value = choices.get("range");
  range.onchange = () => { location.search = link(name, { range: range.value }); };
  const boxes = board.panels.map(panel => {
    const box = element("section", panel.type === "row" ? panel.title : undefined, panel.type === "row" ? "row" : "panel");
    const at = panel.gridPos;
    box.style.gridArea = `${at.y + 1} / ${at.x + 1} / span ${at.h} / span ${at.w}`;
    if (panel.type !== "row") {
      const heading = element("h2", panel.title);
      heading.title = panel.description;
      box.append(heading);
    }
    document.getElementById("panels").append(box);
    return { panel, box };
  }).filter(b => b.panel.type !== "row");
  const redraw = () => Promise.all(boxes.map(b => draw(b.panel, b.box, +range.value)));
  await redraw();
  document.body.dataset.state = "drawn";
  setInterval(redraw, 2 * interval * 1000);
}

start().catch(err => { document.getElementById("about").textContent = err.message; });
