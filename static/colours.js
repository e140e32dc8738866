// Colour maps for layer outputs: a few stops each, blended.

// viridis (Smith and van der Walt, CC0): as light as the value is high
const STOPS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];
// cool to warm (Moreland, "Diverging color maps for scientific visualization", 2009)
const DIVERGING_STOPS = [
  [59, 76, 192], [104, 138, 239], [154, 187, 255], [201, 215, 240], [221, 221, 221],
  [237, 209, 194], [247, 168, 137], [226, 105, 82], [180, 4, 38],
];

function word(stops, share) {
  const at = share * (stops.length - 1);
  const [from, to] = [stops[Math.floor(at)], stops[Math.ceil(at)]];
  const mix = from.map((value, i) => Math.round(value + (to[i] - value) * (at % 1)));
  return (255 << 24) | (mix[2] << 16) | (mix[1] << 8) | mix[0];
}

/** 256 colours as RGBA words for a canvas. */
export const PALETTE = new Uint32Array(256).map((_, level) => word(STOPS, level / 255));

/** For differences as the API sends them: 128 is none and grey, 1 and 255 are the largest. */
export const DIVERGING = new Uint32Array(256).map((_, level) => word(DIVERGING_STOPS, (Math.max(level, 1) - 1) / 254));

/** The first map for Plotly. */
export const COLOUR_SCALE = STOPS.map((stop, i) => [i / (STOPS.length - 1), `rgb(${stop.join(",")})`]);

/** Draw a map from end to end on a canvas of 256 by 1 pixels. */
export function drawBar(canvas, palette) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(256, 1);
  new Uint32Array(picture.data.buffer).set(palette);
  context.putImageData(picture, 0, 0);
}
