// The film strip: one channel at every captured step side by side, in one canvas.
import { paint, placeOf, under } from "./mosaic.js";
import { coloursOf } from "./scale.js";

/** Of a frame, in pixels of the page: smaller ones while that brings all of them into sight. */
const HEIGHT = 72;
const LEAST_HEIGHT = 40;
const ROW_HEIGHT = 8;
const LABEL_WIDTH = 34;

export class FilmStrip {
  /** `onStep(step)` is called for the frame that is clicked or reached with the arrow keys. */
  constructor(canvas, labels, onStep) {
    Object.assign(this, { canvas, labels, onStep, film: null });
    this.mark = canvas.parentElement.appendChild(Object.assign(document.createElement("div"), { className: "mark", hidden: true }));
    canvas.addEventListener("click", (event) => {
      const found = this.film && under(event, canvas, this.film.planes, this.columns);
      if (found) onStep(this.film.steps[found.plane]);
    });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by || !this.film) return;
      event.preventDefault();
      const step = this.film.steps[this.film.steps.indexOf(this.step) + by];
      if (step !== undefined) onStep(step);
    });
  }

  /** Draw a film; `range` as for the mosaic, where "each step" gives every frame its layer's own. */
  show(film, scale, facts, step) {
    Object.assign(this, { film, step });
    const { planes, outputs } = film;
    // vectors are rows: one below the other they show what changed
    this.isRows = planes.height === 1;
    this.columns = this.isRows ? 1 : planes.count;
    const range = (output) => (scale === "channel" ? null : scale === "fixed" ? { low: facts.lowest, high: facts.highest } : output);
    const colours = outputs.map((output, frame) => coloursOf(output, range(output), planes)(frame));
    const size = paint(this.canvas, planes, this.columns, (frame) => colours[frame]);
    const zoom = this.zoom(planes.height, size.width);
    this.canvas.style.width = this.isRows ? "100%" : `${size.width * zoom}px`;
    this.canvas.style.height = this.isRows ? `${planes.count * ROW_HEIGHT}px` : `${size.height * zoom}px`;
    this.canvas.setAttribute("aria-label", `${planes.count} captured steps, from ${film.steps[0]} to ${film.steps.at(-1)}; arrow keys choose a step`);
    this.label(film.steps, planes.width * zoom);
    this.choose(step);
  }

  /** Pixels of the page for each of the output. */
  zoom(height, width) {
    const room = this.canvas.closest(".film-scroll").clientWidth;
    const [least, most] = [LEAST_HEIGHT, HEIGHT].map((wanted) => Math.max(1, Math.round(wanted / height)));
    return Math.max(least, Math.min(most, Math.floor(room / width)));
  }

  label(steps, width) {
    this.labels.hidden = this.isRows;
    this.labels.style.width = this.canvas.style.width;
    const every = Math.ceil(LABEL_WIDTH / width);
    this.labels.replaceChildren(...steps.map((step, at) => {
      const label = document.createElement("span");
      if (at % every === 0) label.textContent = step;
      return label;
    }));
  }

  /** Mark the frame of a step, and bring it into sight within the strip. */
  choose(step) {
    if (!this.film) return;
    this.step = step;
    const frame = this.film.steps.indexOf(step);
    this.mark.hidden = frame < 0;
    if (frame < 0) return;
    const { canvas, mark } = this;
    const where = placeOf(frame, canvas, this.film.planes, this.columns);
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    const left = canvas.offsetLeft + where.left * wide;
    Object.assign(mark.style, { left: `${left}px`, top: `${canvas.offsetTop + where.top * high}px`, width: `${where.width * wide}px`, height: `${where.height * high}px` });
    const scroll = canvas.closest(".film-scroll");
    if (left < scroll.scrollLeft || left + mark.clientWidth > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = left - scroll.clientWidth / 2;
  }
}
