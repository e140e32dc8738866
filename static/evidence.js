// The proofs of a run, made on demand.
import { askOnClick, followInquiry } from "./inquiry.js";

for (const button of document.querySelectorAll("[data-ask]")) askOnClick(button);
// one that was asked before and is not answered yet
for (const place of document.querySelectorAll("[data-open-inquiry]")) followInquiry(Number(place.dataset.openInquiry), place);
