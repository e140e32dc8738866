// The curves of several runs, overlaid, one colour per run.
import { CurveCards } from "./curve_cards.js";
import { colour } from "./charts.js";
import { refresh } from "./fragments.js";
import { follow, paced } from "./live.js";

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

const tables = ["legend", "results"].map((id) => document.getElementById(id));
const updateTables = paced(() => Promise.all(tables.map((table) => refresh(table, location.search))), 500);

const seen = new Map();
follow([...runs.keys()], (run) => {
  runs.get(run.id).stepsPerEpoch = run.steps_per_epoch;
  const before = seen.get(run.id);
  seen.set(run.id, run);
  if (before?.version !== run.version) cards.update();
  if (before && before.status !== run.status) updateTables();
});
