"""Much of everything: 1,000 runs, a million updates, a million rows, 20 browsers, 50 waiting runs.

    python -m benchmarks.load            all of it; or some: python -m benchmarks.load show page
    python -m benchmarks.load --tenth    a tenth of everything

Each part runs in a process of its own, so that its peak of memory is its own. What is made lies in
a temporary folder and goes with it.
"""

from __future__ import annotations

import concurrent.futures
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
RUNS, UPDATES, ROWS, CLIENTS, WAITING = 1_000, 1_000_000, 1_000_000, 20, 50
LOOKS = 5  # of each client
Row = tuple[str, float, str]  # what was measured, how much, in what


# --- what is looked at ----------------------------------------------------------------------------


def make_runs(folder: Path, count: int) -> None:
    """Finished runs of 20 updates each."""
    from dpo_lite.files import write_text
    from dpo_lite.recipe import load_recipe, to_yaml
    from dpo_lite.runs.folder import create_run

    text, lines = to_yaml(load_recipe("quickstart")), metrics(20)
    for number in range(count):
        run = create_run(folder, f"demo-{number:04}", "demo")
        write_text(run.recipe_file, text)
        write_text(run.path / "metrics.jsonl", lines)
        run.adapter.mkdir()
        write_text(run.adapter / "adapter_config.json", '{"task_type": "CAUSAL_LM"}')
        run.update_status(
            state="finished", started=1.8e9, step=20, max_steps=20, loss=0.4, margin=1.0
        )


def make_long_run(folder: Path, updates: int) -> None:
    """A run that has logged so many updates and is measured on a held-out set a hundred times."""
    from dpo_lite.files import write_text
    from dpo_lite.recipe import load_recipe, to_yaml
    from dpo_lite.runs.folder import create_run

    run = create_run(folder, "long", "long")
    write_text(run.recipe_file, to_yaml(load_recipe("quickstart")))
    with open(run.path / "metrics.jsonl", "w", encoding="utf-8") as file:
        for first in range(0, updates, 10_000):
            file.write(metrics(min(10_000, updates - first), first, updates))
    run.note_places()  # as it does itself whenever it saves
    run.update_status(state="stopped", step=updates, max_steps=updates, loss=0.4, margin=1.0)


def metrics(count: int, before: int = 0, most: int = 0) -> str:
    """Lines of metrics.jsonl as a run of DPO writes them, and the last with a held-out set."""
    draw, lines = random.Random(before), []
    for step in range(before + 1, before + count + 1):
        margin = 2 * step / (most or count) + draw.gauss(0, 0.3)
        loss = math.log1p(math.exp(-margin))
        record = {"step": step, "loss": loss, "rewards/margins": margin, "rewards/chosen": -0.1}
        record |= {"rewards/rejected": -0.1 - margin, "rewards/accuracies": 0.7, "pairs": 16}
        record |= {"logps/chosen": -52.1, "logps/rejected": -61.7, "grad_norm": 1.3}
        record |= {"learning_rate": 5e-6, "epoch": step / 1000, "memory": 1.25}
        lines.append(json.dumps(record))
    held_out = {"eval_held_out_loss": 0.5, "eval_held_out_rewards/margins": 0.9}
    lines.append(json.dumps({"step": before + count, **held_out}))
    return "\n".join(lines) + "\n"


def make_rows(file: Path, count: int) -> None:
    """Preference pairs of about 60 words, all different."""
    words = "the a river stone walks under bright old quiet seven trains carry paper light".split()
    draw = random.Random(0)
    with open(file, "w", encoding="utf-8") as stream:
        for number in range(count):
            prompt, chosen, rejected = (
                f"{number} {' '.join(draw.choices(words, k=length))}" for length in (12, 24, 24)
            )
            row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            stream.write(json.dumps(row) + "\n")


# --- the parts, each in a process of its own ------------------------------------------------------


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def peak() -> Row:
    import resource

    return "peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "GiB"


def commanded(*words: str) -> None:
    from dpo_lite.cli import app

    app(words, standalone_mode=False)


def listing(folder: Path) -> list[Row]:
    from dpo_lite.runs.folder import list_runs

    looked = milliseconds(lambda: [run.status() for run in list_runs(folder)])
    table = milliseconds(lambda: commanded("runs", "--runs", str(folder)))
    return [("every run's status", looked, "ms"), ("the table", table, "ms"), peak()]


def show(folder: Path) -> list[Row]:
    from dpo_lite.runs import places

    commanded("runs", "show", "demo-0000", "--runs", str(folder))  # what is imported is imported
    places.forget(folder / "long" / "metrics.jsonl")  # as of a run of an older version
    unknown = milliseconds(lambda: commanded("runs", "show", "long", "--runs", str(folder)))
    took = milliseconds(lambda: commanded("runs", "show", "long", "--runs", str(folder)))
    return [
        ("runs show of the long run, nothing noted", unknown, "ms"),
        ("runs show of the long run", took, "ms"),
        peak(),
    ]


def page(folder: Path) -> list[Row]:
    from dpo_lite.runs.folder import Run
    from dpo_lite.ui import pulse, tab_runs
    from dpo_lite.ui.client import Worker
    from dpo_lite.ui.curves import View
    from dpo_lite.ui.shared import Page

    shown = Page(folder, folder, worker=Worker(folder))
    long = Run(folder / "long")

    def redrawn(change: Callable[[int], None], selected: list[str]) -> float:
        took = []
        for i in range(10):
            change(i)
            took.append(milliseconds(lambda: tab_runs.refresh(shown, selected, View(), None, {})))
        return statistics.median(took)

    first = milliseconds(lambda: tab_runs.refresh(shown, ["demo-0001"], View(), None, {}))
    pulses = [milliseconds(lambda: pulse.look(shown, ["demo-0001"])) for _ in range(10)]
    opened = milliseconds(lambda: tab_runs.refresh(shown, ["long"], View(), None, {}))
    table = redrawn(lambda i: Run(folder / "demo-0000").update_status(loss=i / 7), ["demo-0001"])
    curves = redrawn(lambda i: long.append("metrics.jsonl", {"step": i, "loss": 0.5}), ["long"])
    size = len(str(tab_runs.refresh(shown, ["demo-0001"], View(), None, {})[0])) / 1024
    before = time.process_time()
    tab_runs.refresh(shown, ["demo-0002"], View(), None, {})
    busy = 1000 * (time.process_time() - before)
    return [
        ("first look", first, "ms"),
        ("another run selected, of a core", busy, "ms"),
        ("a pulse", statistics.median(pulses), "ms"),
        ("one run changed", table, "ms"),
        ("the long run opened", opened, "ms"),
        ("the long run has a new line", curves, "ms"),
        ("the table as it is sent", size, "KiB"),
        peak(),
    ]


def clients(folder: Path) -> list[Row]:
    """Browsers that look at the Runs tab at once while one run trains: a pulse, and the redraw."""
    from benchmarks.ui_speed import served  # brings Gradio, which the other parts do without

    with served(folder) as (address, server):
        paints = [milliseconds(lambda: fetched(address)) for _ in range(5)]
        config = json.loads(fetched(f"{address}/config"))
        button = next(
            part["id"]
            for part in config["components"]
            if part["props"].get("elem_id") == "runs-changed"
        )
        event, inputs = next(
            (number, len(found["inputs"]))
            for number, found in enumerate(config["dependencies"])
            if [button, "click"] in [list(target) for target in found["targets"]]
        )
        shown = [
            ["demo-0001"],
            0.8,
            False,
        ]  # selected, smoothed, logarithmic; the rest is the page's
        question = {"data": shown + [None] * (inputs - len(shown)), "fn_index": event}
        process = psutil.Process(server.pid)
        before = sum(process.cpu_times()[:2])
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            looked = [*pool.map(lambda i: browser(address, question, folder, i), range(CLIENTS))]
        busy = sum(process.cpu_times()[:2]) - before
        resident, each = process.memory_info().rss / 2**30, 1000 * busy / (CLIENTS * LOOKS)
    pulses, redraws = ([t for found in looked for t in found[kind]] for kind in (0, 1))
    return [
        ("the page itself, one browser", statistics.median(paints), "ms"),
        *((f"a pulse, {CLIENTS} browsers, {w}", v, "ms") for w, v in quantiles(pulses)),
        *((f"a tab drawn, {CLIENTS} browsers, {w}", v, "ms") for w, v in quantiles(redraws)),
        ("the server at work on one pulse and one tab", each, "ms"),
        ("the server's memory", resident, "GiB"),
    ]


def browser(
    address: str, question: dict[str, object], folder: Path, number: int
) -> tuple[list[float], list[float]]:
    """Look some times, two seconds apart as the page's script does; milliseconds of each kind."""
    from dpo_lite.runs.folder import Run

    pulses, redraws = [], []
    time.sleep(2 * number / CLIENTS)  # browsers are not in step
    drawn(address, question, f"browser-{number}")
    for look in range(LOOKS):
        Run(folder / "demo-0001").update_status(loss=number + look / LOOKS)
        pulses.append(milliseconds(lambda: fetched(f"{address}/pulse?runs=demo-0001")))
        redraws.append(milliseconds(lambda: drawn(address, question, f"browser-{number}")))
        time.sleep(2)
    return pulses, redraws


def drawn(address: str, question: dict[str, object], session: str) -> None:
    """One event of Gradio's from its question to its whole answer."""
    body = question | {"session_hash": session}
    request = urllib.request.Request(
        f"{address}/gradio_api/queue/join",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    urllib.request.urlopen(request).read()
    with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash={session}") as lines:
        for line in lines:
            if b"process_completed" in line:
                assert json.loads(line[5:])["success"], line
                return


def fetched(address: str) -> bytes:
    return urllib.request.urlopen(address).read()


def quantiles(values: list[float]) -> list[tuple[str, float]]:
    ordered = sorted(values)
    return [
        ("median", statistics.median(values)),
        *((f"p{share}", ordered[-1 - len(ordered) * (100 - share) // 100]) for share in (95, 99)),
    ]


def rows(folder: Path) -> list[Row]:
    """A data set counted, cleaned and tokenised."""
    before = time.process_time()
    took = milliseconds(lambda: commanded("data", str(folder / "rows.jsonl")))
    busy = time.process_time() - before
    again = milliseconds(lambda: commanded("data", str(folder / "rows.jsonl")))
    return [
        ("dpo-lite data", took / 1000, "s"),
        ("the same, of a core", busy, "s"),
        ("again", again / 1000, "s"),
        ("again, of a core", time.process_time() - before - busy, "s"),
        peak(),
    ]


def waiting(folder: Path) -> list[Row]:
    """Runs that were launched while another one has the device."""
    from dpo_lite.recipe import load_recipe
    from dpo_lite.runs import processes
    from dpo_lite.runs.device_lock import device_lock, waiters

    count = int(os.environ["LOAD_WAITING"])
    recipe = load_recipe("quickstart")
    with device_lock("the benchmark"):
        started = time.perf_counter()
        runs = [processes.launch(recipe, "waiting", folder / "queue") for _ in range(count)]
        while len(waiters()) < count:
            time.sleep(0.2)
        took = time.perf_counter() - started
        found = [psutil.Process(run.status()["pid"]) for run in runs]
        before = [p.cpu_times() for p in found]
        time.sleep(10)
        busy = sum(sum(p.cpu_times()[:2]) - sum(b[:2]) for p, b in zip(found, before, strict=True))
        memory = [p.memory_full_info().uss / 2**20 for p in found]
        for process in found:
            process.kill()
        for process in found:
            process.wait(10)
    return [
        (f"{count} launched and in line", took, "s"),
        ("memory of one", statistics.mean(memory), "MiB"),
        ("memory of all", sum(memory) / 1024, "GiB"),
        ("a core busy with their waiting", 10 * busy, "%"),
    ]


PARTS: dict[str, Callable[[Path], list[Row]]] = {
    part.__name__: part for part in (listing, show, page, clients, rows, waiting)
}


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--part":
        found = PARTS[sys.argv[2]](Path(sys.argv[3]))
        Path(sys.argv[3], "measured.json").write_text(json.dumps(found))
        return
    share = 10 if "--tenth" in sys.argv else 1
    asked = [name for name in sys.argv[1:] if name in PARTS] or list(PARTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {*asked} & {"listing", "show", "page", "clients"}:
            make_runs(folder, RUNS // share)
            make_long_run(folder, UPDATES // share)
        if "rows" in asked:
            make_rows(folder / "rows.jsonl", ROWS // share)
        environment = os.environ | {
            "DPO_LITE_CACHE": str(folder / "cache"),
            "LOAD_WAITING": str(WAITING // share),
            "PYTHONPATH": str(ROOT),
        }
        for part in asked:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.load", "--part", part, name],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            for label, value, unit in json.loads((folder / "measured.json").read_text()):
                print(f"{part:<10}{label:<44}{value:>10.1f} {unit}", flush=True)


if __name__ == "__main__":
    main()
