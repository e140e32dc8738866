"""Pages: how long each takes to be made at 10,000 runs, and to be seen in a browser.

    python benchmarks/pages.py [--quick] [--json FOLDER]

The HTML comes from a server in a process of its own; the browser is a headless Chromium on the same
cores, with the scripts in its cache, as on every visit but the first.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.browser import NOTING, chromium
from harness.command import run
from harness.table import Table, goal
from lab import Lab, quick_config
from listing import fill as fill_runs
from playwright.sync_api import Browser, Page
from reading import fill as fill_series
from reading import milliseconds, warm
from server import Served, serving, wait_for

PAGES = (
    "/runs",
    "/runs?sort=val_accuracy",
    "/runs?status=finished&text=bench",
    "/runs/new",
    "/runs/1",
    "/runs/1/layers",
    "/runs/1/evidence",
    "/runs/1/timeline",
    "/runs/1/log",
    "/runs/1/config",
    "/runs/1/environment",
    "/compare?runs=1,2",
    "/queue",
    "/settings",
    "/settings/audit",
    "/docs",
)
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
MOST_HTML, MOST_PAINT, MOST_CHARTS = 50, 500, 1500
"""Milliseconds."""


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    count = 1000 if chosen.quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        trained = [lab.train(quick_config(budget={"epochs": 4})) for _ in range(2)]
        assert trained == [1, 2]
        long = fill_series(lab, 100_000 if chosen.quick else 1_000_000)
        fill_runs(lab, count)
        with serving(lab.settings, "--no-worker") as served:
            warm(served)
            yield html(served, count, 5 if chosen.quick else 21)
            yield from seen(served, long, 3 if chosen.quick else 11)
        lab.engine.dispose()


def html(served: Served, count: int, times: int) -> Table:
    table = Table(f"The HTML of a page at {count:,} runs", ["page", "ms", "KB", "goal"])
    for path in PAGES:

        def get(path: str = path) -> bytes:
            return served.client.get(path).raise_for_status().content

        taken = milliseconds(get, times)
        size = len(get()) / 1000
        table.add(path, f"{taken:.1f}", f"{size:.0f}", goal(taken <= MOST_HTML, f"{MOST_HTML} ms"))
    table.note(f"n = {times}.")
    return table


def seen(served: Served, long: int, visits: int) -> Iterator[Table]:
    """What a person waits for, from the click to the first paint and to the last chart."""
    try:
        with chromium() as browser:
            yield visited(browser, served, long, visits)
    except FileNotFoundError as reason:
        print(f"\nWhat a browser shows was left out: {reason}")


def visited(browser: Browser, served: Served, long: int, visits: int) -> Table:
    table = Table(
        "A page in the browser",
        ["page", "first paint, ms", "charts in sight, ms", "cold, ms", "goal"],
    )
    paths = {
        "/runs": "/runs",
        "a run's curves": "/runs/1",
        "a curve of many points": f"/runs/{long}",
        "a run's layers": "/runs/1/layers",
        "two runs compared": "/compare?runs=1,2",
        "/queue": "/queue",
    }
    address = str(served.client.base_url).rstrip("/")
    for title, path in paths.items():
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.add_init_script(NOTING)
        has_charts = path not in ("/runs", "/queue")
        cold, *warm = [visit(page, address + path, has_charts) for _ in range(visits + 1)]
        context.close()
        paint = statistics.median(times[0] for times in warm)
        charts = statistics.median(times[1] for times in warm)
        is_reached = paint <= MOST_PAINT and charts <= MOST_CHARTS
        table.add(
            title,
            f"{paint:.0f}",
            f"{charts:.0f}" if has_charts else "",
            f"{max(cold):.0f}",
            goal(is_reached, f"{MOST_PAINT}, {MOST_CHARTS} ms"),
        )
    table.note(f"n = {visits} visits with a warm cache, after one with a cold one.")
    return table


def visit(page: Page, address: str, has_charts: bool) -> tuple[float, float]:
    """Milliseconds from the click to the first paint, and to the last chart in sight."""
    page.goto(address)
    # not page.wait_for_function: the pages' policy lets nobody evaluate text as a script
    paint = wait_for(lambda: page.evaluate(PAINTED))
    charts = wait_for(lambda: page.evaluate("window.drawnAt")) if has_charts else 0.0
    return float(paint), float(charts)


if __name__ == "__main__":
    run(__doc__, measure)
