// What every page does: the theme switch, the keyboard, menus, times that stay true, the connection line.
import "./keyboard.js";
import "./menus.js";

const root = document.documentElement;

function show(theme) {
  root.dataset.theme = theme;
  document.dispatchEvent(new CustomEvent("theme"));
}

document.getElementById("theme").addEventListener("click", () => {
  const theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", theme);
  show(theme);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
  if (!localStorage.getItem("theme")) show(event.matches ? "dark" : "light");
});

const STEPS = [[60, "min", 3600], [3600, "h", 86400], [86400, "d", 30 * 86400]];

function ago(seconds) {
  if (seconds < 45) return "just now";
  const step = STEPS.find(([, , limit]) => seconds < limit);
  return step ? `${Math.round(seconds / step[0])} ${step[1]} ago` : null;
}

setInterval(() => {
  for (const time of document.querySelectorAll("time")) {
    const text = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (text && text !== time.textContent) time.textContent = text;
  }
}, 15000);

/** Seconds as the server writes them: 3 min 12 s. */
function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

// how long something lasts already: counted on from what the server said
setInterval(() => {
  for (const span of document.querySelectorAll("[data-elapsed]")) {
    span.began ??= performance.now() - 1000 * Number(span.dataset.elapsed);
    span.textContent = duration((performance.now() - span.began) / 1000);
  }
}, 1000);

document.addEventListener("connection", ({ detail }) => {
  document.getElementById("connection").hidden = detail.connected;
});
