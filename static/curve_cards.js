// Cards with curves: fetched as wide as they are shown, with one zoom and one crosshair for all.
import { setQuery } from "./address.js";
import { draw, colour, plain } from "./charts.js";
import { CurveData } from "./curve_data.js";
import { paced } from "./live.js";

const MOST_POINTS = 1500;

/** What a chart draws for a value that is not finite: a gap. */
const drawable = (values) => Array.from(values, (value) => (Number.isFinite(value) ? value : null));

export class CurveCards {
  /** `how` says which runs, and for a curve: its card, label, colour, steps per epoch, best end. */
  constructor(place, how) {
    this.place = place;
    this.how = how;
    this.data = new CurveData({ runs: how.runs.join(","), ...(how.names ? { names: how.names.join(",") } : {}) });
    this.zoom = readZoom();
    this.seen = new IntersectionObserver((entries) => this.drawSeen(entries), { rootMargin: "200px" });
    for (const card of place.querySelectorAll("[data-metric]")) this.seen.observe(card);
    this.controls = document.getElementById("controls");
    this.x = this.chosen.x;
    this.update = paced(() => this.fetch(), 250);
    this.controls.addEventListener("input", (event) => this.choose(event));
    this.controls.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("reset-zoom").addEventListener("click", () => this.setZoom(null));
    this.update();
  }

  get chosen() {
    return Object.fromEntries(new FormData(this.controls));
  }

  choose(event) {
    const { smoothing, x, scale } = this.chosen;
    document.getElementById("smoothing-value").textContent = smoothing;
    setQuery({ smoothing: Number(smoothing) ? smoothing : null, x: x === "step" ? null : x, scale: scale === "linear" ? null : scale });
    // a zoom in steps means nothing in seconds
    if (event.target.name === "x") this.setZoom(null);
    if (event.target.name === "scale") this.draw();
    else this.update();
  }

  get asked() {
    const width = this.place.querySelector(".chart").clientWidth * devicePixelRatio;
    const { smoothing, x } = this.chosen;
    return { points: Math.max(200, Math.min(MOST_POINTS, Math.round(width))), smoothing, times: x === "time" };
  }

  async fetch() {
    const { x } = this.chosen;
    await this.data.update(this.asked, (curve) => this.inside(curve, x));
    // only now: seconds cannot be drawn before they are there
    this.x = x;
    await this.draw();
  }

  /** The steps of a curve between which the zoom lies; null for all of it. */
  inside(curve, x) {
    if (!this.zoom || !curve.steps.length) return null;
    const places = this.places(curve, x);
    const [first, last] = this.zoom.map((place) => stepAt(places, curve.steps, place));
    return [Math.max(0, Math.floor(first)), Math.ceil(last)];
  }

  drawSeen(entries) {
    for (const { target, isIntersecting } of entries) {
      target.isSeen = isIntersecting;
      if (isIntersecting && target.isStale) this.drawCard(target);
    }
  }

  async draw() {
    for (const card of this.place.querySelectorAll("[data-metric]")) {
      card.isStale = true;
      if (card.isSeen) await this.drawCard(card);
    }
  }

  async drawCard(card) {
    const curves = this.data.curves;
    const own = curves.filter((curve) => this.how.cardOf(curve) === card.dataset.metric);
    if (!own.length) {
      const waiting = card.querySelector(".waiting");
      if (waiting && curves.length) waiting.textContent = "Nothing was recorded";
      return;
    }
    card.isStale = false;
    this.sayBest(card, own);
    this.link(await draw(card.querySelector(".chart"), () => this.figure(own)));
  }

  figure(curves) {
    const { smoothing, scale } = this.chosen;
    const { x } = this;
    const traces = curves.flatMap((curve) => this.traces(curve, Number(smoothing), x));
    return {
      traces,
      layout: {
        uirevision: `${x} ${this.zoom}`,
        showlegend: curves.length > 1 && curves.length <= 12,
        xaxis: { title: { text: { step: "step", epoch: "epoch", time: "seconds since the first step" }[x] }, ...(this.zoom ? { range: [...this.zoom], autorange: false } : { autorange: true }) },
        yaxis: { type: scale, ...(scale === "log" ? { tickformat: "~g" } : {}) },
      },
    };
  }

  traces(curve, smoothing, x) {
    const places = this.places(curve, x);
    const line = { color: this.how.colour(curve), width: 1.8, dash: this.how.dash?.(curve) ?? "solid" };
    const name = plain(this.how.label(curve));
    // a handful of points is easier to see with its dots
    const mode = curve.steps.length < 40 ? "lines+markers" : "lines";
    const shown = { type: "scatter", x: places, y: drawable((smoothing && curve.smoothed) || curve.values), name, mode, line, marker: { size: 5, color: line.color }, connectgaps: false, hovertemplate: "%{y:.4g}" };
    const found = [shown];
    if (smoothing && curve.smoothed) {
      found.unshift({ ...shown, y: drawable(curve.values), mode: "lines", opacity: 0.25, showlegend: false, hoverinfo: "skip", hovertemplate: null });
    }
    const best = this.bestPoint(curve, places);
    if (best) found.push(best);
    return found;
  }

  places(curve, x) {
    if (x === "time") {
      const began = this.data.began(curve.run);
      return Array.from(curve.times, (time) => time - began);
    }
    const perEpoch = (x === "epoch" && this.how.stepsPerEpoch(curve)) || 1;
    return Array.from(curve.steps, (step) => step / perEpoch);
  }

  bestPoint(curve, places) {
    const end = this.how.best(curve);
    if (!end || typeof curve[end] !== "number") return null;
    const index = curve.steps.indexOf(curve[`${end}_step`]);
    if (index < 0) return null;
    return { type: "scatter", x: [places[index]], y: [curve[end]], mode: "markers", name: "best", showlegend: false, hoverinfo: "skip", marker: { symbol: "circle-open", size: 11, color: colour("--text"), line: { width: 2 } } };
  }

  sayBest(card, curves) {
    const place = card.querySelector(".best");
    const curve = curves.find((one) => this.how.best(one));
    if (!place || !curve) return;
    const end = this.how.best(curve);
    if (typeof curve[end] === "number") place.textContent = `best test ${curve[end].toPrecision(4)} at step ${curve[`${end}_step`]}`;
  }

  /** Zooming one card zooms all. */
  link(chart) {
    if (chart.isLinked) return;
    chart.isLinked = true;
    chart.on("plotly_relayout", (change) => {
      if (change["xaxis.autorange"]) this.setZoom(null);
      else if (change["xaxis.range[0]"] !== undefined) this.setZoom([change["xaxis.range[0]"], change["xaxis.range[1]"]]);
    });
    chart.on("plotly_hover", ({ xvals }) => this.point(chart, xvals?.[0]));
    chart.on("plotly_unhover", () => this.point(chart, null));
  }

  /** The crosshair of one card on the others. */
  point(from, x) {
    // the other charts report their hover too
    if (this.isPointing) return;
    this.isPointing = true;
    for (const chart of this.place.querySelectorAll(".chart.js-plotly-plot")) {
      if (chart === from) continue;
      if (x === null || x === undefined) Plotly.Fx.unhover(chart);
      else Plotly.Fx.hover(chart, { xval: x }, ["xy"]);
    }
    this.isPointing = false;
  }

  setZoom(range) {
    if (String(range) === String(this.zoom)) return;
    this.zoom = range;
    // what was fetched for the last one may not reach as far
    this.data.detail = null;
    setQuery({ zoom: range ? range.map((value) => Number(value).toPrecision(6)).join("_") : null });
    this.draw();
    this.update();
  }
}

/** The step at a place on the x axis, between the steps of the points on both sides of it. */
function stepAt(places, steps, place) {
  const after = places.findIndex((one) => one >= place);
  if (after === 0) return steps[0];
  if (after < 0) return steps[steps.length - 1];
  const share = (place - places[after - 1]) / (places[after] - places[after - 1]);
  return steps[after - 1] + share * (steps[after] - steps[after - 1]);
}

function readZoom() {
  const parts = (new URLSearchParams(location.search).get("zoom") ?? "").split("_").map(Number);
  return parts.length === 2 && parts.every(Number.isFinite) ? parts : null;
}
