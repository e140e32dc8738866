"""Browser: a headless Chromium, and pages that note when they were painted and charts drawn."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium")
# without these it looks for hosts of its maker at every start
OFFLINE = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
    --disable-background-networking --disable-component-update""".split()

NOTING = """
    const isDrawn = (place) => place.tagName === "CANVAS"
        ? place.width !== 300 || place.height !== 150
        : place.querySelector(".trace, .hm image") || place.textContent.includes("Nothing was");
    const isSeen = (place) => {
        const { top, bottom, height } = place.getBoundingClientRect();
        return height > 0 && bottom > 0 && top < innerHeight;
    };
    const look = () => {
        const seen = [...document.querySelectorAll(".chart, #mosaic")].filter(isSeen);
        if (seen.length && seen.every(isDrawn)) window.drawnAt = performance.now();
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
"""
"""Runs in a page before its own scripts, looks at each frame, and sets `drawnAt` once all charts in
sight are drawn. A canvas that nobody has drawn on is 300 by 150."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Raises FileNotFoundError where there is none."""
    if CHROMIUM is None:
        raise FileNotFoundError("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser
        browser.close()
