// The bench of shapes: what is typed is shown at once, and the address follows.
import { setQuery } from "./address.js";
import { showErrors } from "./errors.js";
import { paced } from "./live.js";

const form = document.getElementById("shapes");
const result = document.getElementById("result");

const show = paced(async () => {
  const values = Object.fromEntries(new FormData(form));
  setQuery(values);
  const response = await fetch(`/lab/shapes/result?${new URLSearchParams(values)}`);
  if (!response.ok) return;
  const { errors, html } = await response.json();
  showErrors(form, errors);
  // what was shown stays while half a call is typed
  const isWrong = Object.keys(errors).length > 0;
  result.classList.toggle("stale", isWrong);
  if (!isWrong) result.innerHTML = html;
}, 150);

form.addEventListener("input", show);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
