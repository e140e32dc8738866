// The curves of one run: training and test together, live.
import { CurveCards } from "./curve_cards.js";
import { colour } from "./charts.js";

const place = document.getElementById("curves");
const run = Number(place.dataset.run);
let stepsPerEpoch = Number(place.dataset.stepsPerEpoch) || null;

/** train_loss and val_loss belong on one card, `loss`. */
const cardOf = (name) => name.replace(/^(train|val)_/, "");
const isTest = (name) => name.startsWith("val_");

const cards = new CurveCards(place, {
  runs: [run],
  cardOf: (curve) => cardOf(curve.name),
  label: (curve) => (isTest(curve.name) ? "test" : curve.name.startsWith("train_") ? "training" : curve.name.replaceAll("_", " ")),
  colour: (curve) => colour(isTest(curve.name) ? "--second" : "--accent"),
  stepsPerEpoch: () => stepsPerEpoch,
  best: (curve) => (curve.name === "val_loss" ? "lowest" : curve.name === place.dataset.mainMetric ? "highest" : null),
});

let version = null;
document.addEventListener("run", ({ detail }) => {
  stepsPerEpoch = detail.steps_per_epoch;
  if (detail.version !== version) cards.update();
  version = detail.version;
});
