"""How fast the web page is: first paint, a refresh of the table of runs, and what idling costs.

    python -m benchmarks.ui_speed [RUNS …]      (200; the browser rows need playwright and Chromium)

The server's part of a refresh is timed in this process, the whole of it in a browser: from the
change of a file of one run until the row shows it, less the time until the page's timer looks.
"""

from __future__ import annotations

import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpo_lite.files import write_text
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs.folder import Run, create_run
from dpo_lite.runs.tails import Tails
from dpo_lite.ui import run_files, tab_runs
from dpo_lite.ui.curves import View
from dpo_lite.ui.shared import Page

RUNS, UPDATES, REPEATS, IDLE_SECONDS = 200, 300, 20, 20
SHOWN = "loss => document.querySelector('#runs-table tr[data-run]').innerText.includes(loss)"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
CHROMIUM = "/usr/bin/chromium"
ROOT = Path(__file__).resolve().parent.parent


def make_runs(folder: Path, count: int) -> None:
    """Finished runs with the metrics of 300 updates each."""
    text = to_yaml(load_recipe("quickstart"))
    for number in range(count):
        run = create_run(folder, f"demo-{number:03}", "demo")
        write_text(run.recipe_file, text)
        draw = random.Random(number)
        lines = []
        for step in range(1, UPDATES + 1):
            margin = 2 * step / UPDATES + draw.gauss(0, 0.3)
            loss = math.log1p(math.exp(-margin))
            rewards = {"rewards/margins": margin, "rewards/accuracies": 0.7, "rewards/chosen": -0.1}
            lines.append(json.dumps({"step": step, "loss": loss, **rewards}) + "\n")
        write_text(run.path / "metrics.jsonl", "".join(lines))
        run.update_status(state="finished", step=UPDATES, max_steps=UPDATES, loss=0.4, margin=1.0)


def milliseconds(work) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def server_side(folder: Path) -> dict[str, float]:
    page = Page(folder, folder, worker=None)
    selected = ["demo-000", "demo-001", "demo-002"]
    first = milliseconds(lambda: tab_runs.refresh(page, selected, View(), None, {}))
    seen = tab_runs.refresh(page, selected, View(), None, {})[-1]
    unchanged, changed = [], []

    def look() -> None:
        nonlocal seen
        found = tab_runs.refresh(page, selected, View(), None, seen)
        seen = found[-1] if isinstance(found, list) else seen  # where something changed

    for i in range(REPEATS):
        unchanged.append(milliseconds(look))
        Run(folder / "demo-000").update_status(loss=i / REPEATS)
        changed.append(milliseconds(look))
    return {
        "server: first look at all runs, 3 selected": first,
        "server: a look, nothing changed": statistics.median(unchanged),
        "server: a look, one run changed": statistics.median(changed),
    }


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A page over these runs that answers: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    arguments = [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--runs", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(address).read()
                break
            except OSError:
                time.sleep(0.1)
        yield address, server
    finally:
        server.terminate()
        server.wait(10)


def in_browser(folder: Path) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with served(folder) as (address, _), sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        return _measured(browser, address, folder)


def _measured(browser, address: str, folder: Path) -> dict[str, float]:
    paints, tables = [], []
    for _ in range(5):
        page = browser.new_context().new_page()
        started = time.perf_counter()
        page.goto(f"{address}/?tab=runs")
        page.wait_for_selector("#runs-table tr[data-run]")
        tables.append(1000 * (time.perf_counter() - started))
        paints.append(page.evaluate(PAINT))
        page.close()
    page = browser.new_page()
    page.goto(f"{address}/?tab=runs")
    page.wait_for_selector("#runs-table tr[data-run]")
    page.wait_for_function("window.performance.now() > 10000")  # nothing is laid out anew
    # From the page's request to the changed row, as the browser itself measures it.
    page.evaluate("""() => {
      const send = window.fetch;
      window.asked = 0;
      window.took = [];
      window.fetch = (...a) => {
        if (String(a[0]?.url || a[0]).includes("queue/join")) window.asked = performance.now();
        return send(...a);
      };
      new MutationObserver(() => window.took.push(performance.now() - window.asked))
        .observe(document.querySelector("#runs-table"),
          {childList: true, characterData: true, subtree: true});
    }""")
    took, newest = [], page.get_attribute("#runs-table tr[data-run]", "data-run")
    for i in range(REPEATS):
        page.evaluate("window.took = []")
        Run(folder / newest).update_status(loss=1 + i / 7)
        page.wait_for_function(SHOWN, arg=f"{1 + i / 7:.3f}")
        took.append(page.evaluate("window.took.at(-1)"))
    page.close()
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("window.performance.now() > 15000")  # what it loads is loaded
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    before = _busy(session)
    page.wait_for_timeout(1000 * IDLE_SECONDS)
    busy = 1000 * (_busy(session) - before) / IDLE_SECONDS
    return {
        "browser: busy in each second of an idle page": busy,
        "browser: first contentful paint": statistics.median(paints),
        "browser: goto to the table of runs": statistics.median(tables),
        "browser: look to the rows drawn anew": statistics.median(took),
    }


def _busy(session) -> float:
    """Seconds that the page's main thread has worked."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(m["value"] for m in metrics if m["name"] == "TaskDuration")


def main() -> None:
    for count in map(int, sys.argv[1:] or [RUNS]):
        print(f"{count:,} runs, a load of {os.getloadavg()[0]:.1f}")
        measure(count)


def measure(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_runs(folder, count)
        run_files.TAILS = Tails()
        rows = server_side(folder)
        try:
            rows |= in_browser(folder)
        except ImportError:
            print("playwright is not installed: the browser is left out", file=sys.stderr)
        for label, value in rows.items():
            print(f"{label:<46}{value:>8.0f} ms")


if __name__ == "__main__":
    main()
