"""``python -m dashboard.screenshot URL OUT.png``: a picture of a running dashboard, 1440 by 900.

Needs the development extras and Debian's chromium.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
# as root in a closed network: no sandbox, and nothing that looks for the vendor's hosts
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 30_000
SETTLE_MS = 2_500


def take(url: str, out: Path, width: int = 1440, height: int = 900) -> None:
    """Open ``url``, wait until its first heading and charts are drawn, write a PNG to ``out``."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        expect(page.get_by_role("heading").first).to_be_visible(timeout=TIMEOUT_MS)
        # charts and tables are fetched, then drawn, after the element that holds them has arrived
        for _ in range(2):
            page.wait_for_timeout(SETTLE_MS)
            expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0, timeout=TIMEOUT_MS)
        page.wait_for_timeout(SETTLE_MS)
        out.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=out)
        browser.close()


def main() -> None:
    """Entry point of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--height", type=int, default=900)
    arguments = parser.parse_args()
    take(arguments.url, arguments.out, arguments.width, arguments.height)


if __name__ == "__main__":
    main()
