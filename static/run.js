// The head of a run's page, kept up to date on every tab, and the tabs that grow.
import { refresh } from "./fragments.js";
import { every, follow, paced } from "./live.js";

const header = document.getElementById("run-header");
const timeline = document.getElementById("timeline");
const update = paced(() => refresh(header), 500);
const updateTimeline = paced(() => refresh(timeline), 500);

let status = null;
let happened = null;

// the other scripts of the page hear the news from here: one stream per page
follow([header.dataset.run], (run) => {
  update();
  const now = JSON.stringify([run.status, run.asked, run.reason, run.name, run.activity === "starting"]);
  if (timeline && happened && happened !== now) updateTimeline();
  happened = now;
  // a tab that only has something to tell at the end of a run, or at its start
  if (status && status !== run.status && document.querySelector("[data-reload]")) location.reload();
  status = run.status;
  document.dispatchEvent(new CustomEvent("run", { detail: run }));
});

// one click: ask, and go where the answer comes
header.addEventListener("click", async ({ target }) => {
  if (!target.matches("[data-repeat]")) return;
  target.disabled = true;
  await fetch(target.dataset.repeat, { method: "POST" });
  location.href = `/runs/${header.dataset.run}/evidence#about-reproducibility`;
  // on that tab already: only the part behind the # has changed
  if (document.getElementById("about-reproducibility")) location.reload();
});

// what a waiting run waits for changes without news of the run itself
every(10_000, () => {
  if (status === "queued") update();
});
