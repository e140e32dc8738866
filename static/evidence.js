// Proofs, made on demand: of a run's tricks or of one trick.
import { drawFigures } from "./figures.js";
import { askOnClick, followInquiry } from "./inquiry.js";

const drawn = () => drawFigures(document);

for (const button of document.querySelectorAll("[data-ask]")) askOnClick(button, drawn);
// one that was asked before and is not answered yet
for (const place of document.querySelectorAll("[data-open-inquiry]")) followInquiry(Number(place.dataset.openInquiry), place, drawn);
drawn();
