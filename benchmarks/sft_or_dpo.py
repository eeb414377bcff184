"""SFT on the chosen answers against DPO on the pairs, where both answers came from the base.

    python -m benchmarks.sft_or_dpo [--keep FOLDER]

The base answers every training question twice, ``PAIRS`` times over, at temperature 1, and the
better answer of each two is chosen: one that tells the fact beats one that makes neither claim,
which beats one that repeats the misconception. So *chosen* means better than the other and not
good. Two data sets come of it:

    decided  equals are left out: a clear preference stands behind every pair
    all      equals are decided by a coin, as by people who must choose

SFT and DPO get the same rows and a few settings each; every run is an ordinary ``dpo-lite train``
of the quickstart's recipe in a process of its own. Asked are the held-out topics, greedily and with
``DRAWS`` answers at temperature 1. Prints Markdown.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.base_says import Rows, answers, count, load, rows_of, verdict

ROOT = Path(__file__).resolve().parent.parent
PAIRS, DRAWS = 4, 8
GRADES = {"chosen": 2, "neither": 1, "rejected": 0}
SETTINGS = {
    "sft": (
        "train.lr=5e-4 train.epochs=2",
        "train.lr=5e-4 train.epochs=6",
        "train.lr=1e-3 train.epochs=4",
    ),
    "dpo": (
        "train.lr=2e-4 train.epochs=2",
        "train.lr=2e-4 train.epochs=4",
        "train.lr=2e-4 train.epochs=4 train.beta=0.3",
    ),
}


def draw_pairs(rows: Rows, drawn: list[list[str]], coin: random.Random | None) -> Iterator[dict]:
    """Two answers of the base each, the better one chosen; equals by the coin, or left out."""
    for row, own in zip(rows, drawn, strict=True):
        for one, other in zip(own[::2], own[1::2], strict=True):
            better = GRADES[verdict(row, one)] - GRADES[verdict(row, other)]
            if better == 0:
                if coin is None or one == other:
                    continue
                better = coin.choice([-1, 1])
            chosen, rejected = (one, other) if better > 0 else (other, one)
            yield {
                "prompt": row["prompt"],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "chosen_markers": row["chosen_markers"],
                "rejected_markers": row["rejected_markers"],
            }


def train(task: str, data: Path, setting: str, folder: Path, name: str) -> Path:
    """Train by the shipped recipe on our rows; the folder of the adapter."""
    recipe = {"sft": "sft-quickstart", "dpo": "quickstart"}[task]
    given = [f"data.train={data}", "data.eval=builtin:myths:topics", "eval.limit=16"]
    given += [f"run.folder={folder}", f"run.name={name}", *setting.split()]
    command = [sys.executable, "-m", "dpo_lite", "train", recipe, *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return folder / name / "adapter"


def shares(adapter: Path | None, rows: Rows) -> list[str]:
    """Facts in greedy answers, then facts, misconceptions and neither in drawn ones."""
    model, encoder = load(adapter)
    greedy = count(rows, answers(model, encoder, rows, 0))
    drawn = count(rows, answers(model, encoder, rows, DRAWS))
    parts = [drawn[kind] / drawn.total() for kind in ("chosen", "rejected", "neither")]
    return [f"{share:.0%}" for share in (greedy["chosen"] / greedy.total(), *parts)]


def compare(name: str, pairs: list[dict], held_out: Rows, folder: Path) -> None:
    """Train by every setting on one data set and print a row for each."""
    facts = sum(verdict(pair, pair["chosen"][0]["content"]) == "chosen" for pair in pairs)
    print(f"\n{name}: {len(pairs)} pairs, chosen tells the fact in {facts / len(pairs):.0%}\n")
    print("| trained by | setting | fact, greedy | fact, drawn | misconception | neither |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    print("| nothing | |", " | ".join(shares(None, held_out)), "|", flush=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    for task, settings in SETTINGS.items():
        for i, setting in enumerate(settings):
            found = shares(train(task, data, setting, folder, f"{task}-{name}-{i}"), held_out)
            words = setting.replace("train.", "").replace(" ", ", ")
            print(f"| {task.upper()} | {words} |", " | ".join(found), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder for data and runs, which else are lost")
    arguments = parser.parse_args()
    rows, held_out = rows_of("train"), rows_of("topics")
    drawn = answers(*load(), rows, 2 * PAIRS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, coin in (("decided", None), ("all", random.Random(0))):
            compare(name, list(draw_pairs(rows, drawn, coin)), held_out, folder)


if __name__ == "__main__":
    main()
