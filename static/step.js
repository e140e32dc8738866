// The step of training that the whole page shows: a slider over captured steps, a number, a film.
import { nearest } from "./layer_outputs.js";

const FRAME_MS = 450;
const MOST_TICKS = 128;
const MOST_LABELS = 14;

export class StepControl {
  /** `onStep(step)` shows a captured step, and may take its time while a film plays. */
  constructor(onStep) {
    const byId = (id) => document.getElementById(id);
    [this.slider, this.number, this.button, this.ticks, this.count] = ["step", "step-number", "play", "ticks", "step-steps"].map(byId);
    this.onStep = onStep;
    this.steps = [];
    this.listen();
  }

  get step() {
    return this.steps[Number(this.slider.value)];
  }

  get isAtEnd() {
    return Number(this.slider.value) === this.steps.length - 1;
  }

  setSteps(steps) {
    this.steps = steps;
    this.slider.max = steps.length - 1;
    this.number.max = steps.at(-1);
    this.count.textContent = `${steps.length} captured step${steps.length === 1 ? "" : "s"}`;
    this.drawTicks();
  }

  /** Move to the captured step that is nearest, without telling anybody; gives it. */
  show(step) {
    const found = nearest(this.steps, step);
    this.slider.value = this.steps.indexOf(found);
    this.slider.setAttribute("aria-valuetext", `step ${found}`);
    this.number.value = found;
    return found;
  }

  go(step) {
    return this.onStep(this.show(step));
  }

  /** A mark for each captured step while there is room, some of them with their number. */
  drawTicks() {
    const last = this.steps.length - 1;
    const every = Math.ceil(this.steps.length / MOST_LABELS);
    const marks = last < MOST_TICKS ? this.steps : [this.steps[0], this.steps[last]];
    const labelled = (at) => marks.length <= 2 || at === last || (at % every === 0 && last - at >= every);
    this.ticks.replaceChildren(...marks.map((step, at) => {
      const tick = document.createElement("span");
      if (labelled(at)) tick.textContent = step;
      return tick;
    }));
  }

  listen() {
    this.slider.addEventListener("input", () => this.go(this.step));
    // what is being typed may be on its way to a longer number
    this.number.addEventListener("change", () => this.number.value !== "" && this.go(Number(this.number.value)));
    this.number.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.move(by);
    });
    this.button.addEventListener("click", () => this.play());
  }

  /** Go to the next captured step or the one before. */
  move(by) {
    const at = Number(this.slider.value) + by;
    if (at >= 0 && at < this.steps.length) this.go(this.steps[at]);
  }

  get isPlaying() {
    return this.button.getAttribute("aria-pressed") === "true";
  }

  setPlaying(playing) {
    this.button.setAttribute("aria-pressed", String(playing));
    this.button.textContent = playing ? "❚❚ Pause" : "▶ Play";
  }

  /** The film of training: every captured step in turn, from the start when it is at its end. */
  async play() {
    const playing = this.isPlaying;
    this.setPlaying(!playing);
    if (playing) return;
    if (this.isAtEnd) this.show(this.steps[0]);
    await this.go(this.step);
    while (this.isPlaying && !this.isAtEnd) {
      await new Promise((resolve) => setTimeout(resolve, FRAME_MS));
      if (this.isPlaying) await this.go(this.steps[Number(this.slider.value) + 1]);
    }
    this.setPlaying(false);
  }
}
