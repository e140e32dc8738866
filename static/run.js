// The head of a run's page, kept up to date on every tab.
import { refresh } from "./fragments.js";
import { follow, paced } from "./live.js";

const header = document.getElementById("run-header");
const update = paced(() => refresh(header), 500);

let status = null;

// the other scripts of the page hear the news from here: one stream per page
follow([header.dataset.run], (run) => {
  update();
  // a tab that only has something to tell at the end of a run, or at its start
  if (status && status !== run.status && document.querySelector("[data-reload]")) location.reload();
  status = run.status;
  document.dispatchEvent(new CustomEvent("run", { detail: run }));
});
