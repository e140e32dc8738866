// A mosaic on the page: as large as it fits, a mark around the chosen channel, values on hover.
import { across, paint, placeOf, under } from "./mosaic.js";
import { brief } from "./scale.js";

const RATIO = 2.2;
const HIGHEST = 420;
const VECTOR_HEIGHT = "28px";

export class MosaicView {
  /** `onChannel(channel)` is called when one is clicked or reached with the arrow keys. */
  constructor(canvas, onChannel) {
    this.canvas = canvas;
    this.planes = null;
    this.channel = 0;
    this.mark = canvas.parentElement.appendChild(Object.assign(document.createElement("div"), { className: "mark", hidden: true }));
    this.tip = canvas.parentElement.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
    this.tip.setAttribute("role", "status");
    this.onChannel = onChannel;
    this.listen();
  }

  /** Draw planes; `coloursOf(plane)` gives the colours of its bytes, `valueOf(byte)` their values. */
  show(planes, coloursOf, valueOf, channel) {
    Object.assign(this, { planes, valueOf, columns: across(planes, RATIO) });
    this.size = paint(this.canvas, planes, this.columns, coloursOf);
    this.fit();
    this.choose(channel);
  }

  /** Whole pixels while they fit, so that every value is a square of the same size. */
  fit() {
    const room = this.canvas.parentElement.clientWidth;
    const { width, height } = this.size;
    const scale = width < room ? Math.max(1, Math.floor(Math.min(room / width, HIGHEST / height))) : room / width;
    const isVector = this.planes.kind === "vector";
    this.canvas.style.width = `${isVector ? room : Math.min(room, width * scale)}px`;
    this.canvas.style.height = isVector ? VECTOR_HEIGHT : "auto";
  }

  choose(channel) {
    this.channel = channel;
    this.mark.hidden = this.planes.kind !== "maps";
    const { canvas } = this;
    const where = placeOf(channel, canvas, this.planes, this.columns);
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    Object.assign(this.mark.style, { left: `${canvas.offsetLeft + where.left * wide}px`, top: `${canvas.offsetTop + where.top * high}px`, width: `${where.width * wide}px`, height: `${where.height * high}px` });
  }

  resize() {
    if (!this.planes || !this.canvas.clientWidth) return;
    this.fit();
    this.choose(this.channel);
  }

  listen() {
    this.canvas.addEventListener("click", (event) => {
      const found = this.planes && under(event, this.canvas, this.planes, this.columns);
      if (found && this.planes.kind === "maps") this.onChannel(found.plane);
    });
    this.canvas.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns }[event.key];
      if (!by) return;
      event.preventDefault();
      this.onChannel(this.channel + by);
    });
    this.canvas.addEventListener("mousemove", (event) => this.showTip(event));
    this.canvas.addEventListener("mouseleave", () => (this.tip.hidden = true));
  }

  showTip(event) {
    const { planes } = this;
    const found = planes && under(event, this.canvas, planes, this.columns);
    this.tip.hidden = !found;
    if (!found) return;
    const byte = planes.bytes[(found.plane * planes.height + found.y) * planes.width + found.x];
    const where = { maps: `channel ${found.plane}, row ${found.y}, column ${found.x}`, matrix: `row ${found.y}, column ${found.x}`, vector: `feature ${found.x}` };
    this.tip.textContent = `${where[planes.kind]}: ${brief(this.valueOf(byte))}`;
  }
}
