// The table of runs: kept up to date, with a bar for what is selected.
import { refresh } from "./fragments.js";
import { every, follow, paced } from "./live.js";

const table = document.getElementById("table");
const boxes = () => [...table.querySelectorAll("input[name=runs]")];
let last = null;

function showSelection() {
  const count = boxes().filter((box) => box.checked).length;
  const bar = document.getElementById("selected");
  if (!bar) return;
  bar.hidden = count === 0;
  document.getElementById("selected-count").textContent = count;
  const all = document.getElementById("all");
  all.checked = count > 0 && count === boxes().length;
  all.indeterminate = count > 0 && count < boxes().length;
  for (const box of boxes()) box.closest("tr").classList.toggle("chosen", box.checked);
}

table.addEventListener("click", (event) => {
  const box = event.target.closest("input[type=checkbox]");
  if (!box) return;
  if (box.id === "all") for (const each of boxes()) each.checked = box.checked;
  else if (event.shiftKey && last) {
    const all = boxes();
    const [from, to] = [all.findIndex((one) => one.value === last), all.indexOf(box)].sort((a, b) => a - b);
    for (const each of all.slice(Math.max(0, from), to + 1)) each.checked = box.checked;
  }
  last = box.value;
  showSelection();
});

const update = paced(async () => {
  if (await refresh(table, location.search)) showSelection();
}, 500);

follow([], update);
// a paused queue or a worker in trouble brings no news of a run
every(10_000, update);
// browsers tick boxes again when one comes back to the page
addEventListener("pageshow", showSelection);
showSelection();
