// The log of a run, following what its process prints.
import { paced } from "./live.js";

const log = document.getElementById("log");
const toEnd = document.getElementById("follow");
// colours and other orders to a terminal
const ESCAPES = /\x1b(\[[0-?]*[ -/]*[@-~]|\].*?(\x07|\x1b\\)|[@-Z\\-_])/g;
let last = Number(log.dataset.last);

const update = paced(async () => {
  const response = await fetch(`/api/v1/runs/${log.dataset.run}/log?after=${last}`);
  if (!response.ok) return;
  const answer = await response.json();
  last = answer.last;
  if (answer.text) log.append(answer.text.replace(ESCAPES, ""));
  if (answer.more) update();
  if (toEnd.checked) log.scrollTop = log.scrollHeight;
}, 500);

document.addEventListener("run", update);
log.scrollTop = log.scrollHeight;
