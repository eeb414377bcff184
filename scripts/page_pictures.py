"""The pictures of the page in docs/: Recipes at first sight, a finished quickstart, two answers.

    python scripts/page_pictures.py [FOLDER]        (needs playwright and /usr/bin/chromium)

FOLDER is one whose runs/ holds the quickstart as it ships; without it that is trained first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.ui.conftest import CHROMIUM, serve  # noqa: E402
from tests.ui.pages import says  # noqa: E402

RUN = "quickstart-1"
MINUTES = 60_000


def recipes(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#recipes-cards [aria-pressed=true]")
    page.wait_for_selector("#recipes-seen .dl-seen")
    keep(page, "recipes", 860)


def runs(page: Page, address: str) -> None:
    page.goto(f"{address}/?tab=runs&runs={RUN}")
    says(page, "#runs-detail", "Finished")
    page.wait_for_selector("#runs-curves polyline")
    page.locator("#runs-detail").evaluate("e => e.scrollIntoView()")
    keep(page, "runs", 800)


def compare(page: Page, address: str) -> None:
    page.goto(f"{address}/?tab=compare&runs={RUN}")
    page.wait_for_function("document.querySelector('#compare-prompt textarea')?.value")
    page.click("#compare-generate")
    page.wait_for_selector("#compare-answers .dl-say[data-said=best]", timeout=5 * MINUTES)
    page.mouse.move(0, 0)
    keep(page, "compare", 860)


def keep(page: Page, name: str, height: int) -> None:
    page.set_viewport_size({"width": 1280, "height": height})
    page.wait_for_timeout(1_500)  # nothing fades in any more
    page.screenshot(path=ROOT / "docs" / f"page-{name}.png")


def main(folder: Path) -> None:
    if not (folder / "runs" / RUN).is_dir():
        line = [sys.executable, "-m", "dpo_lite", "train", "quickstart"]
        subprocess.run(line, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    with serve(folder) as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(2 * MINUTES)
        for picture in (recipes, runs, compare):
            picture(page, address)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else name).resolve())
