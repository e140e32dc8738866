// Parts of a page that the server renders again while runs go on.

/** Fetch the fragment an element names and put it in its place, if it changed.
 *  What is ticked, typed, open or in focus stays so. */
export async function refresh(element, query = "") {
  const response = await fetch(element.dataset.fragment + query);
  if (!response.ok) return false;
  const html = await response.text();
  if (element.lastHtml === html) return false;
  element.lastHtml = html;
  const restore = kept(element);
  element.innerHTML = html;
  restore();
  return true;
}

/** What a person did to the content, as a function that does the same to the new content. */
function kept(element) {
  const all = (selector) => [...element.querySelectorAll(selector)];
  const boxes = all("input[type=checkbox], input[type=radio]").map(({ id, checked }) => ({ id, checked }));
  const typed = all("input:not([type=checkbox]):not([type=radio]):not([type=hidden])")
    .filter((input) => input.value !== input.defaultValue)
    .map(({ id, value }) => ({ id, value }));
  const open = all("details[open]").map(({ id }) => id);
  const scrolled = element.querySelector(".scroll")?.scrollLeft ?? 0;
  const focused = element.contains(document.activeElement) ? place(element, document.activeElement) : null;
  return () => {
    const changed = (id, values) => Object.assign((id && document.getElementById(id)) || {}, values);
    for (const { id, checked } of boxes) changed(id, { checked });
    for (const { id, value } of typed) changed(id, { value });
    for (const id of open) changed(id, { open: true });
    const scroller = element.querySelector(".scroll");
    if (scroller) scroller.scrollLeft = scrolled;
    focused?.()?.focus({ preventScroll: true });
  };
}

/** How to find the element again in the new content: by id, else by its text and kind. */
function place(element, target) {
  const { id, tagName, textContent } = target;
  if (id) return () => document.getElementById(id);
  return () => [...element.querySelectorAll(tagName)].find((one) => one.textContent === textContent);
}
