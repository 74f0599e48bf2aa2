"use strict";
// How numbers are shown, by the units that Grafana knows.

function scaled(v, steps, base) {
  let i = 0;
  while (Math.abs(v) >= base && i < steps.length - 1) { v /= base; i++; }
  return [v, steps[i]];
}

function digits(v) {
  if (v === 0 || !isFinite(v)) return String(v);
  return Math.abs(v) >= 100 ? v.toFixed(0) : String(Number(v.toPrecision(3)));
}

function seconds(v) {
  const a = Math.abs(v);
  if (v === 0) return "0 s";
  if (a < 1e-6) return digits(v * 1e9) + " ns";
  if (a < 1e-3) return digits(v * 1e6) + " µs";
  if (a < 1) return digits(v * 1e3) + " ms";
  if (a < 60) return digits(v) + " s";
  if (a < 3600) return digits(v / 60) + " min";
  if (a < 86400) return digits(v / 3600) + " h";
  return digits(v / 86400) + " d";
}

function format(v, unit) {
  if (v === undefined || Number.isNaN(v)) return "–";
  switch (unit) {
    case "s": return seconds(v);
    case "bytes": case "Bps": {
      const [n, u] = scaled(v, ["B", "KiB", "MiB", "GiB", "TiB"], 1024);
      return digits(n) + " " + u + (unit === "Bps" ? "/s" : "");
    }
    case "percentunit": return digits(v * 100) + " %";
    case "bool": return v ? "yes" : "no";
    default: {
      const [n, u] = scaled(v, ["", " K", " M", " G"], 1000);
      return digits(n) + u + (unit === "cps" ? "/s" : "");
    }
  }
}

// color returns the class of the threshold that a value has reached.
function color(v, thresholds) {
  let name = "green";
  for (const step of thresholds?.steps ?? []) if (step.value == null || v >= step.value) name = step.color;
  return name;
}
