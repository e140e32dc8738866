// The loss bench: cells, a slider and marks to drag; whatever moves is computed anew by the server.
import { drawFigures } from "./figures.js";
import { paced } from "./live.js";

const WAIT_MS = 40;
const STEPS = 400;

const form = document.getElementById("loss-form");
const part = (name, inside = document) => inside.querySelector(`[data-part=${name}]`);
const slider = document.getElementById("value");
/** The list of elements; the buttons of the rows have its name too. */
const chosen = () => document.getElementById("at");

// -- asking -----------------------------------------------------------------------------------

// the server reads no address of more than some 60,000 characters
const tooLong = "This is longer than an address may be. The bench takes at most 400 numbers; keep a few rows of them.";

const ask = paced(async () => {
  const asked = query();
  const response = await fetch(`/lab/loss/result?${asked}`);
  if (!response.ok) return showErrors(new Map([["input", tooLong]]));
  const answer = document.createElement("template");
  answer.innerHTML = await response.text();
  // cells as they were asked about would undo what was typed since; charts may lag while dragged
  if (asked === query()) showTables(part("tables", answer.content));
  else ask();
  showResult(part("result", answer.content));
}, WAIT_MS);

function query() {
  return new URLSearchParams(new FormData(form)).toString();
}

function showResult(next) {
  const place = part("result");
  keepPlots(place, next);
  const scrolled = [...place.querySelectorAll(".scroll")].map((one) => one.scrollTop);
  const open = [...place.querySelectorAll("details")].map((one) => one.open);
  place.replaceChildren(...next.childNodes);
  place.querySelectorAll("details").forEach((one, at) => (one.open = open[at] ?? false));
  place.querySelectorAll(".scroll").forEach((one, at) => (one.scrollTop = scrolled[at] ?? 0));
  const told = [...place.querySelectorAll("[data-error]")];
  showErrors(new Map(told.map((one) => [one.dataset.error, one.querySelector("span").textContent])));
  settle();
  document.getElementById("told").textContent = place.querySelector(".verdict, .notice").textContent;
  history.replaceState(null, "", place.querySelector("[data-address]").dataset.address);
}

/** A chart that is there already moves its mark instead of being drawn from nothing. */
function keepPlots(place, next) {
  for (const old of place.querySelectorAll("[data-key]")) {
    next.querySelector(`[data-key=${old.dataset.key}] .plot`)?.replaceWith(old.querySelector(".plot"));
  }
}

function showErrors(errors) {
  for (const spot of form.querySelectorAll("[data-for]")) {
    const name = spot.dataset.for;
    spot.textContent = errors.get(name) ?? "";
    spot.hidden = !spot.textContent;
    const field = name && form.elements[name];
    if (!field) continue;
    if (errors.has(name)) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
}

/** Of cells in the same shape only the words change, so that nobody loses the one they are in. */
function showTables(next) {
  const place = part("tables");
  const shapes = (of) => [...of.querySelectorAll(".cells")].map((one) => one.dataset.field + one.dataset.shape).join();
  if (shapes(place) !== shapes(next)) {
    place.replaceChildren(...next.childNodes);
    return unlock();
  }
  const fresh = [...next.querySelectorAll(".cells input")];
  cells().forEach((cell, at) => {
    if (cell !== document.activeElement) cell.value = fresh[at].value;
  });
  const at = next.querySelector("#at");
  if (at) chosen().value = at.value;
}

/** What follows from the answer that stands there: charts, slider and the button that copies. */
function settle() {
  const place = part("result");
  // the numbers are on the screen before the charts are drawn, which takes longer
  requestAnimationFrame(() => setTimeout(() => drawFigures(place)));
  const copy = place.querySelector("[data-copy]");
  if (copy) copy.hidden = false;
  const facts = place.querySelector("[data-now]")?.dataset;
  const box = document.getElementById("chosen-value");
  box.hidden = !facts;
  if (!facts) return;
  document.getElementById("value-of").textContent = facts.place;
  slider.min = facts.low;
  slider.max = facts.high;
  slider.step = (facts.high - facts.low) / STEPS;
  if (slider !== document.activeElement) slider.value = facts.now;
  box.querySelector("output").textContent = Number(Number(facts.now).toPrecision(4));
}

// -- changing ---------------------------------------------------------------------------------

const SEPARATORS = ",;|/";

function cells(field) {
  return [...form.querySelectorAll(field ? `.cells[data-field=${field}] input` : ".cells input")];
}

function unlock() {
  for (const cell of cells()) cell.readOnly = false;
}

/** Write the cells of a table into the text that is sent. */
function write(field) {
  const table = form.querySelector(`.cells[data-field=${field}]`);
  const shape = table.dataset.shape.split(",").map(Number);
  form.elements[field].value = joined(cells(field).map(word), shape);
  ask();
}

/** What a cell holds. A comma is meant as a decimal point, and no other separator is of a number. */
function word(cell) {
  return cell.value.trim().replace(",", ".").replace(/[,;|/[\]]/g, "?");
}

function joined(words, shape) {
  if (shape.length === 1) return words.join(",");
  const size = words.length / shape[0];
  const sign = SEPARATORS[shape.length - 1];
  const rows = Array.from({ length: shape[0] }, (_, at) => joined(words.slice(at * size, (at + 1) * size), shape.slice(1)));
  return rows.join(sign) + (rows.length === 1 ? sign : "");
}

/** Put a value into a cell, with as many digits as the steps of the range need. */
function put(at, value, range) {
  const cell = cells("input")[at];
  if (!cell) return;
  const digits = Math.max(0, Math.ceil(-Math.log10(range / STEPS)));
  cell.value = Number(value.toFixed(digits));
  write("input");
}

form.addEventListener("input", ({ target }) => {
  const table = target.closest(".cells");
  if (table) return write(table.dataset.field);
  if (target === slider) return put(Number(chosen().value), Number(slider.value), slider.max - slider.min);
  ask();
});

form.addEventListener("keydown", (event) => {
  const cell = event.target;
  if (!cell.closest(".cells")) return;
  const all = cells();
  if (event.key === "Enter") {
    event.preventDefault();
    all[(all.indexOf(cell) + (event.shiftKey ? -1 : 1) + all.length) % all.length].select();
  }
  const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  const isClass = cell.closest(".cells").dataset.field === "target" && form.dataset.family === "classes";
  if (!direction || Number.isNaN(Number(cell.value))) return;
  event.preventDefault();
  const step = isClass || event.shiftKey ? 1 : event.altKey ? 0.01 : 0.1;
  cell.value = Number((Number(cell.value) + direction * step).toFixed(6));
  write(cell.closest(".cells").dataset.field);
});

form.addEventListener("focusin", ({ target }) => {
  const table = target.closest(".cells");
  if (!table || table.dataset.field !== "input" || !chosen()) return;
  const at = String(cells("input").indexOf(target));
  if (chosen().value === at) return;
  chosen().value = at;
  ask();
});

form.addEventListener("submit", (event) => {
  // a button that changes the shape goes to the page of the new shape
  if (event.submitter?.name === "resize") return;
  event.preventDefault();
  ask();
});

// a loss that takes such numbers is shown on those that stand there now
document.querySelector("nav.filters").addEventListener("click", ({ target }) => {
  const address = target.href && new URL(target.href);
  if (!address?.searchParams.has("input")) return;
  for (const field of ["input", "target"]) address.searchParams.set(field, form.elements[field].value);
  target.href = address;
});

part("result").addEventListener("click", async (event) => {
  const { target } = event;
  if (target.matches("[data-copy]")) {
    await navigator.clipboard.writeText(part("result").querySelector("pre").textContent);
    target.textContent = "Copied";
  }
  if (target.matches("[data-at]")) {
    event.preventDefault();
    chosen().value = target.dataset.at;
    ask();
  }
});

// -- dragging ---------------------------------------------------------------------------------

let dragged = null;

part("result").addEventListener("pointerdown", (event) => {
  const plot = event.target.closest(".nsewdrag") && event.target.closest(".plot");
  if (!plot || event.button) return;
  dragged = { plot, ...plot.closest("[data-key]").dataset };
  event.preventDefault();
  follow(event);
});
addEventListener("pointermove", (event) => dragged && follow(event));
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => (dragged = null));

/** Move the mark to where the pointer is: its input, and that of the other score on a surface. */
function follow({ clientX, clientY }) {
  // Plotly has no public way from pixels to the numbers of an axis
  const { xaxis, yaxis } = dragged.plot._fullLayout;
  const box = dragged.plot.getBoundingClientRect();
  const place = (axis, pixel) => {
    const [low, high] = axis.range;
    return [Math.min(Math.max(axis.p2d(pixel - axis._offset), low), high), high - low];
  };
  put(Number(dragged.dragX), ...place(xaxis, clientX - box.left));
  if (dragged.dragY) put(Number(dragged.dragY), ...place(yaxis, clientY - box.top));
}

unlock();
settle();
