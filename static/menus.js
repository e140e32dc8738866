// Menus are <details>: one open at a time, closed by Escape or by a click elsewhere.

const openMenus = () => document.querySelectorAll("details.menu[open]");

document.addEventListener("click", ({ target }) => {
  for (const menu of openMenus()) if (!menu.contains(target)) menu.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of openMenus()) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener(
  "toggle",
  ({ target }) => {
    const opened = target.matches("details.menu[open]") && document.activeElement === target.querySelector("summary");
    if (opened) target.querySelector("input:not([type=hidden])")?.focus();
  },
  // toggle does not bubble
  true,
);
