"""Layer outputs: what looking at every layer costs, and how soon a page shows them.

    python benchmarks/layers.py [--quick] [--no-peers] [--json FOLDER]

A residual network with some nine million values of layer outputs, batch 4, looked at with the
product's own probe.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from harness.browser import chromium
from harness.command import run
from harness.peers import Peers
from harness.table import Table, goal
from harness.turns import in_turn, timed
from lab import Lab, tiny_config
from playwright.sync_api import Browser, Page
from server import Served, serving, wait_for

from trainer.batch import Batch
from trainer.config import Recording
from trainer.models import ResNet20
from trainer.probe import Place, Probe, capturing, measured, read_back, untouched
from trainer.store.database import writing
from trainer.store.writer import LayerOutput, Writer

WIDTH, INPUT_SHAPE, BATCH = 64, (3, 32, 32), 4
MOST_FORWARDS, MOST_BYTES, MOST_MOSAIC = 1.25, 1.0, 100
"""Forwards that statistics may take, bytes for each value kept, milliseconds to the mosaic."""
CHANNELS, SIDE = (64, 256), 56
"""Of the layers that pages show."""


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    yield looks(chosen)
    try:
        with chromium() as browser:
            yield mosaics(browser, 6 if chosen.quick else 18)
    except FileNotFoundError as reason:
        print(f"\nThe mosaic on the page was left out: {reason}")


# -- looking --------------------------------------------------------------------------------


def looks(chosen: argparse.Namespace) -> Table:
    torch.manual_seed(0)
    model = ResNet20(width=WIDTH).build(INPUT_SHAPE, 10).eval()
    layers = [name for name, module in model.named_modules() if not list(module.children())]
    inputs = torch.randn(BATCH, *INPUT_SHAPE)
    probe = Probe(Recording(layer_examples=BATCH), layers, Batch(inputs, torch.zeros(BATCH)))
    turns = 7 if chosen.quick else 31
    ways = {
        "a plain forward": lambda: forward(model, inputs),
        "hooks that clone every output": lambda: taken(torch.clone, model, layers, inputs),
        "**statistics of every layer**": lambda: read_back(taken(measured, model, layers, inputs)),
        "**statistics and the outputs as bytes**": lambda: probe.look(model, 1),
    }
    for way in ways.values():
        way()
    found = in_turn({name: timed(way) for name, way in ways.items()}, turns)
    table = Table("Looking at every layer", ["how", "ms", "forwards", "bytes a value", "goal"])
    plain = found["a plain forward"]
    look = probe.look(model, 1)
    kept = sum(output.levels.size for output in look.outputs)
    size = sum(len(output.payload) for output in look.outputs) / kept
    for name, times in found.items():
        share, stored, wanted = times.over(plain), "", ""
        if "statistics of" in name:
            wanted = goal(share <= MOST_FORWARDS, f"{MOST_FORWARDS} forwards")
        if "bytes" in name:
            stored, wanted = f"{size:.2f}", goal(size <= MOST_BYTES, f"{MOST_BYTES} bytes a value")
        table.add(name, f"{1000 * times.median:.0f}", f"{share:.2f}", stored, wanted)
    answer = Peers(none=chosen.no_peers).ask(
        "torchlens", "layers", width=WIDTH, input_shape=INPUT_SHAPE, batch=BATCH, turns=turns
    )
    facts = answer.facts
    cells = (f"{facts['milliseconds']:.0f}", f"{facts['forwards']:.2f}") if answer else ("", "")
    table.add(answer.title, *cells, "", answer.reason)
    table.note(
        f"n = {turns} in turn; {len(layers)} layers, {kept / 1e6:.1f} million values; "
        f"{torch.get_num_threads()} threads. Torchlens beside its own plain forwards."
    )
    return table


@torch.no_grad()
def forward(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return model(inputs)


@torch.no_grad()
def taken(
    look: Callable[[torch.Tensor], torch.Tensor],
    model: torch.nn.Module,
    layers: list[str],
    inputs: torch.Tensor,
) -> dict[Place, torch.Tensor]:
    """What `look` makes of every layer's output in a forward pass."""
    seen = {}

    def take(place: Place, output: torch.Tensor) -> None:
        seen[place] = look(output)

    with untouched(model), capturing(model, layers, take):
        model(inputs)
    return seen


# -- the mosaic on the page -----------------------------------------------------------------


SHOWING = """
    (layer) => new Promise((resolve) => {
        const began = performance.now();
        const painted = () => requestAnimationFrame(() => resolve(performance.now() - began));
        // to paint, a canvas is given its size, even if it has it already
        new MutationObserver(painted).observe(
            document.getElementById("mosaic"), { attributeFilter: ["width"] });
        document.querySelector(`.tree a[data-layer='${layer}']`).click();
    })
"""


def mosaics(browser: Browser, layers: int) -> Table:
    """From the click on another layer to its channels on the screen, fetched for the first time."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        names = [keep_outputs(lab, layers, channels) for channels in CHANNELS]
        with serving(lab.settings, "--no-worker") as served:
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            taken = {
                channels: [shown(page, served, run, name) for name in names[run - 1][1:]]
                for run, channels in enumerate(CHANNELS, 1)
            }
        lab.engine.dispose()
    table = Table("The channels of a layer on the page", ["what", "median ms", "slowest", "goal"])
    for channels, times in taken.items():
        wanted = goal(median(times) <= MOST_MOSAIC, f"{MOST_MOSAIC} ms")
        what = f"{channels} channels of {SIDE} x {SIDE}, from the click to the screen"
        table.add(what, f"{median(times):.0f}", f"{max(times):.0f}", wanted)
    table.note(f"n = {layers - 1} layers each, none of them in the browser's cache.")
    return table


def keep_outputs(lab: Lab, count: int, channels: int) -> list[str]:
    """A run with outputs of so many layers, as a network would give them: smooth, with noise."""
    run_id = lab.add(tiny_config(model={"name": "resnet20"}))
    model = ResNet20().build((1, 8, 8), 10)
    names = [name for name, module in model.named_modules() if "conv" in name][:count]
    wave = np.sin(np.linspace(0, 9, SIDE))
    noise = np.random.default_rng(0).normal(0, 0.2, (1, channels, SIDE, SIDE))
    values = 0.3 * (np.multiply.outer(wave, wave) + noise)
    levels = (127 + 100 * values).clip(0, 255).astype(np.uint8)
    shape = values.shape
    outputs = [LayerOutput(name, 0, 1, shape, "float32", -1.0, 1.0, levels) for name in names]
    picture = np.zeros((1, 1, 8, 8), np.uint8)
    outputs.append(LayerOutput("", 0, 1, picture.shape, "float32", 0.0, 1.0, picture, "input"))
    with writing(lab.engine) as connection:
        Writer(run_id).add_layer_outputs(connection, outputs)
    return names


def shown(page: Page, served: Served, run: int, layer: str) -> float:
    """Milliseconds from the click on a layer until its mosaic is on the screen."""
    page.goto(f"{str(served.client.base_url).rstrip('/')}/runs/{run}/layers")
    wait_for(lambda: page.evaluate("document.getElementById('film-steps').children.length"))
    # the page is still drawing the charts that it began with
    time.sleep(1.5)
    return float(page.evaluate(SHOWING, layer))


if __name__ == "__main__":
    run(__doc__, measure)
