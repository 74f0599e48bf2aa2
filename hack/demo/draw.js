"use strict";
// Pictures of series on a canvas.

const palette = ["#2f7ed8", "#e07b39", "#3aa76d", "#c2498b", "#8a63d2", "#c9a227", "#2aa6b8", "#d05050", "#7a8f3c", "#5b6c8f"];
const margin = { left: 58, right: 8, top: 8, bottom: 18 };

function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name); }

// canvas fits a canvas to its box and returns its context and the area of the plot.
function canvasIn(element) {
  const canvas = element.querySelector("canvas");
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  g.font = "11px system-ui, sans-serif";
  const area = { x: margin.left, y: margin.top, w: canvas.clientWidth - margin.left - margin.right, h: canvas.clientHeight - margin.top - margin.bottom };
  return [g, area];
}

function nice(max) {
  if (!(max > 0)) return 1;
  const p = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 2.5, 5, 10].map(f => f * p).find(v => v >= max);
}

function timeAxis(g, area, from, to) {
  g.fillStyle = css("--mut");
  g.textAlign = "center";
  for (let i = 0; i <= 4; i++) {
    const at = new Date((from + (to - from) * i / 4) * 1000);
    const text = at.toTimeString().slice(0, to - from < 600 ? 8 : 5);
    g.fillText(text, Math.min(area.x + area.w * i / 4, area.x + area.w - 20), area.y + area.h + 14);
  }
}

function valueAxis(g, area, max, unit) {
  g.textAlign = "right";
  for (let i = 0; i <= 4; i++) {
    const y = area.y + area.h * (1 - i / 4);
    g.strokeStyle = css("--grid");
    g.beginPath(); g.moveTo(area.x, y); g.lineTo(area.x + area.w, y); g.stroke();
    g.fillStyle = css("--mut");
    g.fillText(format(max * i / 4, unit), area.x - 6, y + 4);
  }
}

// lines draws series, stacked or not, with a dashed line at each threshold in sight.
function lines(element, series, from, to, options) {
  const [g, area] = canvasIn(element);
  const times = [...new Set(series.flatMap(s => s.values.map(v => v[0])))].sort((a, b) => a - b);
  const base = new Map(times.map(t => [t, 0]));
  const drawn = series.map(s => s.values.filter(v => isFinite(v[1])).map(([t, v]) => {
    if (!options.stacked) return [t, v, 0];
    const below = base.get(t);
    base.set(t, below + v);
    return [t, below + v, below];
  }));
  const max = nice(Math.max(0, ...drawn.flatMap(d => d.map(p => p[1]))));
  const x = t => area.x + area.w * (t - from) / (to - from), y = v => area.y + area.h * (1 - v / max);
  valueAxis(g, area, max, options.unit);
  timeAxis(g, area, from, to);
  for (let i = drawn.length - 1; i >= 0; i--) {
    const points = drawn[i];
    if (points.length === 0) continue;
    g.strokeStyle = g.fillStyle = palette[i % palette.length];
    g.lineWidth = 1.3;
    g.beginPath();
    points.forEach(([t, v], n) => n ? g.lineTo(x(t), y(v)) : g.moveTo(x(t), y(v)));
    g.stroke();
    points.toReversed().forEach(([t, , below]) => g.lineTo(x(t), y(below)));
    g.globalAlpha = options.stacked ? 0.4 : 0.06;
    g.fill();
    g.globalAlpha = 1;
  }
  g.setLineDash([5, 4]);
  for (const step of options.thresholds?.steps ?? []) {
    if (step.value == null || step.value > max) continue;
    g.strokeStyle = css("--" + step.color);
    g.beginPath(); g.moveTo(area.x, y(step.value)); g.lineTo(area.x + area.w, y(step.value)); g.stroke();
  }
  g.setLineDash([]);
}

// cells returns the buckets of a heatmap: native ones as they are, classic ones from
// their cumulative counts.
function cells(series) {
  const all = [];
  for (const s of series) {
    for (const [t, h] of s.histograms ?? []) {
      for (const [, low, high, count] of h.buckets ?? []) all.push({ t, low: +low, high: +high, count: +count });
    }
  }
  if (all.length > 0) return all;
  const bounds = series.filter(s => s.metric.le).sort((a, b) => +a.metric.le.replace("+Inf", "Infinity") - +b.metric.le.replace("+Inf", "Infinity"));
  const below = new Map();
  let low = 0;
  for (const s of bounds) {
    const high = s.metric.le === "+Inf" ? Infinity : +s.metric.le;
    for (const [t, v] of s.values) {
      if (v - (below.get(t) ?? 0) > 1e-12) all.push({ t, low, high, count: v - (below.get(t) ?? 0) });
      below.set(t, v);
    }
    low = high;
  }
  return all;
}

// heat draws buckets over time on a logarithmic axis.
function heat(element, series, from, to, step, unit) {
  const [g, area] = canvasIn(element);
  const all = cells(series);
  const positive = all.filter(c => c.high > 0 && isFinite(c.high));
  if (positive.length === 0) return false;
  let min = Math.min(...positive.map(c => c.low > 0 ? c.low : c.high / 2)), max = Math.max(...positive.map(c => c.high));
  min = Math.log2(min); max = Math.max(Math.log2(max), min + 1);
  const top = Math.max(...all.map(c => c.count));
  const y = v => area.y + area.h * (1 - (Math.min(Math.max(v > 0 ? Math.log2(v) : min, min), max) - min) / (max - min));
  const width = Math.max(area.w * step / (to - from), 1) + 0.5;
  for (const c of all) {
    const share = Math.sqrt(c.count / top); // as the exponent 0.5 of the panel
    g.fillStyle = `hsl(${235 - 210 * share} 75% ${40 + 18 * share}%)`;
    const high = y(c.high), low = y(c.low);
    g.fillRect(area.x + area.w * (c.t - from) / (to - from) - width, high, width, Math.max(low - high, 2));
  }
  g.fillStyle = css("--mut");
  g.textAlign = "right";
  for (let i = 0; i <= 4; i++) g.fillText(format(2 ** (min + (max - min) * i / 4), unit), area.x - 6, area.y + area.h * (1 - i / 4) + 4);
  timeAxis(g, area, from, to);
  return true;
}
