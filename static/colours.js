// Colour maps for layer outputs: a few stops of viridis (Smith and van der Walt, CC0), blended.
const STOPS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];

/** 256 colours as RGBA words for a canvas. */
export const PALETTE = new Uint32Array(256).map((_, level) => {
  const at = (level / 255) * (STOPS.length - 1);
  const [from, to] = [STOPS[Math.floor(at)], STOPS[Math.ceil(at)]];
  const mix = from.map((value, i) => Math.round(value + (to[i] - value) * (at % 1)));
  return (255 << 24) | (mix[2] << 16) | (mix[1] << 8) | mix[0];
});

/** The same for Plotly. */
export const COLOUR_SCALE = STOPS.map((stop, i) => [i / (STOPS.length - 1), `rgb(${stop.join(",")})`]);
