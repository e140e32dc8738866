// Figures that lessons and proofs show: charts by Plotly, pictures on canvases.
import { colour, draw, plain } from "./charts.js";
import { COLOUR_SCALE } from "./colours.js";

const COLOURS = ["--run-1", "--run-0", "--run-2", "--run-3", "--run-4", "--run-6"];
const HEIGHT = 280;

/** Draw every figure inside `place` that is not drawn yet. */
export function drawFigures(place) {
  for (const figure of place.querySelectorAll("[data-chart]:not([data-drawn])")) {
    const chart = JSON.parse(figure.dataset.chart);
    figure.dataset.drawn = "yes";
    draw(figure.querySelector(".plot"), () => drawing(chart));
  }
  for (const figure of place.querySelectorAll("[data-map]")) {
    const map = JSON.parse(figure.dataset.map);
    draw(figure.querySelector(".plot"), () => mapping(map));
  }
  for (const figure of place.querySelectorAll("[data-pictures]")) paint(figure, JSON.parse(figure.dataset.pictures).pictures);
}

function drawing(chart) {
  const traces = chart.lines.map((line, number) => (chart.kind === "bars" ? bars : curve)(chart, line, number));
  const marks = chart.marks ?? [];
  traces.push(...marks.map(mark));
  if (chart.rings?.length) traces.push(rings(chart.rings));
  const yaxis = { title: { text: plain(chart.y_title) } };
  if (chart.is_log) Object.assign(yaxis, { type: "log", exponentformat: "power", dtick: 2 });
  return {
    traces,
    layout: {
      height: HEIGHT,
      showlegend: chart.lines.length > 1,
      barmode: "group",
      hovermode: chart.kind === "dots" ? "closest" : "x unified",
      ...(marks.length ? { dragmode: false } : {}),
      xaxis: { title: { text: plain(chart.x_title) }, ...ticks(chart.lines.flatMap((line) => line.x)) },
      yaxis,
      margin: { t: 28 },
    },
  };
}

/** A point that stands out from any colour beneath it. */
function mark(one) {
  return {
    type: "scatter",
    mode: "markers",
    name: plain(one.name),
    x: [one.x],
    y: [one.y],
    showlegend: false,
    marker: { size: 13, color: colour("--accent"), line: { color: colour("--surface"), width: 2 } },
  };
}

function mapping(map) {
  const heat = {
    type: "heatmap",
    x: map.x,
    y: map.y,
    z: map.values,
    colorscale: COLOUR_SCALE,
    zsmooth: "best",
    hovertemplate: `${plain(map.x_title)} %{x:.3g}<br>${plain(map.y_title)} %{y:.3g}<br>${plain(map.value_title)} %{z:.4g}<extra></extra>`,
    colorbar: { title: { text: plain(map.value_title) }, thickness: 10, outlinewidth: 0 },
  };
  return {
    traces: [heat, ...map.marks.map(mark)],
    layout: {
      height: HEIGHT,
      hovermode: "closest",
      ...(map.marks.length ? { dragmode: false } : {}),
      xaxis: { title: { text: plain(map.x_title) }, showspikes: false },
      yaxis: { title: { text: plain(map.y_title) } },
      margin: { t: 12 },
    },
  };
}

/** Names stand side by side; of few whole numbers each has its tick, and nothing between them one. */
function ticks(places) {
  if (typeof places[0] === "string") return { type: "category" };
  return places.every(Number.isInteger) && Math.max(...places) <= 16 ? { dtick: 1 } : {};
}

function curve(chart, line, number) {
  const stroke = line.is_reference ? colour("--dim") : colour(COLOURS[number % COLOURS.length]);
  return {
    type: "scatter",
    mode: chart.kind === "dots" ? "markers" : line.x.length > 40 ? "lines" : "lines+markers",
    name: plain(line.name),
    x: line.x,
    y: values(chart, line),
    line: { color: stroke, width: 2, dash: line.is_reference ? "dash" : "solid" },
    marker: { size: chart.kind === "dots" ? 3 : 6 },
  };
}

/** Points that matter, each with what it is. */
function rings(places) {
  return {
    type: "scatter",
    mode: "markers",
    name: "knee",
    x: places.map((one) => one.x),
    y: places.map((one) => one.y),
    text: places.map((one) => plain(one.text)),
    hovertemplate: "%{text}<extra></extra>",
    marker: { size: 16, symbol: "circle-open", color: colour("--text"), line: { width: 2 } },
  };
}

function bars(chart, line, number) {
  return {
    type: "bar",
    name: plain(line.name),
    x: line.x.map(plain),
    y: values(chart, line),
    marker: { color: line.is_reference ? colour("--dim") : colour(COLOURS[number % COLOURS.length]) },
  };
}

/** What is not finite leaves a gap. A logarithmic axis has no zero: exact agreement stands at its
 *  foot, below all rounding. */
function values(chart, line) {
  const finite = line.y.map((value) => (typeof value === "number" ? value : null));
  return chart.is_log ? finite.map((value) => (value === 0 ? 1e-18 : value)) : finite;
}

/** Numbers as greys, all pictures of a figure on one scale. */
function paint(figure, pictures) {
  const all = pictures.flatMap((picture) => picture.values.flat());
  const lowest = all.reduce((least, value) => Math.min(least, value), Infinity);
  const highest = all.reduce((most, value) => Math.max(most, value), -Infinity);
  figure.querySelectorAll("canvas").forEach((canvas, number) => {
    const rows = pictures[number].values;
    const image = new ImageData(rows[0].length, rows.length);
    rows.flat().forEach((value, at) => {
      const grey = highest > lowest ? Math.round((255 * (value - lowest)) / (highest - lowest)) : 0;
      image.data.set([grey, grey, grey, 255], 4 * at);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
  });
}
