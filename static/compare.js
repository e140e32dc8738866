// The curves of several runs, overlaid, one colour per run.
import { CurveCards } from "./curve_cards.js";
import { colour } from "./charts.js";
import { follow } from "./live.js";

const place = document.getElementById("curves");
const runs = new Map(
  [...document.querySelectorAll(".compared")].map((one) => [
    Number(one.dataset.run),
    { name: one.dataset.name, stepsPerEpoch: Number(one.dataset.stepsPerEpoch) || null },
  ]),
);

const COLOURS = 10;
// beyond the cycle colours repeat, so the dashes tell the runs apart
const DASHES = ["solid", "dash", "dot", "dashdot"];

const cards = new CurveCards(place, {
  runs: [...runs.keys()],
  names: [...place.querySelectorAll("[data-metric]")].map((card) => card.dataset.metric),
  cardOf: (curve) => curve.name,
  label: (curve) => runs.get(curve.run).name,
  colour: (curve) => colour(`--run-${curve.run % COLOURS}`),
  dash: (curve) => DASHES[Math.floor([...runs.keys()].filter((id) => id % COLOURS === curve.run % COLOURS).indexOf(curve.run)) % DASHES.length],
  stepsPerEpoch: (curve) => runs.get(curve.run).stepsPerEpoch,
  best: () => null,
});

const versions = new Map();
follow([...runs.keys()], (run) => {
  runs.get(run.id).stepsPerEpoch = run.steps_per_epoch;
  if (versions.get(run.id) !== run.version) cards.update();
  versions.set(run.id, run.version);
});
