// The tree of layers: a field keeps some of them by name, pattern or number; small lines stay new.
import { setQuery } from "./address.js";

const NUMBER = /\b(spread|dead|parameters)\s*(>=|<=|>|<|=)\s*(-?[\d.]+(?:e-?\d+)?)/gi;
const COMPARE = {
  ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b, "=": (a, b) => a === b,
};

/** What is typed as a test of a row: every word and every comparison must hold. */
export function filterOf(text) {
  const tests = [];
  const words = text.replace(NUMBER, (_, name, sign, number) => {
    tests.push(({ dataset }) => dataset[name.toLowerCase()] !== undefined && COMPARE[sign](Number(dataset[name.toLowerCase()]), Number(number)));
    return " ";
  });
  for (const word of words.toLowerCase().split(/\s+/).filter((one) => one && one !== "and")) tests.push(named(word));
  return (row) => tests.every((holds) => holds(row));
}

/** A word is part of a name or kind; with * or ? it is all of one. */
function named(word) {
  if (!/[*?]/.test(word)) return ({ dataset }) => `${dataset.path} ${dataset.kind}`.toLowerCase().includes(word);
  const pattern = word.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  const whole = new RegExp(`^${pattern}$`);
  return ({ dataset }) => whole.test(dataset.path.toLowerCase()) || whole.test(dataset.kind.toLowerCase());
}

export class Tree {
  /** `onLayer(layer)` is called for a layer that is clicked, unless it is to open elsewhere. */
  constructor(place, onLayer) {
    this.place = place;
    this.field = place.querySelector("#tree-filter");
    this.field.value = new URLSearchParams(location.search).get("filter") ?? "";
    this.field.addEventListener("input", () => {
      setQuery({ filter: this.field.value.trim() || null });
      this.filter();
    });
    place.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-layer]");
      if (!link || !onLayer || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      onLayer(link.dataset.layer);
    });
    this.filter();
  }

  filter() {
    const keeps = filterOf(this.field.value);
    const rows = [...this.place.querySelectorAll("#tree-rows tr")];
    for (const row of rows) row.hidden = !keeps(row);
    const kept = rows.filter((row) => !row.hidden).length;
    this.place.querySelector("#tree-count").textContent = kept === rows.length ? "" : `${kept} of ${rows.length}`;
  }

  choose(layer) {
    for (const link of this.place.querySelectorAll("a[data-layer]")) {
      if (link.dataset.layer === layer) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  /** The small lines as they are now: those of the page, asked for again. */
  async update(layer) {
    const response = await fetch(location.pathname);
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("tree-rows");
    const at = document.activeElement?.dataset?.layer;
    this.place.querySelector("#tree-rows").replaceWith(document.adoptNode(fresh));
    this.choose(layer);
    this.filter();
    if (at !== undefined) [...this.place.querySelectorAll("a[data-layer]")].find((link) => link.dataset.layer === at)?.focus({ preventScroll: true });
  }
}
