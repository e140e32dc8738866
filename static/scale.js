// Normalisation: which values the darkest and the brightest colour stand for.
import { PALETTE } from "./colours.js";

/** The value that a byte of an output stands for. */
export const valueOf = (output, byte) => output.low + (byte / 255) * (output.high - output.low);

/** A few digits of a number, as short as they can be written. */
export const brief = (value) => Number(value.toPrecision(3)).toString();

/** From which value to which colours go: by `layer` those of the outputs shown, by `fixed` those at
 *  any step, so that a film does not flicker; null by `channel`, where each has its own. */
export function rangeOf(scale, outputs, facts) {
  if (scale === "channel") return null;
  const both = scale === "fixed" ? [{ low: facts.lowest, high: facts.highest }, ...outputs.slice(1)] : outputs;
  return { low: Math.min(...both.map((one) => one.low)), high: Math.max(...both.map((one) => one.high)) };
}

/** The colours of an output's bytes, plane by plane, within a range or each plane's own. */
export function coloursOf(output, range, planes = output.planes) {
  if (range) {
    const colours = table(output, range);
    return () => colours;
  }
  return (plane) => table(output, extent(output, plane, planes));
}

/** Lowest and highest value of one plane. */
export function extent(output, plane, planes = output.planes) {
  const size = planes.width * planes.height;
  let [least, most] = [255, 0];
  for (let at = plane * size; at < (plane + 1) * size; at++) {
    const byte = planes.bytes[at];
    if (byte < least) least = byte;
    if (byte > most) most = byte;
  }
  return { low: valueOf(output, least), high: valueOf(output, most) };
}

/** 256 colours for the bytes of an output: those of the palette where the range puts their values. */
function table(output, { low, high }) {
  if (low === output.low && high === output.high) return PALETTE;
  const span = high - low;
  return new Uint32Array(256).map((_, byte) => {
    const level = span > 0 ? Math.round(((valueOf(output, byte) - low) / span) * 255) : 0;
    return PALETTE[Math.max(0, Math.min(255, level))];
  });
}
