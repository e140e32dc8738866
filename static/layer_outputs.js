// What was recorded of a run's layers, fetched when it is asked for and kept for a while.
import { planesOf } from "./mosaic.js";

const MOST_KEPT = 100;
const keyOf = (layer, call) => `${call} ${layer}`;
const numbers = (response, header) => response.headers.get(header).split(",").map(Number);

export class LayerOutputs {
  /** `facts`: what the page came with, as the API lists it; `steps`: all captured ones of the run;
   *  `view`: outputs of layers, their weights or gradients. */
  constructor(run, facts, steps, view) {
    this.run = run;
    this.view = view;
    this.steps = steps;
    this.kept = new Map();
    this.learn(facts);
  }

  learn(layers) {
    this.layers = new Map(layers.map((one) => [keyOf(one.layer, one.call), one]));
  }

  /** Read the list anew; whether there are captured steps that were not there before. */
  async update() {
    const response = await fetch(`/api/v1/runs/${this.run}/layers?view=${this.view}`);
    if (!response.ok) return false;
    const { layers, steps } = await response.json();
    const grown = steps.length !== this.steps.length;
    this.learn(layers);
    this.steps = steps;
    return grown;
  }

  facts(layer, call = 0) {
    return this.layers.get(keyOf(layer, call));
  }

  calls(layer) {
    return [...this.layers.values()].filter((one) => one.layer === layer).map((one) => one.call);
  }

  /** The step of a layer that is nearest to one at which it was perhaps not recorded. */
  stepOf({ layer, call, step }) {
    return nearest(this.facts(layer, call)?.steps ?? this.steps, step);
  }

  /** One example: its bytes, shape, low and high, and the planes at the time asked for. */
  async read({ layer, call, step, example, time = 0 }, run = this.run) {
    const found = await this.keep(`${run} ${layer}/bytes`, { step, call, example }, async (response, bytes) => {
      const [low, high] = ["X-Low", "X-High"].map((name) => Number(response.headers.get(name)));
      return { shape: numbers(response, "X-Shape"), low, high, step, bytes };
    }, `/api/v1/runs/${run}/layers/${encodeURIComponent(layer)}/bytes`);
    return withPlanes(found, time);
  }

  /** One channel at every captured step: a plane for each, and its low and high. */
  async film({ layer, call, example, channel, time = 0 }) {
    const count = this.facts(layer, call)?.steps.length;
    return this.keep(`film ${layer} ${count}`, { call, example, channel, time }, async (response, bytes) => {
      const [frames, height, width] = numbers(response, "X-Shape");
      const highs = numbers(response, "X-Highs");
      const outputs = numbers(response, "X-Lows").map((low, at) => ({ low, high: highs[at] }));
      return { steps: numbers(response, "X-Steps"), outputs, planes: { count: frames, height, width, bytes } };
    }, `/api/v1/runs/${this.run}/layers/${encodeURIComponent(layer)}/film`);
  }

  /** What is shown less what it is compared with. */
  async difference({ layer, call, step, example, time = 0, against }) {
    const found = await this.keep(`difference ${layer}`, { step, call, example, against, format: "bytes" }, async (response, bytes) => {
      const fact = (name) => response.headers.get(`X-${name}`);
      const [most, run, there] = ["Most", "Against-Run", "Against-Step"].map((name) => Number(fact(name)));
      // not a number where one of them is all zeros
      const [relative, cosine] = ["Relative", "Cosine"].map((name) => Number(fact(name)));
      return { shape: numbers(response, "X-Shape"), most, run, step: there, relative, cosine, bytes };
    }, `/api/v1/runs/${this.run}/layers/${encodeURIComponent(layer)}/difference`);
    return withPlanes(found, time);
  }

  async keep(what, parameters, make, address) {
    const query = new URLSearchParams({ ...parameters, view: this.view });
    const key = `${what} ${query}`;
    if (!this.kept.has(key)) {
      const response = await fetch(`${address}?${query}`);
      if (!response.ok) throw new Refusal((await response.json()).detail);
      const found = await make(response, new Uint8Array(await response.arrayBuffer()));
      if (this.kept.size > MOST_KEPT) this.kept.delete(this.kept.keys().next().value);
      this.kept.set(key, found);
    }
    return this.kept.get(key);
  }
}

/** What the API said of something it does not give. */
export class Refusal extends Error {}

function withPlanes(found, time) {
  const planes = planesOf(found.shape, found.bytes, time);
  // a layer or run with fewer times than were chosen elsewhere
  return { ...found, planes: time < planes.times ? planes : planesOf(found.shape, found.bytes, planes.times - 1) };
}

/** The number in an ascending list that is nearest, the smaller of two. */
export function nearest(steps, step) {
  return steps.reduce((best, one) => (Math.abs(one - step) < Math.abs(best - step) ? one : best), steps[0]);
}
