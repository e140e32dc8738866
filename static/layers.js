// What a layer gave for the probe batch: what is chosen, and everything that shows it.
import { setQuery } from "./address.js";
import { Beside } from "./beside.js";
import { drawBar, PALETTE } from "./colours.js";
import { FilmStrip } from "./film.js";
import { drawChannel, drawHistogram, drawStatistics } from "./layer_charts.js";
import { LayerOutputs } from "./layer_outputs.js";
import { paced } from "./live.js";
import { MosaicView } from "./mosaic_view.js";
import { brief, coloursOf, rangeOf, valueOf } from "./scale.js";
import { StepControl } from "./step.js";
import { Tree } from "./tree.js";

const byId = (id) => document.getElementById(id);
/** Nearest to this is the last step. */
const LAST = Number.MAX_SAFE_INTEGER;
/** What is chosen, and what of it the address leaves out. */
const DEFAULTS = { call: 0, example: 0, channel: 0, time: 0, scale: "layer", against: "" };

class LayersTab {
  constructor(place) {
    this.run = place.dataset.run;
    const steps = place.dataset.steps.split(",").map(Number);
    this.outputs = new LayerOutputs(this.run, JSON.parse(place.dataset.calls), steps, place.dataset.view);
    this.shown = { layer: place.dataset.layer, ...DEFAULTS };
    const onChannel = (channel) => this.chooseChannel(channel);
    this.tree = new Tree(place.querySelector(".tree"), (layer) => this.choose({ layer, call: 0, channel: 0 }));
    this.steps = new StepControl((step) => this.choose({ step }));
    this.mosaic = new MosaicView(byId("mosaic"), onChannel);
    this.film = new FilmStrip(byId("film"), byId("film-steps"), (step) => this.steps.go(step));
    this.beside = new Beside(this.outputs, (against) => this.choose({ against }), onChannel);
    drawBar(byId("bar"), PALETTE);
    this.steps.setSteps(steps);
    this.listen(place);
    this.begin(place, new URLSearchParams(location.search));
  }

  /** Show what the address says, as far as it is there. */
  begin(place, query) {
    const { shown } = this;
    for (const name of ["call", "example", "channel", "time"]) {
      const number = Number(query.get(name));
      if (Number.isInteger(number) && number > 0) shown[name] = number;
    }
    if (!this.outputs.facts(shown.layer, shown.call)) shown.call = 0;
    const example = place.querySelector(`[name=example][value="${shown.example}"]`);
    if (example) example.checked = true;
    else shown.example = 0;
    if ([...byId("scale").options].some(({ value }) => value === query.get("scale"))) shown.scale = query.get("scale");
    byId("scale").value = shown.scale;
    this.beside.against = query.get("against") ?? "";
    shown.against = this.beside.against;
    const step = query.get("step");
    shown.step = this.steps.show(step && Number.isFinite(Number(step)) ? Number(step) : LAST);
    this.showLayer();
    this.draw();
    this.load();
  }

  /** Read what there is, anew; at the last step, go on to the newest. */
  async load() {
    const followed = this.steps.isAtEnd;
    if (await this.outputs.update()) {
      this.steps.setSteps(this.outputs.steps);
      const step = this.steps.show(followed ? LAST : this.shown.step);
      this.tree.update(this.shown.layer);
      this.showLayer();
      this.shown.step = step;
      await this.draw();
    }
  }

  // -- choosing -----------------------------------------------------------------------------

  choose(changes) {
    const isNewPlace = ["layer", "call"].some((name) => name in changes && changes[name] !== this.shown[name]);
    Object.assign(this.shown, changes);
    // asked first: the rest is done while the answer is on its way
    const drawn = this.draw();
    setQuery(Object.fromEntries(Object.entries(changes).map(([name, value]) => [name, value === DEFAULTS[name] ? null : value])));
    if (isNewPlace) this.showLayer();
    return drawn;
  }

  chooseChannel(channel) {
    const planes = this.output?.planes;
    if (planes?.kind !== "maps" || !(channel >= 0 && channel < planes.count)) return;
    this.shown.channel = channel;
    setQuery({ channel: channel || null });
    this.showChannel();
    this.drawCharts();
    this.drawFilm();
  }

  showLayer() {
    const { layer, call } = this.shown;
    this.tree.choose(layer);
    byId("layer-title").textContent = layer;
    const calls = this.outputs.calls(layer);
    byId("call-choice").hidden = calls.length < 2;
    byId("call").replaceChildren(...calls.map((one) => new Option(`${one + 1} of ${calls.length}`, one)));
    byId("call").value = call;
    this.statistics = null;
  }

  // -- drawing ------------------------------------------------------------------------------

  /** Read and draw what is chosen, unless a later choice overtakes it. */
  async draw() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const asked = { ...this.shown, step: this.outputs.stepOf(this.shown) };
    const [output, beside] = await Promise.all([this.outputs.read(asked), this.beside.read(asked)]);
    if (turn !== this.turn) return;
    this.output = output;
    this.compared = beside;
    this.shown.channel = output.planes.kind === "maps" ? Math.min(this.shown.channel, output.planes.count - 1) : 0;
    this.drawMosaics();
    this.showFacts(asked);
    await painted();
    if (turn !== this.turn) return;
    this.drawStatistics();
    await Promise.all([this.drawCharts(), this.drawFilm()]);
  }

  /** Once for each layer, and anew when there are more steps. */
  drawStatistics() {
    const { layer, call } = this.shown;
    const wanted = `${layer} ${call} ${this.outputs.steps.length}`;
    if (this.statistics === wanted) return;
    this.statistics = wanted;
    drawStatistics(this.run, { layer, call }, () => this.statistics === wanted);
  }

  drawMosaics() {
    const { output, compared } = this;
    const { scale, layer, call, channel } = this.shown;
    const shown = compared?.other ? [output, compared.other] : [output];
    this.range = rangeOf(scale, shown, this.outputs.facts(layer, call) ?? { lowest: output.low, highest: output.high });
    // before the mosaic: it is to fit into what the cards beside it leave
    this.beside.show(compared, this.range, channel);
    this.mosaic.show(output.planes, coloursOf(output, this.range), (byte) => valueOf(output, byte), channel);
    byId("low").textContent = this.range ? brief(this.range.low) : "lowest of each channel";
    byId("high").textContent = this.range ? brief(this.range.high) : "highest of each channel";
    this.showChannel();
  }

  showFacts({ layer, call, step, example }) {
    const { planes, shape, low, high } = this.output;
    byId("mosaic-facts").textContent = `${describe(planes, shape)} at step ${step}`;
    byId("mosaic").setAttribute("aria-label", `Outputs of ${layer} at step ${step}, from ${brief(low)} to ${brief(high)}; arrow keys choose a channel`);
    const time = Math.min(this.shown.time, planes.times - 1);
    byId("time-choice").hidden = planes.times === 1;
    Object.assign(byId("time"), { max: planes.times - 1, value: time });
    byId("time-value").textContent = `${time + 1} of ${planes.times}`;
    const address = `/api/v1/runs/${this.run}/layers/${encodeURIComponent(layer)}`;
    byId("download").href = `${address}?${new URLSearchParams({ format: "npz", step, call, view: this.outputs.view })}`;
    byId("film-download").href = `${address}?${new URLSearchParams({ format: "webp", call, example, time, view: this.outputs.view })}`;
  }

  showChannel() {
    const { planes } = this.output;
    this.mosaic.choose(this.shown.channel);
    this.beside.choose(this.shown.channel);
    const number = byId("channel");
    number.value = this.shown.channel;
    number.max = planes.count - 1;
    number.parentElement.hidden = planes.kind !== "maps";
  }

  drawCharts() {
    return Promise.all([drawChannel(this.output, this.range, this.shown), drawHistogram(this.output, this.shown)]);
  }

  async drawFilm() {
    const asked = { ...this.shown, time: Math.min(this.shown.time, this.output.planes.times - 1) };
    const film = await this.outputs.film(asked);
    const isWanted = ["layer", "call", "example", "channel", "scale"].every((name) => asked[name] === this.shown[name]);
    if (!isWanted) return;
    byId("film-title").textContent = this.output.planes.kind === "maps" ? `Channel ${asked.channel} over training` : "Over training";
    this.film.show(film, asked.scale, this.outputs.facts(asked.layer, asked.call), this.outputs.stepOf(this.shown));
  }

  // -- listening ----------------------------------------------------------------------------

  listen(place) {
    byId("channel").addEventListener("input", ({ target }) => target.value !== "" && this.chooseChannel(Number(target.value)));
    place.querySelector(".examples").addEventListener("change", ({ target }) => this.choose({ example: Number(target.value) }));
    byId("call").addEventListener("change", ({ target }) => this.choose({ call: Number(target.value) }));
    byId("time").addEventListener("input", ({ target }) => this.choose({ time: Number(target.value) }));
    byId("scale").addEventListener("change", ({ target }) => this.choose({ scale: target.value }));
    addEventListener("resize", paced(() => {
      for (const part of [this.mosaic, this.beside]) part.resize();
      this.film.choose(this.film.step);
    }, 100));
    document.addEventListener("run", paced(() => this.load(), 500));
  }
}

function describe(planes, shape) {
  if (planes.kind === "vector") return `${shape[0]} features`;
  if (planes.kind === "matrix") return `${shape[0]} × ${shape[1]}`;
  const times = planes.times > 1 ? `${planes.times} times ` : "";
  return `${planes.count} channels of ${times}${planes.height} × ${planes.width}`;
}

/** Once what was drawn is on the screen: charts take long and are not to hold it up. */
function painted() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}

const place = document.getElementById("layers");
if (byId("mosaic")) new LayersTab(place);
else {
  new Tree(place.querySelector(".tree"));
  // nothing was recorded when the page was rendered: look again when there is news
  document.addEventListener("run", paced(async () => {
    const response = await fetch(`/api/v1/runs/${place.dataset.run}/layers`);
    if (response.ok && (await response.json()).layers.length) location.reload();
  }, 1000));
}
