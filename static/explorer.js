// The explorer of layers: what is typed or ticked is shown at once, and the address follows.
import { showErrors } from "./errors.js";
import { paced } from "./live.js";

const form = document.getElementById("explorer");
const explored = document.getElementById("explored");
const tree = document.getElementById("tree");
/** What somebody opened or closed, by the path of the container; the server says how others begin. */
const opened = new Map();
/** Whether anything but a tick changed since the tree was drawn: hundreds of rows stay otherwise. */
let isTreeOld = false;

/** The fields that belong to what is chosen; the others send nothing. */
function showVariants() {
  for (const fields of form.querySelectorAll("[data-variant]")) {
    const [choice, ...own] = fields.dataset.variant.split(".");
    const isChosen = form.elements[`${choice}.name`].value === own.join(".");
    fields.hidden = !isChosen;
    fields.disabled = !isChosen;
  }
}

const show = paced(async () => {
  const query = new URLSearchParams(new FormData(form));
  history.replaceState(null, "", `?${query}`);
  const drawsTree = isTreeOld;
  isTreeOld = false;
  const response = await fetch(`/lab/layers/parts?${query}`);
  if (!response.ok) return;
  const { errors, parts } = await response.json();
  showErrors(form, errors);
  showErrors(explored, errors);
  // what was shown stays while half a value is typed
  explored.classList.toggle("stale", !parts.tree);
  if (!parts.tree) {
    isTreeOld = true;
    return;
  }
  replace("totals", parts.totals);
  replace("chosen", parts.chosen);
  if (drawsTree) drawTree(parts.tree);
}, 150);

function replace(id, html) {
  const place = document.getElementById(id);
  const open = [...place.querySelectorAll("details[open] > summary")].map((one) => one.textContent);
  place.innerHTML = html;
  for (const summary of place.querySelectorAll("summary")) {
    if (open.includes(summary.textContent)) summary.parentElement.open = true;
  }
}

function drawTree(html) {
  const focused = tree.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = tree.querySelector(".scroll")?.scrollTop ?? 0;
  tree.innerHTML = html;
  for (const button of tree.querySelectorAll(".explorer-open")) {
    const path = button.closest("tr").dataset.path;
    if (opened.has(path)) button.setAttribute("aria-expanded", opened.get(path));
  }
  fold();
  const scroller = tree.querySelector(".scroll");
  if (scroller) scroller.scrollTop = scrolled;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

/** Hide the rows that lie in a closed container. */
function fold() {
  let closedAt = Infinity;
  for (const row of tree.querySelectorAll("tbody tr")) {
    const depth = Number(row.dataset.depth);
    if (depth <= closedAt) closedAt = Infinity;
    row.toggleAttribute("data-folded", depth > closedAt);
    const button = row.querySelector(".explorer-open");
    if (closedAt === Infinity && button?.getAttribute("aria-expanded") === "false") closedAt = depth;
  }
}

function open(button, isOpen) {
  button.setAttribute("aria-expanded", isOpen);
  opened.set(button.closest("tr").dataset.path, isOpen);
}

tree.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches(".explorer-open")) open(button, button.getAttribute("aria-expanded") !== "true");
  else if (button?.dataset.all) {
    for (const one of tree.querySelectorAll(".explorer-open")) open(one, button.dataset.all === "true");
  } else {
    return;
  }
  fold();
});

function changed({ target }) {
  isTreeOld ||= target.name !== "pick";
  showVariants();
  show();
}

form.addEventListener("input", changed);
explored.addEventListener("input", changed);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  isTreeOld = true;
  show();
});
showVariants();
