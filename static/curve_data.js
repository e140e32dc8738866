// Curves as the API gives them: the whole of each, kept up to date by what is new, and a zoom in detail.

const KINDS = { i4: Int32Array, f4: Float32Array, f8: Float64Array };
const COLUMNS = ["steps", "values", "times", "smoothed"];

export class CurveData {
  /** `fixed` holds the parameters that never change, such as `runs`. */
  constructor(fixed) {
    this.fixed = fixed;
    this.whole = new Map();
    this.detail = null;
    this.cursor = "";
    this.asked = "";
  }

  /** Bring the curves up to date. `how` holds `points` and `smoothing`; `inside(curve)` gives the
   *  steps of a whole curve between which it is looked at, or null for all of it. */
  async update(how, inside) {
    const asked = JSON.stringify(how);
    if (asked !== this.asked) this.cursor = "";
    const answer = await ask({ ...this.fixed, ...how, cursor: this.cursor });
    this.asked = asked;
    this.cursor = answer.cursor;
    const before = this.whole;
    this.whole = new Map(answer.curves.map((curve) => [key(curve), curve.appended ? joined(before.get(key(curve)), curve) : curve]));
    // what was appended point by point has to be thinned again some time
    for (const curve of this.whole.values()) if (curve.steps.length > 2 * how.points) this.cursor = "";
    await this.lookInto(how, inside);
  }

  /** Fetch again what lies inside the zoom, at its own resolution. */
  async lookInto(how, inside) {
    const steps = this.stepsInside(inside);
    this.detail = null;
    if (!steps) return;
    const answer = await ask({ ...this.fixed, ...how, first: steps[0], last: steps[1] });
    this.detail = new Map(answer.curves.map((curve) => [key(curve), curve]));
  }

  /** From the first to the last step that is looked at, of all curves; null for everything. */
  stepsInside(inside) {
    const ends = [...this.whole.values()].map(inside).filter((found) => found);
    if (!ends.length) return null;
    return [Math.min(...ends.map(([first]) => first)), Math.max(...ends.map(([, last]) => last))];
  }

  get curves() {
    return [...(this.detail ?? this.whole).values()];
  }

  /** When the first point of a run was made, in Unix seconds. */
  began(run) {
    return Math.min(...[...this.whole.values()].filter((one) => one.run === run && one.times.length).map((one) => one.times[0]));
  }
}

async function ask(parameters) {
  const response = await fetch(`/api/v1/curves?${new URLSearchParams({ ...parameters, packed: true })}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  for (const curve of answer.curves) {
    for (const name of COLUMNS) if (curve[name]) curve[name] = unpacked(curve[name]);
  }
  return answer;
}

/** Numbers out of base64, little-endian as every browser's machine. */
export function unpacked({ dtype, bdata }) {
  return new KINDS[dtype](Uint8Array.from(atob(bdata), (letter) => letter.charCodeAt(0)).buffer);
}

const key = (curve) => `${curve.run} ${curve.name}`;

function joined(before, curve) {
  const columns = COLUMNS.filter((name) => curve[name]).map((name) => [name, together(before[name], curve[name])]);
  return { ...curve, ...Object.fromEntries(columns) };
}

function together(one, other) {
  // eight bytes hold whatever either of them held
  const all = new Float64Array(one.length + other.length);
  all.set(one);
  all.set(other, one.length);
  return all;
}
