// Errors of a form, each beside its field.

/** Show what is wrong by the name of its field; "" is the place of what concerns no single one. */
export function showErrors(form, errors) {
  for (const place of form.querySelectorAll("[data-for]")) {
    const message = errors[place.dataset.for] ?? "";
    if (place.textContent !== message) place.textContent = message;
    place.hidden = !message;
    const input = place.dataset.for && document.getElementById(place.dataset.for);
    if (!input) continue;
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}
