// The only user of Plotly: charts in the colours of the page that send nothing anywhere.

const CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["sendDataToCloud", "sendChartToCloud", "lasso2d", "select2d", "autoScale2d"],
  displayModeBar: "hover",
};

const drawn = new Map();

/** Resolves when Plotly's script has run; it is large and must not hold up the page. */
export const ready = new Promise((resolve) => {
  if (window.Plotly) resolve();
  else addEventListener("load", () => resolve(), { once: true });
});

/** Text that Plotly shows as it is: in names, titles and hovers it would take tags for markup. */
export function plain(text) {
  return String(text).replace(/[&<>]/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[letter]);
}

/** A colour of the page's style by name, such as `--run-3`: Plotly takes no CSS variables. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Draw, or draw again without moving what a person zoomed to. `make` gives {traces, layout} and is
 *  called anew when the theme changes. Resolves with the chart's element. */
export async function draw(element, make) {
  await ready;
  const first = !drawn.has(element);
  drawn.set(element, make);
  const { traces, layout } = make();
  if (first) element.replaceChildren();
  await Plotly.react(element, traces, merge(base(), layout), CONFIG);
  return element;
}

function base() {
  const grid = colour("--line");
  const axis = {
    gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true,
    tickfont: { color: colour("--dim"), size: 11 }, title: { font: { color: colour("--dim"), size: 11 } },
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "inherit", color: colour("--text"), size: 12 },
    margin: { l: 48, r: 12, t: 8, b: 36 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--surface"), bordercolor: grid, font: { color: colour("--text"), size: 12 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--dim"), activecolor: colour("--accent") },
    showlegend: false,
    uirevision: "same",
    xaxis: { ...axis, showspikes: true, spikemode: "across", spikethickness: 1, spikecolor: colour("--dim"), spikedash: "dot" },
    yaxis: { ...axis },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } },
  };
}

function merge(under, over = {}) {
  const result = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const plain = value && typeof value === "object" && !Array.isArray(value);
    result[key] = plain ? merge(under[key] ?? {}, value) : value;
  }
  return result;
}

document.addEventListener("theme", () => {
  for (const [element, make] of drawn) if (element.isConnected) draw(element, make);
});
