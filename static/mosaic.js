// All channels of one example in one canvas, and where in it a pixel lies.
import { PALETTE } from "./colours.js";

const GAP = 1;

/** An output (C, H, W), (C, L) or (F,) as planes of bytes; of a video (C, T, H, W) those at one time. */
export function planesOf(shape, bytes, time = 0) {
  if (shape.length === 1) return { count: 1, height: 1, width: shape[0], times: 1, bytes, kind: "vector" };
  if (shape.length === 2) return { count: 1, height: shape[0], width: shape[1], times: 1, bytes, kind: "matrix" };
  const [height, width] = shape.slice(-2);
  const count = shape[0];
  const size = height * width;
  const times = bytes.length / (count * size);
  return { count, height, width, times, bytes: times > 1 ? atTime(bytes, count, size, times, time) : bytes, kind: "maps" };
}

function atTime(bytes, count, size, times, time) {
  const found = new Uint8Array(count * size);
  for (let plane = 0; plane < count; plane++) {
    const from = (plane * times + time) * size;
    found.set(bytes.subarray(from, from + size), plane * size);
  }
  return found;
}

/** As many planes side by side as make the picture about `ratio` times as wide as high. */
export function across(planes, ratio) {
  const cells = Math.sqrt((planes.count * (planes.height + GAP) * ratio) / (planes.width + GAP));
  return Math.max(1, Math.min(planes.count, Math.round(cells)));
}

/** Draw every plane in the colours that `coloursOf(plane)` gives its bytes; the size in pixels of
 *  the output, before the canvas is scaled up. */
export function paint(canvas, planes, columns, coloursOf = () => PALETTE) {
  const rows = Math.ceil(planes.count / columns);
  const width = columns * (planes.width + GAP) - GAP;
  const height = rows * (planes.height + GAP) - GAP;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const words = new Uint32Array(picture.data.buffer);
  const { count, height: planeHeight, width: planeWidth, bytes } = planes;
  for (let plane = 0, from = 0; plane < count; plane++) {
    const left = (plane % columns) * (planeWidth + GAP);
    const top = Math.floor(plane / columns) * (planeHeight + GAP);
    const colours = coloursOf(plane);
    for (let y = 0; y < planeHeight; y++) {
      let to = (top + y) * width + left;
      for (const end = to + planeWidth; to < end; ) words[to++] = colours[bytes[from++]];
    }
  }
  context.putImageData(picture, 0, 0);
  return { width, height };
}

/** Which plane, row and column lies under a mouse event, or null in a gap. */
export function under(event, canvas, planes, columns) {
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
  const [column, row] = [Math.floor(x / (planes.width + GAP)), Math.floor(y / (planes.height + GAP))];
  const plane = row * columns + column;
  const inside = { x: x - column * (planes.width + GAP), y: y - row * (planes.height + GAP) };
  const isGap = inside.x >= planes.width || inside.y >= planes.height;
  return isGap || plane < 0 || plane >= planes.count ? null : { plane, ...inside };
}

/** Where a plane lies, as shares of the canvas. */
export function placeOf(plane, canvas, planes, columns) {
  const [column, row] = [plane % columns, Math.floor(plane / columns)];
  return {
    left: (column * (planes.width + GAP)) / canvas.width,
    top: (row * (planes.height + GAP)) / canvas.height,
    width: planes.width / canvas.width,
    height: planes.height / canvas.height,
  };
}
