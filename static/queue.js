// The queue: kept up to date, and steered without leaving one's place on the page.
import { refresh } from "./fragments.js";
import { every, follow, paced } from "./live.js";

const list = document.getElementById("queue");
const update = paced(() => refresh(list), 500);

follow([], update);
// signs of life and troubles of workers are no news of a run
every(4000, update);

list.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  if (!form.matches(".order, .priority")) return;
  event.preventDefault();
  const sent = new FormData(form, submitter);
  if (!(await isDone(form.action, sent))) return leaveTo(form, sent);
  for (const input of form.querySelectorAll("input")) input.defaultValue = input.value;
  await refresh(list);
  // at either end of the list the button that was pressed is off now
  const row = list.querySelector(`tr[data-run="${form.closest("tr").dataset.run}"]`);
  if (document.activeElement === document.body) row?.querySelector("a").focus();
});

async function isDone(address, sent) {
  try {
    const answer = await fetch(address, { method: "POST", body: new URLSearchParams(sent), redirect: "manual" });
    return answer.type === "opaqueredirect";
  } catch {
    return false;
  }
}

/** Send the form as without scripts: the page it leads to tells why it was refused. */
function leaveTo(form, sent) {
  for (const [name, value] of sent) {
    if (form.elements[name]?.tagName === "INPUT") continue;
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  form.submit();
}
