"""What a page costs who opens it, as Lighthouse counts it: measured in Chromium, from a file, without a network.

``python benchmarks/page.py demo/report.html [--rounds 5] [--slowdown 4]`` (``pip install -e '.[dev]'`` and the system's Chromium). first paint: first
contentful paint; blocked: time in tasks beyond their first 50 ms; shift: cumulative layout shift; on a phone: 400 px wide, the processor so many times
slower.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright

OBSERVE = """() => {
    window.blocked = 0; window.shift = 0; window.paint = 0; window.largest = 0;
    const see = (type, each) => new PerformanceObserver(list => list.getEntries().forEach(each)).observe({type, buffered: true});
    see("longtask", e => window.blocked += Math.max(0, e.duration - 50));
    see("layout-shift", e => { if (!e.hadRecentInput) window.shift += e.value; });
    see("paint", e => { if (e.name === "first-contentful-paint") window.paint = e.startTime; });
    see("largest-contentful-paint", e => window.largest = e.startTime);
}"""
READ = """() => ({paint: window.paint, largest: window.largest, blocked: window.blocked, shift: window.shift,
    nodes: document.getElementsByTagName("*").length})"""


def opened(browser: Browser, page: Path, width: int, slowdown: float) -> dict[str, float]:
    """What one opening cost: milliseconds, the layout shift, and how many elements there are."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    tab = context.new_page()
    context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    tab.add_init_script(f"({OBSERVE})()")
    tab.goto(page.resolve().as_uri())
    tab.wait_for_timeout(1500)
    figures = tab.evaluate(READ)
    context.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slowdown", type=float, default=4.0)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    print(f"{options.page}: {options.page.stat().st_size / 1e6:.2f} MB")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium)
        for name, width, slowdown in (("desktop", 1350, 1.0), ("phone", 400, options.slowdown)):
            each = [opened(browser, options.page, width, slowdown) for _ in range(options.rounds)]
            middle = {key: median(figures[key] for figures in each) for key in each[0]}
            print(
                f"{name}: first paint {middle['paint']:.0f} ms, largest {middle['largest']:.0f} ms, blocked {middle['blocked']:.0f} ms, "
                f"layout shift {middle['shift']:.3f}, {middle['nodes']:.0f} elements"
            )
        browser.close()


if __name__ == "__main__":
    main()
