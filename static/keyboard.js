// Keys: / search, n new run, j k move, x select, Enter open, c compare, ? help.
const help = document.getElementById("shortcuts");
document.getElementById("help").addEventListener("click", () => help.showModal());

let row = -1;
const rows = () => [...document.querySelectorAll("tr[data-run]")];

function move(by) {
  const all = rows();
  if (!all.length) return;
  row = Math.max(0, Math.min(all.length - 1, row + by));
  const link = all[row].querySelector("a");
  link.focus();
  all[row].scrollIntoView({ block: "nearest" });
}

const ACTIONS = {
  "/": () => document.getElementById("search")?.focus(),
  n: () => location.assign("/runs/new"),
  j: () => move(1),
  k: () => move(-1),
  x: () => rows()[row]?.querySelector("input[name=runs]")?.click(),
  c: () => {
    if (document.querySelector("input[name=runs]:checked")) document.getElementById("compare").click();
  },
  "?": () => help.showModal(),
};

document.addEventListener("focusin", ({ target }) => {
  const here = target.closest?.("tr[data-run]");
  if (here) row = rows().indexOf(here);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = ACTIONS[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});
