// Charts of a layer: one channel enlarged, how often values occur, statistics over steps.
import { colour, draw } from "./charts.js";
import { COLOUR_SCALE } from "./colours.js";
import { extent, valueOf } from "./scale.js";

const byId = (id) => document.getElementById(id);
const BARS = 64;

/** One channel as a heat map with values, or the features of a vector as bars. */
export function drawChannel(output, range, { layer, channel }) {
  const { planes } = output;
  const size = planes.width * planes.height;
  const plane = Float32Array.from(planes.bytes.subarray(channel * size, (channel + 1) * size), (byte) => valueOf(output, byte));
  byId("channel-title").textContent = planes.kind === "maps" ? `Channel ${channel}` : planes.kind === "vector" ? "Features" : "Matrix";
  if (planes.kind === "vector") return draw(byId("channel-map"), () => bars(plane, layer));
  const rows = Array.from({ length: planes.height }, (_, y) => plane.subarray(y * planes.width, (y + 1) * planes.width));
  const { low, high } = range ?? extent(output, channel);
  return draw(byId("channel-map"), () => ({
    traces: [{ type: "heatmap", z: rows, zmin: low, zmax: high > low ? high : low + 1, colorscale: COLOUR_SCALE, hovertemplate: "row %{y}, column %{x}: %{z:.4g}<extra></extra>", colorbar: { thickness: 10, outlinewidth: 0, tickfont: { color: colour("--dim"), size: 11 } } }],
    layout: {
      uirevision: `${layer} map`, hovermode: "closest",
      xaxis: { showgrid: false, zeroline: false, showspikes: false, constrain: "domain", title: { text: "" } },
      yaxis: { showgrid: false, zeroline: false, autorange: "reversed", scaleanchor: planes.kind === "maps" ? "x" : undefined, constrain: "domain", type: "linear" },
    },
  }));
}

function bars(values, layer) {
  return {
    traces: [{ type: "bar", y: values, marker: { color: colour("--accent") }, hovertemplate: "feature %{x}: %{y:.4g}<extra></extra>" }],
    layout: { uirevision: `${layer} bars`, hovermode: "closest", bargap: 0.1, xaxis: { title: { text: "feature" }, showspikes: false, showgrid: false } },
  };
}

/** How often each value occurs among some bytes: shares of 64 bars between lowest and highest. */
function shares(bytes) {
  const counts = new Float32Array(BARS);
  for (const byte of bytes) counts[byte >> 2]++;
  return counts.map((count) => count / bytes.length);
}

/** The values of all channels of the example, and before them those of the chosen one. */
export function drawHistogram(output, { layer, channel }) {
  const { planes } = output;
  const centres = Float32Array.from({ length: BARS }, (_, bar) => valueOf(output, bar * 4 + 1.5));
  const size = planes.width * planes.height;
  const all = shares(planes.bytes);
  const own = planes.kind === "maps" ? shares(planes.bytes.subarray(channel * size, (channel + 1) * size)) : null;
  const trace = (y, name, tone) => ({ type: "bar", x: centres, y, name, marker: { color: colour(tone) }, hovertemplate: "about %{x:.3g}: %{y:.2%}" });
  return draw(byId("histogram"), () => ({
    traces: [trace(all, own ? "all channels" : "values", "--accent"), ...(own ? [{ ...trace(own, `channel ${channel}`, "--second"), opacity: 0.65 }] : [])],
    layout: {
      uirevision: `${layer} values`, barmode: "overlay", bargap: 0.05, showlegend: Boolean(own),
      xaxis: { title: { text: "value" }, showspikes: false, showgrid: false }, yaxis: { title: { text: "share of values" }, tickformat: ".0%" },
    },
  }));
}

const LINES = {
  "range-chart": { highest: "--dim", mean: "--accent", spread: "--second", lowest: "--dim" },
  "silent-chart": { zeros: "--accent", dead: "--second" },
};

/** Statistics of all that a call of a layer gave, over training; `isWanted` once they are here. */
export async function drawStatistics(run, { layer, call }, isWanted) {
  const place = call ? `${layer}#${call + 1}` : layer;
  const response = await fetch(`/api/v1/curves?${new URLSearchParams({ runs: run, layer: place })}`);
  if (!response.ok || !isWanted()) return;
  const curves = new Map((await response.json()).curves.map((curve) => [curve.name, curve]));
  for (const [id, lines] of Object.entries(LINES)) {
    draw(byId(id), () => ({
      traces: Object.entries(lines).filter(([name]) => curves.has(name)).map(([name, tone]) => line(curves.get(name), name, tone)),
      layout: { uirevision: `${place} ${id}`, showlegend: true, xaxis: { type: "log", title: { text: "step, logarithmic" }, dtick: 1 }, yaxis: id === "silent-chart" ? { range: [-0.02, 1.02], tickformat: ".0%" } : {} },
    }));
  }
}

function line({ steps, values }, name, tone) {
  const mode = steps.length < 60 ? "lines+markers" : "lines";
  // log axes have no 0: the untrained network stands at one half
  return { type: "scatter", x: steps.map((step) => step || 0.5), y: values.map((v) => (typeof v === "number" ? v : null)), customdata: steps, name, mode, marker: { size: 4 }, line: { color: colour(tone), width: 1.6, dash: name === "lowest" ? "dot" : "solid" }, hovertemplate: "%{y:.3g}" };
}
