// The bench of the loader: the pipeline follows the options at once, the batches when the worker has them.
import { showErrors } from "./errors.js";
import { drawFigures } from "./figures.js";
import { followInquiry } from "./inquiry.js";
import { paced } from "./live.js";

const form = document.getElementById("loader");
const pipeline = document.getElementById("pipeline");
const batches = document.getElementById("first-batches");
const sweepAnswer = document.getElementById("sweep-answer");
const sweepButton = document.getElementById("sweep");
const ASK_MS = 400;
// what only the sweep reads needs no new batches
const OF_THE_SWEEP = ["sweep_workers", "sweep_batch_sizes"];

/** Of several values for one name the last wins: a box that is off sends only the hidden one. */
function values() {
  return new URLSearchParams(Object.fromEntries(new FormData(form)));
}

const redraw = paced(async () => {
  const query = values();
  history.replaceState(null, "", `?${query}`);
  const response = await fetch(`/lab/loader/pipeline?${query}`);
  if (!response.ok) return;
  const { errors, html } = await response.json();
  showErrors(form, errors);
  if (!Object.keys(errors).length) pipeline.innerHTML = html;
  pipeline.classList.toggle("stale", Object.keys(errors).length > 0);
}, 150);

async function ask(address, place) {
  place.classList.add("stale");
  const response = await fetch(address, { method: "POST", body: values() });
  const { number, errors = {}, detail } = await response.json();
  showErrors(form, errors);
  if (detail) place.textContent = detail;
  else if (number) await followInquiry(number, place, (state) => shown(place, state));
}

function shown(place, state) {
  if (state.over) {
    place.classList.remove("stale");
    place.dataset.answered = place.dataset.inquiry;
  }
  const isDrawn = [...place.querySelectorAll(".plot")].every((plot) => plot.childElementCount);
  if (!isDrawn) drawFigures(place);
}

// one question at a time: what changed meanwhile is asked when the answer is here
let asking = false;
let isStale = false;
async function askBatches() {
  isStale = true;
  if (asking) return;
  asking = true;
  try {
    while (isStale) {
      isStale = false;
      await ask("/lab/loader/ask", batches);
    }
  } finally {
    asking = false;
  }
}

form.addEventListener("submit", (event) => event.preventDefault());
let waiting;
form.addEventListener("input", ({ target }) => {
  redraw();
  if (form.dataset.may !== "yes" || OF_THE_SWEEP.includes(target.name)) return;
  clearTimeout(waiting);
  waiting = setTimeout(askBatches, ASK_MS);
});

if (form.dataset.may === "yes") askBatches();
if (sweepButton) {
  sweepButton.hidden = false;
  sweepButton.addEventListener("click", async () => {
    sweepButton.disabled = true;
    try {
      await ask("/lab/loader/sweep", sweepAnswer);
    } finally {
      sweepButton.disabled = false;
    }
  });
}
