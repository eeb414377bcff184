"""DPO, KTO, SimPO, ORPO, GRPO and on-policy rounds on the builtin world, seed by seed.

    python -m benchmarks.which_method [--minutes 60] [--folder runs/which-method]

Every method is the quickstart's recipe of its task, with the loss's own defaults; every run is a
process of its own, as a user starts it. What is measured stands in ``which_method.json`` beside
this file, a record for each method and seed, so the same command goes on where it was stopped;
``--minutes`` starts nothing new after so long. Prints the table of docs/choosing.md: rates pooled
over the seeds that are there, with their intervals, and what is not measured by name.

Time is the processor's, of all of the method's processes, drawing and evaluation included: on a
shared machine the clock says more of the neighbours. Without what a judge cost to train.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dpo_lite.files import read_json, write_json
from dpo_lite.rates import Rate, pooled

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_suffix(".json")
SEEDS = (1, 2, 3)
SETS = ("phrasings", "topics")
AT_THE_END = "eval.sample_steps=1000000"  # the KL is estimated at the last update alone
PLAIN = ["train.beta=auto", "train.sft_weight=auto"]
METHODS = {
    "DPO": ("quickstart", PLAIN),
    "DPO, SFT weight 10": ("quickstart", []),
    "KTO": ("kto-quickstart", []),
    "SimPO": ("quickstart", ["train.loss=simpo", *PLAIN]),
    "ORPO": ("quickstart", ["train.loss=orpo", *PLAIN]),
    "GRPO": ("grpo-quickstart", []),
    "three rounds": ("quickstart", ["train.max_steps=2", "train.sft_weight=0"]),
}
JUDGED = ("GRPO", "three rounds")
ROUNDS = ["--rounds", "3", "--prompts", "128", "--max-new-tokens", "40"]
ROUNDS += ["train.max_steps=null", "train.epochs=2", "train.sft_weight=1"]


def command(*parts: str) -> None:
    """A command of the product in a process of its own, quietly."""
    one_core = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    subprocess.run(
        [sys.executable, "-m", "dpo_lite", *parts],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | one_core,
    )


def trained(recipe: str, name: str, folder: Path, seed: int, changes: list[str]) -> Path:
    """A run of that name, made anew where it was not finished."""
    path = folder / name
    if not (path / "results.json").exists():
        shutil.rmtree(path, ignore_errors=True)
        keys = [f"run.folder={folder}", f"run.name={name}", f"train.seed={seed}", *changes]
        command("train", str(ROOT / "recipes" / f"{recipe}.yaml"), *keys)
    return path


def measured(method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train it, and what came of it: rates, KL, processor seconds, bytes."""
    recipe, changes = METHODS[method]
    name = f"{method.lower().replace(' ', '-').replace(',', '')}-{seed}"
    changes = [*changes, AT_THE_END]
    judge = ""
    if method in JUDGED:
        judge = str(trained("reward-quickstart", f"judge-{seed}", folder, seed, []))
    if method == "GRPO":
        changes.append(f"ppo.reward={judge}/adapter")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = trained(recipe, name, folder, seed, changes)
    if method == "three rounds":
        command("rounds", name, "--runs", str(folder), "--reward", f"{judge}/adapter", *ROUNDS)
        path = folder / f"{name}-round-3"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    results = json.loads((path / "results.json").read_text("utf-8"))
    said = {}
    for held_out in SETS:
        counts = results["sets"][held_out]["counts"]["generation"]["policy"]
        said[held_out] = [counts["successes"], counts["n"]]
    return {
        "said": said,
        # That of a round is to the policy which it began with, and not to the base.
        "kl": None if method == "three rounds" else kl_of(path),
        "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_memory": results["peak_memory"],
    }


def kl_of(path: Path) -> float:
    """The last estimate of KL(policy || reference) that the run logged, in nats per answer, from 16
    answers to the recipe's prompts; of GRPO that of its last rollout."""
    lines = (path / "metrics.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    name = "kl/sampled" if any("kl/sampled" in record for record in records) else "kl"
    return [record[name] for record in records if name in record][-1]


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown: a line for each method, and one that names what is missing."""
    lines = [
        "| method | seeds | facts, new phrasings | facts, new topics | KL, nats per answer |"
        " processor time | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in METHODS:
        runs = [found[key] for key in keys_of(method) if key in found]
        if not runs:
            continue
        cells = [method, str(len(runs))]
        for held_out in SETS:
            rates = [Rate(k / n, n) for k, n in (run["said"][held_out] for run in runs)]
            cells.append(pooled(rates).words())
        kls = [run["kl"] for run in runs if run["kl"] is not None]
        cells.append(spread(kls, 1))
        cells.append(f"{statistics.mean(run['seconds'] for run in runs):.0f} s")
        cells.append(f"{max(run['peak_memory'] for run in runs) / 2**20:,.0f} MiB")
        lines.append(f"| {' | '.join(cells)} |")
    missing = []
    for method in METHODS:
        left = [key[-1] for key in keys_of(method) if key not in found]
        missing += [f"{method} ({'seeds' if len(left) > 1 else 'seed'} {', '.join(left)})"] * bool(
            left
        )
    return [*lines, "", f"Not measured yet: {'; '.join(missing) or 'nothing'}."]


def spread(values: list[float], digits: int) -> str:
    """All values from the lowest to the highest, or the one that there is."""
    if not values:
        return "–"
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def keys_of(method: str) -> list[str]:
    return [f"{method}, seed {seed}" for seed in SEEDS]


def go_on(
    path: Path, work: Mapping[str, Callable[[], dict[str, Any]]], minutes: float
) -> dict[str, dict[str, Any]]:
    """The records of a file, with those that were missing; each is written down when it is made,
    and none is begun after so many minutes."""
    found = read_json(path) or {}
    started = time.monotonic()
    for key, measure in work.items():
        if key in found or time.monotonic() - started > 60 * minutes:
            continue
        print(f"{key} …", file=sys.stderr, flush=True)
        found[key] = measure()
        write_json(path, found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "which-method")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    work = {
        f"{method}, seed {seed}": partial(measured, method, seed, folder)
        for seed in SEEDS
        for method in METHODS
    }
    found = go_on(RESULTS, {} if asked.table else work, asked.minutes)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
