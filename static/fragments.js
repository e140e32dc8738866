// Parts of a page that the server renders again while runs go on.

/** Fetch the fragment an element names and put it in its place, if it changed.
 *  What is ticked, open or in focus stays so. */
export async function refresh(element, query = "") {
  const response = await fetch(element.dataset.fragment + query);
  if (!response.ok) return false;
  const html = await response.text();
  if (element.lastHtml === html) return false;
  element.lastHtml = html;
  const ticked = new Set([...element.querySelectorAll("input:checked")].map((box) => box.id));
  const focused = element.contains(document.activeElement) ? place(element, document.activeElement) : null;
  const scrolled = element.querySelector(".scroll")?.scrollLeft ?? 0;
  element.innerHTML = html;
  for (const id of ticked) {
    const box = document.getElementById(id);
    if (box) box.checked = true;
  }
  const scroller = element.querySelector(".scroll");
  if (scroller) scroller.scrollLeft = scrolled;
  focused?.()?.focus({ preventScroll: true });
  return true;
}

/** How to find the element again in the new content: by id, else by its text and kind. */
function place(element, target) {
  const { id, tagName, textContent } = target;
  if (id) return () => document.getElementById(id);
  return () => [...element.querySelectorAll(tagName)].find((one) => one.textContent === textContent);
}
