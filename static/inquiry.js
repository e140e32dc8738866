// A question to the worker: asked by a button, followed until it is answered.

const POLL_MS = 300;

/** Follow an inquiry inside `place`; `tell` hears each state: over, html, errors. */
export async function followInquiry(number, place, tell = () => {}) {
  place.dataset.inquiry = number;
  place.hidden = false;
  let shown = "";
  while (place.dataset.inquiry === String(number)) {
    const response = await fetch(`/inquiries/${number}`);
    if (response.ok) {
      const state = await response.json();
      if (place.dataset.inquiry !== String(number)) return;
      if (state.html !== shown) {
        shown = state.html;
        update(place, state.html);
      }
      tell(state);
      if (state.over) return;
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

/** A bar that only gets longer must not take the focus from its Cancel button. */
function update(place, html) {
  const next = document.createElement("template");
  next.innerHTML = html;
  const [bar, longer] = [place.querySelector("progress"), next.content.querySelector("progress")];
  if (!bar || !longer) {
    place.soFar = next.content.querySelector("[data-so-far]")?.innerHTML;
    const hadFocus = place.contains(document.activeElement);
    place.innerHTML = html;
    if (hadFocus) (place.querySelector("[data-cancel]") ?? place).focus();
    return;
  }
  bar.value = longer.value;
  place.querySelector(".asking .dim").textContent = next.content.querySelector(".asking .dim").textContent;
  const more = next.content.querySelector("[data-so-far]");
  // held against what came last: charts in it have been drawn meanwhile
  if (!more || more.innerHTML === place.soFar) return;
  place.soFar = more.innerHTML;
  place.querySelector("[data-so-far]").replaceWith(more);
}

document.addEventListener("click", async ({ target }) => {
  const place = target.closest?.("[data-inquiry]");
  if (place && target.matches("[data-cancel]")) {
    target.disabled = true;
    await fetch(`/inquiries/${place.dataset.inquiry}/cancel`, { method: "POST" });
  }
});

/** A button that asks: `data-ask` is where, `data-into` the id of the place for the answer;
 *  `tell` hears each state. */
export function askOnClick(button, tell = () => {}) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const place = document.getElementById(button.dataset.into);
    button.disabled = true;
    try {
      const response = await fetch(button.dataset.ask, { method: "POST" });
      const { number, detail } = await response.json();
      if (number) await followInquiry(number, place, tell);
      else place.textContent = detail ?? "The server does not answer; try again.";
    } finally {
      button.disabled = false;
    }
  });
}
