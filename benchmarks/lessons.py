"""Lessons: from a value that moved to the answer on the page, lesson by lesson.

    python benchmarks/lessons.py [--quick] [--json FOLDER]

The page is open in a browser and the worker runs already; nothing else waits. Lessons that measure
time take as long as they measure, and show how far they are meanwhile.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.browser import chromium
from harness.command import run
from harness.table import Table, goal
from lab import Lab
from playwright.sync_api import Page
from server import end_workers, living_workers, serving, wait_for

from trainer.lessons import LESSONS
from trainer.part import name_of

MOST_SECONDS = 1.0
ANSWERED = """before => ![undefined, before].includes(
    document.querySelector("[data-answer]").dataset.answered)"""


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    turns = 3 if chosen.quick else 11
    table = Table(
        "From a moved value to the answer, s", ["lesson", "median", "slowest", "measures", "goal"]
    )
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        lab.forget_worker()
        with serving(lab.settings) as served, chromium() as browser:
            wait_for(lambda: living_workers(lab.settings))
            page = browser.new_page()
            for lesson in LESSONS:
                name = name_of(lesson)
                page.goto(f"{served.client.base_url}/lab/lessons/{name}")
                taken = [answered(page) for _ in range(turns + 1)][1:]
                middle = statistics.median(taken)
                measures = lesson.needs_device_alone
                wanted = goal(middle <= MOST_SECONDS, f"{MOST_SECONDS:g} s")
                table.add(
                    name,
                    f"{middle:.2f}",
                    f"{max(taken):.2f}",
                    "time" if measures else "",
                    "" if measures else wanted,
                )
            end_workers(lab.settings)
        lab.engine.dispose()
    table.note(f"n = {turns}, each with the values that the page opens with.")
    yield table


def answered(page: Page) -> float:
    """Move something on the page and wait for what the worker says; seconds."""
    place = page.locator("[data-answer]")
    page.wait_for_function(ANSWERED, arg="", timeout=60_000)
    before = place.get_attribute("data-answered")
    began = time.perf_counter()
    page.locator("form[data-lesson]").dispatch_event("input")
    page.wait_for_function(ANSWERED, arg=before, timeout=60_000)
    return time.perf_counter() - began


if __name__ == "__main__":
    run(__doc__, measure)
