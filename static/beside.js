// What an output is compared with: another step or another run, side by side and as difference.
import { DIVERGING, drawBar } from "./colours.js";
import { Refusal } from "./layer_outputs.js";
import { MosaicView } from "./mosaic_view.js";
import { brief, coloursOf, valueOf } from "./scale.js";

const byId = (id) => document.getElementById(id);

export class Beside {
  /** `onAgainst(against)` is told "", `step:8` or `run:2`; `onChannel` as of the mosaic. */
  constructor(outputs, onAgainst, onChannel) {
    this.outputs = outputs;
    [this.kind, this.step, this.run] = ["against-kind", "against-step", "against-run"].map(byId);
    this.other = new MosaicView(byId("other"), onChannel);
    this.difference = new MosaicView(byId("difference"), onChannel);
    drawBar(byId("difference-bar"), DIVERGING);
    for (const field of [this.kind, this.step, this.run]) field.addEventListener("change", () => {
      this.showFields();
      onAgainst(this.against);
    });
  }

  get against() {
    if (this.kind.value === "step") return `step:${Math.max(0, Math.floor(Number(this.step.value)))}`;
    return this.kind.value === "run" ? `run:${this.run.value}` : "";
  }

  /** Choose what the address says, if it can be chosen. */
  set against(against) {
    const [, kind, number] = /^(step|run):(\d{1,15})$/.exec(against) ?? [];
    if (kind === "run") {
      if (![...this.run.options].some(({ value }) => value === number)) this.run.add(new Option(number, number));
      this.run.value = number;
    }
    if (kind === "step") this.step.value = number;
    this.kind.value = kind ?? "";
    this.showFields();
  }

  showFields() {
    byId("against-step-choice").hidden = this.kind.value !== "step";
    byId("against-run-choice").hidden = this.kind.value !== "run";
  }

  /** What is to stand beside an output: the other one and the difference, or why there is none. */
  async read(asked) {
    if (!asked.against) return null;
    let [kind, number] = asked.against.split(":");
    if (kind === "step") number = this.outputs.stepOf({ ...asked, step: Number(number) });
    try {
      const difference = await this.outputs.difference({ ...asked, against: `${kind}:${number}` });
      const other = await this.outputs.read({ ...asked, step: difference.step }, difference.run);
      return { difference, other };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { problem: error.message };
    }
  }

  show(found, range, channel) {
    const isThere = Boolean(found?.difference);
    byId("other-card").hidden = !found;
    byId("difference-card").hidden = !isThere;
    byId("other-problem").textContent = found?.problem ?? "";
    byId("other").parentElement.hidden = !isThere;
    if (!found) return;
    byId("other-title").textContent = isThere ? this.title(found.difference) : "Nothing to compare with";
    byId("other-facts").textContent = isThere ? `from ${brief(found.other.low)} to ${brief(found.other.high)}` : "";
    if (isThere) this.draw(found, range, channel);
  }

  title({ run, step }) {
    return run === Number(this.outputs.run) ? `Step ${step}` : `Run ${run}, step ${step}`;
  }

  draw({ other, difference }, range, channel) {
    this.other.show(other.planes, coloursOf(other, range), (byte) => valueOf(other, byte), channel);
    const { most, relative, cosine } = difference;
    this.difference.show(difference.planes, () => DIVERGING, (byte) => ((byte - 128) / 127) * most, channel);
    byId("difference-low").textContent = brief(-most);
    byId("difference-high").textContent = brief(most);
    const told = [Number.isNaN(relative) ? "" : `relative ${brief(relative)}`, Number.isNaN(cosine) ? "" : `cosine ${brief(cosine)}`];
    byId("difference-facts").textContent = told.filter(Boolean).join(", ") || "all zeros";
    for (const [id, what] of [["other", this.title(difference)], ["difference", "Difference"]]) {
      byId(id).setAttribute("aria-label", `${what}, all channels; arrow keys choose a channel`);
    }
  }

  choose(channel) {
    for (const view of [this.other, this.difference]) if (view.planes) view.choose(channel);
  }

  resize() {
    for (const view of [this.other, this.difference]) view.resize();
  }
}
