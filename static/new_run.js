// The form of a new run: shows what belongs to a choice, and asks the server what it makes of it.
import { followInquiry } from "./inquiry.js";
import { paced } from "./live.js";

const form = document.getElementById("new-run");
const panel = document.getElementById("panel");

function showVariants() {
  for (const choice of form.querySelectorAll("[data-choice]")) {
    const chosen = choice.querySelector("input[type=radio]:checked")?.value;
    for (const fields of choice.querySelectorAll("[data-variant]")) fields.hidden = fields.dataset.variant !== chosen;
  }
  for (const trick of form.querySelectorAll("[data-trick]")) {
    const isOn = trick.querySelector(".switch input").checked;
    trick.querySelector("[data-parameters]").hidden = !isOn;
    trick.classList.toggle("on", isOn);
  }
}

const check = paced(async () => {
  const response = await fetch("/runs/new/check", { method: "POST", body: new FormData(form) });
  if (!response.ok) return;
  const { errors, panel: html } = await response.json();
  const open = [...panel.querySelectorAll("details[open] > summary")].map((one) => one.textContent);
  panel.innerHTML = html;
  for (const summary of panel.querySelectorAll("summary")) {
    if (open.includes(summary.textContent)) summary.parentElement.open = true;
  }
  showErrors(errors);
}, 300);

function showErrors(errors) {
  for (const place of form.querySelectorAll("[data-for]")) {
    const message = errors[place.dataset.for] ?? "";
    if (place.textContent !== message) place.textContent = message;
    place.hidden = !message;
    const input = document.getElementById(place.dataset.for);
    if (message) input?.setAttribute("aria-invalid", "true");
    else input?.removeAttribute("aria-invalid");
  }
}

form.addEventListener("input", () => {
  showVariants();
  check();
  // an answer to what stood there before would mislead
  tried.classList.add("stale");
  showFound({});
});

/** What a pre-flight came to, beside the fields it concerns. */
function concluded(state) {
  if (!state.over) return;
  if (Object.keys(state.errors).length) showErrors(state.errors);
  showFound(state.notes);
}

function showFound(notes) {
  for (const place of form.querySelectorAll("[data-found]")) {
    place.textContent = notes[place.dataset.found] ?? "";
    place.hidden = !place.textContent;
  }
}

const tried = document.getElementById("tried");
const tryButton = document.getElementById("try");
tryButton.hidden = false;
tryButton.addEventListener("click", async () => {
  tryButton.disabled = true;
  tried.classList.remove("stale");
  try {
    const response = await fetch("/runs/new/try", { method: "POST", body: new FormData(form) });
    const { number, errors = {}, detail } = await response.json();
    showErrors(errors);
    showFound({});
    if (number) await followInquiry(number, tried, concluded);
    else {
      tried.hidden = false;
      tried.textContent = detail ?? "Nothing was tried: some fields need another value.";
      form.querySelector("[aria-invalid]")?.focus();
    }
  } finally {
    tryButton.disabled = false;
  }
});
document.getElementById("recipe-choice").addEventListener("change", ({ target }) => target.form.submit());
/** Put a layer into the field of recorded layers, or take it out; `*` gives way to the first. */
function record(layer) {
  const field = document.getElementById("recording.layers");
  const patterns = field.value.split(/[\s,]+/).filter((pattern) => pattern && pattern !== "*");
  field.value = (patterns.includes(layer) ? patterns.filter((one) => one !== layer) : [...patterns, layer]).join(" ");
  check();
}

panel.addEventListener("click", async ({ target }) => {
  if (target.matches(".record")) record(target.dataset.layer);
  if (!target.matches(".copy")) return;
  await navigator.clipboard.writeText(target.parentElement.querySelector("pre").textContent);
  target.textContent = "Copied";
});
showVariants();
form.querySelector("[aria-invalid]")?.focus();
