// A live lesson: whenever a value moves, the worker is asked anew and the address follows.
import { drawFigures } from "./figures.js";
import { followInquiry } from "./inquiry.js";

const WAIT_MS = 120;

for (const form of document.querySelectorAll("form[data-lesson]")) start(form);

function start(form) {
  const place = form.parentElement.querySelector("[data-answer]");
  let waiting;
  let asking = false;
  let isStale = false;

  form.addEventListener("input", () => {
    showValues(form);
    clearTimeout(waiting);
    waiting = setTimeout(ask, WAIT_MS);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => form.dispatchEvent(new Event("input"))));
  // a slider goes no further than its end, whatever the address says
  showValues(form);
  if (form.dataset.may === "yes") ask();

  // one question at a time: what moved meanwhile is asked when the answer is here
  async function ask() {
    if (form.dataset.may !== "yes") return;
    if (asking) {
      isStale = true;
      return;
    }
    asking = true;
    try {
      do {
        isStale = false;
        await answered();
      } while (isStale);
    } finally {
      asking = false;
    }
  }

  async function answered() {
    const values = new FormData(form);
    remember(values);
    place.classList.add("stale");
    const response = await fetch(`/lab/lessons/${form.dataset.lesson}/ask`, { method: "POST", body: values });
    const { number, errors = {}, detail } = await response.json();
    showErrors(errors);
    if (number) await followInquiry(number, place, shown);
    else if (detail) place.textContent = detail;
  }

  function shown(state) {
    if (!state.over) return;
    place.classList.remove("stale");
    place.dataset.answered = place.dataset.inquiry;
    drawFigures(place);
  }

  function showErrors(errors) {
    for (const spot of form.querySelectorAll("[data-for]")) {
      spot.textContent = errors[spot.dataset.for] ?? "";
      spot.hidden = !spot.textContent;
    }
  }
}

function showValues(form) {
  for (const output of form.querySelectorAll("output")) output.textContent = form.elements[output.htmlFor.value].value;
}

/** The address holds the values, so that it can be sent to somebody else. */
function remember(values) {
  const address = new URL(location.href);
  for (const [name, value] of values) address.searchParams.set(name, value);
  history.replaceState(null, "", address);
}
