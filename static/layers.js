// What a layer gave for the probe batch: mosaic, one channel, values, statistics over steps.
import { setQuery } from "./address.js";
import { colour, draw } from "./charts.js";
import { COLOUR_SCALE, PALETTE } from "./colours.js";
import { paced } from "./live.js";
import { across, paint, placeOf, planesOf, under } from "./mosaic.js";

const place = document.getElementById("layers");
const run = place.dataset.run;
const byId = (id) => document.getElementById(id);
const shown = { layer: place.dataset.layer, step: null, example: 0, channel: 0, frame: 0, call: 0 };
const RATIO = 2.2;
const FRAME_MS = 450;
let layers = new Map();
let calls = new Map();
let output = null;

// -- what there is --------------------------------------------------------------------------

async function load() {
  const response = await fetch(`/api/v1/runs/${run}/layers`);
  if (!response.ok) return;
  const answer = await response.json();
  layers = new Map(answer.layers.filter((one) => one.call === 0).map((one) => [one.layer, one]));
  calls = new Map();
  for (const { layer, call } of answer.layers) calls.set(layer, Math.max(call + 1, calls.get(layer) ?? 0));
  showCalls();
  const steps = layers.get(shown.layer)?.steps ?? [];
  const slider = byId("step");
  const atEnd = shown.step === null || Number(slider.value) === Number(slider.max);
  slider.max = Math.max(0, steps.length - 1);
  if (atEnd) await choose({ step: steps.at(-1) });
  else slider.value = steps.indexOf(shown.step);
  drawStatistics();
}

const cache = new Map();

async function read({ layer, step, example, call }) {
  const key = `${layer} ${step} ${example} ${call}`;
  if (!cache.has(key)) {
    const address = `/api/v1/runs/${run}/layers/${encodeURIComponent(layer)}/bytes?step=${step}&example=${example}&call=${call}`;
    const response = await fetch(address);
    if (!response.ok) throw new Error((await response.json()).detail);
    const shape = response.headers.get("X-Shape").split(",").map(Number);
    const [low, high] = ["X-Low", "X-High"].map((name) => Number(response.headers.get(name)));
    const bytes = new Uint8Array(await response.arrayBuffer());
    const planes = planesOf(shape, bytes);
    if (cache.size > 100) cache.delete(cache.keys().next().value);
    cache.set(key, { shape, low, high, bytes, planes, columns: across(planes, RATIO), step });
  }
  return cache.get(key);
}

const valueOf = (byte) => output.low + (byte / 255) * (output.high - output.low);
const brief = (value) => Number(value.toPrecision(3)).toString();

// -- choosing -------------------------------------------------------------------------------

async function choose(changes) {
  const isNewLayer = "layer" in changes && changes.layer !== shown.layer;
  Object.assign(shown, changes);
  if (isNewLayer) showLayer();
  else if ("call" in changes) showCall();
  if (shown.step === undefined || shown.step === null) return;
  const asked = { ...shown };
  const found = await read(asked);
  // a later choice may have overtaken this one
  if (asked.layer !== shown.layer || asked.step !== shown.step || asked.example !== shown.example || asked.call !== shown.call) return;
  shown.frame = Math.min(shown.frame, found.planes.frames - 1);
  output = shown.frame ? { ...found, planes: planesOf(found.shape, found.bytes, shown.frame) } : found;
  const count = output.planes.kind === "maps" ? output.planes.count : 1;
  shown.channel = Math.min(shown.channel, count - 1);
  showFrame();
  drawMosaic();
  await Promise.all([drawChannel(), drawHistogram()]);
}

function showLayer() {
  const facts = layers.get(shown.layer);
  const steps = facts?.steps ?? [];
  byId("step").max = Math.max(0, steps.length - 1);
  if (!steps.includes(shown.step)) shown.step = steps.at(-1);
  byId("step").value = steps.indexOf(shown.step);
  byId("layer-title").textContent = shown.layer;
  for (const link of place.querySelectorAll("a[data-layer]")) {
    if (link.dataset.layer === shown.layer) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  setQuery({ layer: shown.layer });
  showCall();
}

/** Which use of a layer that a forward pass uses repeatedly; hidden where there is only one. */
function showCall() {
  showCalls();
  setQuery({ call: shown.call ? shown.call + 1 : null });
  byId("download").href = `/api/v1/runs/${run}/layers/${encodeURIComponent(shown.layer)}?format=npz&step=${shown.step}&call=${shown.call}`;
  drawStatistics();
}

function showCalls() {
  const most = calls.get(shown.layer) ?? 1;
  const number = byId("call");
  number.max = most;
  number.value = shown.call + 1;
  number.parentElement.hidden = most === 1;
  byId("calls").textContent = `of ${most}`;
}

/** The slider over the frames of clips; hidden where there is only one picture. */
function showFrame() {
  const slider = byId("frame");
  slider.max = output.planes.frames;
  slider.value = shown.frame + 1;
  slider.parentElement.hidden = output.planes.frames === 1;
  byId("frame-value").textContent = `${shown.frame + 1} of ${output.planes.frames}`;
}

// -- drawing --------------------------------------------------------------------------------

function drawMosaic() {
  const { planes, columns, shape, low, high, step } = output;
  const canvas = byId("mosaic");
  const size = paint(canvas, planes, columns);
  const frame = canvas.parentElement;
  // whole pixels while they fit, so that every value is a square of the same size
  const room = frame.clientWidth;
  const scale = size.width < room ? Math.max(1, Math.floor(Math.min(room / size.width, 420 / size.height))) : room / size.width;
  const most = planes.kind === "vector" ? room : size.width * scale;
  canvas.style.width = `${Math.min(most, room)}px`;
  canvas.style.height = planes.kind === "vector" ? "28px" : "auto";
  canvas.setAttribute("aria-label", `Outputs of ${shown.layer} at step ${step}, from ${brief(low)} to ${brief(high)}; arrow keys choose a channel`);
  byId("mosaic-facts").textContent = `${describe(planes, shape)} at step ${step}`;
  byId("step-value").textContent = step;
  byId("low").textContent = brief(low);
  byId("high").textContent = brief(high);
  markChannel();
}

function describe(planes, shape) {
  if (planes.kind === "vector") return `${shape[0]} features`;
  if (planes.kind === "matrix") return `${shape[0]} × ${shape[1]}`;
  return `${planes.count} channels of ${planes.height} × ${planes.width}`;
}

function markChannel() {
  const mark = byId("mark") ?? byId("mosaic").parentElement.appendChild(Object.assign(document.createElement("div"), { id: "mark" }));
  mark.hidden = output.planes.kind !== "maps";
  const canvas = byId("mosaic");
  const where = placeOf(shown.channel, canvas, output.planes, output.columns);
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  Object.assign(mark.style, { left: `${canvas.offsetLeft + where.left * wide}px`, top: `${canvas.offsetTop + where.top * high}px`, width: `${where.width * wide}px`, height: `${where.height * high}px` });
  const number = byId("channel");
  number.value = shown.channel;
  number.max = output.planes.count - 1;
  number.parentElement.hidden = output.planes.kind !== "maps";
}

function drawChannel() {
  const { planes, low, high } = output;
  const size = planes.width * planes.height;
  const plane = Float32Array.from(planes.bytes.subarray(shown.channel * size, (shown.channel + 1) * size), valueOf);
  byId("channel-title").textContent = planes.kind === "maps" ? `Channel ${shown.channel}` : planes.kind === "vector" ? "Features" : "Matrix";
  if (planes.kind === "vector") return draw(byId("channel-map"), () => bars(plane));
  const rows = Array.from({ length: planes.height }, (_, y) => plane.subarray(y * planes.width, (y + 1) * planes.width));
  return draw(byId("channel-map"), () => ({
    traces: [{ type: "heatmap", z: rows, zmin: low, zmax: high > low ? high : low + 1, colorscale: COLOUR_SCALE, hovertemplate: "row %{y}, column %{x}: %{z:.4g}<extra></extra>", colorbar: { thickness: 10, outlinewidth: 0, tickfont: { color: colour("--dim"), size: 11 } } }],
    layout: {
      uirevision: `${shown.layer} map`, hovermode: "closest",
      xaxis: { showgrid: false, zeroline: false, showspikes: false, constrain: "domain", title: { text: "" } },
      yaxis: { showgrid: false, zeroline: false, autorange: "reversed", scaleanchor: planes.kind === "maps" ? "x" : undefined, constrain: "domain", type: "linear" },
    },
  }));
}

function bars(values) {
  return {
    traces: [{ type: "bar", y: values, marker: { color: colour("--accent") }, hovertemplate: "feature %{x}: %{y:.4g}<extra></extra>" }],
    layout: { uirevision: `${shown.layer} bars`, hovermode: "closest", bargap: 0.1, xaxis: { title: { text: "feature" }, showspikes: false, showgrid: false } },
  };
}

/** How often each value occurs, from the bytes: 64 bars between lowest and highest. */
function drawHistogram() {
  const counts = new Int32Array(64);
  for (const byte of output.bytes) counts[byte >> 2]++;
  const centres = Float32Array.from(counts, (_, bar) => valueOf(bar * 4 + 1.5));
  return draw(byId("histogram"), () => ({
    traces: [{ type: "bar", x: centres, y: counts, marker: { color: colour("--accent") }, hovertemplate: "about %{x:.3g}: %{y} values<extra></extra>" }],
    layout: { uirevision: `${shown.layer} values`, hovermode: "closest", bargap: 0.05, xaxis: { title: { text: "value" }, showspikes: false, showgrid: false }, yaxis: { title: { text: "how many" } } },
  }));
}

const LINES = {
  "range-chart": { highest: "--dim", mean: "--accent", spread: "--second", lowest: "--dim" },
  "silent-chart": { zeros: "--accent", dead: "--second" },
};

/** What the series of the layer's shown call are under. */
const ofSeries = () => (shown.call ? `${shown.layer}#${shown.call + 1}` : shown.layer);

async function drawStatistics() {
  const layer = ofSeries();
  const response = await fetch(`/api/v1/curves?${new URLSearchParams({ runs: run, layer })}`);
  if (!response.ok || layer !== ofSeries()) return;
  const curves = new Map((await response.json()).curves.map((curve) => [curve.name, curve]));
  for (const [id, lines] of Object.entries(LINES)) {
    draw(byId(id), () => ({
      traces: Object.entries(lines).filter(([name]) => curves.has(name)).map(([name, tone]) => {
        const { steps, values } = curves.get(name);
        const mode = steps.length < 60 ? "lines+markers" : "lines";
        // log axes have no 0: the untrained network stands at one half
        return { type: "scatter", x: steps.map((step) => step || 0.5), y: values.map((v) => (typeof v === "number" ? v : null)), customdata: steps, name, mode, marker: { size: 4 }, line: { color: colour(tone), width: 1.6, dash: name === "lowest" ? "dot" : "solid" }, hovertemplate: "%{y:.3g}" };
      }),
      layout: { uirevision: `${layer} ${id}`, showlegend: true, xaxis: { type: "log", title: { text: "step, logarithmic" }, dtick: 1 }, yaxis: id === "silent-chart" ? { range: [-0.02, 1.02], tickformat: ".0%" } : {} },
    }));
  }
}

function drawBar() {
  const bar = byId("bar").getContext("2d");
  const picture = bar.createImageData(256, 1);
  new Uint32Array(picture.data.buffer).set(PALETTE);
  bar.putImageData(picture, 0, 0);
}

// -- listening ------------------------------------------------------------------------------

function listen() {
  const canvas = byId("mosaic");
  byId("step").addEventListener("input", ({ target }) => {
    const step = layers.get(shown.layer)?.steps[Number(target.value)];
    setQuery({ step });
    choose({ step });
  });
  byId("call").addEventListener("input", ({ target }) => {
    const call = Number(target.value) - 1;
    if (call >= 0 && call < (calls.get(shown.layer) ?? 1)) choose({ call });
  });
  byId("frame").addEventListener("input", ({ target }) => {
    const frame = Number(target.value) - 1;
    setQuery({ frame: frame ? frame + 1 : null });
    choose({ frame });
  });
  byId("channel").addEventListener("input", ({ target }) => chooseChannel(Number(target.value)));
  place.querySelector(".examples").addEventListener("change", ({ target }) => {
    setQuery({ example: Number(target.value) || null });
    choose({ example: Number(target.value) });
  });
  place.querySelector(".tree").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-layer]");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    choose({ layer: link.dataset.layer, channel: 0, call: 0 });
  });
  canvas.addEventListener("click", (event) => {
    const found = under(event, canvas, output.planes, output.columns);
    if (found && output.planes.kind === "maps") chooseChannel(found.plane);
  });
  canvas.addEventListener("mousemove", showTip);
  canvas.addEventListener("mouseleave", () => (byId("tip").hidden = true));
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: output.columns, ArrowUp: -output.columns }[event.key];
    if (!by) return;
    event.preventDefault();
    chooseChannel(shown.channel + by);
  });
  byId("play").addEventListener("click", play);
  addEventListener("resize", paced(() => output && drawMosaic(), 100));
  document.addEventListener("run", paced(load, 500));
}

function chooseChannel(channel) {
  if (!output || output.planes.kind !== "maps" || !(channel >= 0 && channel < output.planes.count)) return;
  shown.channel = channel;
  setQuery({ channel: channel || null });
  markChannel();
  drawChannel();
}

function showTip(event) {
  const tip = byId("tip");
  const found = output && under(event, byId("mosaic"), output.planes, output.columns);
  tip.hidden = !found;
  if (!found) return;
  const { planes } = output;
  const byte = planes.bytes[(found.plane * planes.height + found.y) * planes.width + found.x];
  const where = { maps: `channel ${found.plane}, row ${found.y}, column ${found.x}`, matrix: `row ${found.y}, column ${found.x}`, vector: `feature ${found.x}` };
  tip.textContent = `${where[planes.kind]}: ${brief(valueOf(byte))}`;
}

/** The film of training: every recorded step in turn, from the start when it is at its end. */
async function play() {
  const button = byId("play");
  const playing = button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-pressed", String(!playing));
  button.textContent = playing ? "▶ Play" : "❚❚ Pause";
  if (playing) return;
  // before the list of layers is there: those the page came with
  const steps = layers.get(shown.layer)?.steps ?? place.dataset.steps.split(",").map(Number);
  let at = steps.indexOf(shown.step);
  if (at === steps.length - 1) at = -1;
  while (button.getAttribute("aria-pressed") === "true" && ++at < steps.length) {
    byId("step").value = at;
    await choose({ step: steps[at] });
    await new Promise((resolve) => setTimeout(resolve, FRAME_MS));
  }
  button.setAttribute("aria-pressed", "false");
  button.textContent = "▶ Play";
}

if (byId("mosaic")) {
  const query = new URLSearchParams(location.search);
  shown.example = Number(query.get("example")) || 0;
  shown.channel = Number(query.get("channel")) || 0;
  calls.set(shown.layer, Number(place.dataset.calls));
  shown.call = Math.max(0, Math.min(calls.get(shown.layer), Math.floor(Number(query.get("call")) || 1)) - 1);
  shown.frame = Math.max(0, Math.floor(Number(query.get("frame")) || 1) - 1);
  const example = place.querySelector(`[name=example][value="${shown.example}"]`);
  if (example) example.checked = true;
  else shown.example = 0;
  const steps = place.dataset.steps.split(",").map(Number);
  if (query.has("step") && steps.includes(Number(query.get("step")))) {
    shown.step = Number(query.get("step"));
    byId("step").value = steps.indexOf(shown.step);
  }
  drawBar();
  listen();
  choose({ step: shown.step ?? steps.at(-1) });
  load();
} else {
  // nothing was recorded when the page was rendered: look again when there is news
  document.addEventListener("run", paced(async () => {
    const response = await fetch(`/api/v1/runs/${run}/layers`);
    if (response.ok && (await response.json()).layers.length) location.reload();
  }, 1000));
}
