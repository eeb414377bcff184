"""DPO, KTO, SimPO and ORPO on a real instruct model and public pairs, one seed.

    python -m scripts.real_model                                  # SmolLM2-135M-Instruct
    python -m benchmarks.which_method_real harmless-base-test.jsonl [--minutes 60]

The file is a split of Anthropic's HH-RLHF as JSON lines (``chosen``, ``rejected``). Of the pairs
whose dialogues both have under ``SHORT`` characters the first ``TRAINED`` are trained on, the next
``HELD_OUT`` are ranked by each run's implicit reward, log(policy / reference), whatever its loss:
so the methods are compared by one measure. Records stand in ``which_method_real.json`` beside this
file; the same command goes on where it was stopped, ``--minutes`` starts nothing new after so long.
"""

from __future__ import annotations

import argparse
import json
import resource
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.which_method import ROOT, command, go_on, kl_of, trained
from dpo_lite.files import cache_folder
from dpo_lite.rates import Rate

RESULTS = Path(__file__).with_suffix(".json")
SHORT, TRAINED, HELD_OUT = 500, 256, 128
SETTINGS = ["train.lr=2e-4", "train.beta=auto", "data.max_length=256", "eval.limit=8"]
SETTINGS += ["eval.max_new_tokens=48", "eval.sample_steps=1000000"]
METHODS = {
    "DPO": [],
    "KTO": ["task=kto", "train.batch_size=32"],  # of 16 pairs both answers
    "SimPO": ["train.loss=simpo"],
    "ORPO": ["train.loss=orpo"],
}


def sources(split: Path, folder: Path) -> tuple[Path, Path]:
    """The pairs to train on and the held-out ones, as files of their own."""
    with split.open("rb") as lines:
        short = (line for line in lines if short_pair(json.loads(line)))
        parts = [list(islice(short, n)) for n in (TRAINED, HELD_OUT)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / "train.jsonl", folder / "held-out.jsonl")
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(b"".join(part))
    return paths


def short_pair(row: dict[str, str]) -> bool:
    return max(len(row["chosen"]), len(row["rejected"])) < SHORT


def measured(method: str, split: Path, folder: Path) -> dict[str, Any]:
    """Train it and rank the held-out pairs: counts, KL, processor seconds of both, bytes."""
    train, held_out = sources(split, folder)
    name = method.lower().replace(" ", "-").replace(",", "")
    base = cache_folder() / "models" / "SmolLM2-135M-Instruct"
    data = [f"model.base={base}", f"data.train={train}", f"data.eval={held_out}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = trained("smollm2-135m", name, folder, 1, [*data, *SETTINGS, *METHODS[method]])
    scores = folder / f"{name}.scores.jsonl"
    command("score", str(path), str(held_out), "--out", str(scores), "--runs", str(folder))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(line) for line in scores.read_text("utf-8").splitlines()]
    margins = [line["scores"][0] - line["scores"][1] for line in lines]
    results = json.loads((path / "results.json").read_text("utf-8"))
    return {
        "right": sum(margin > 0 for margin in margins),
        "pairs": len(margins),
        "kl": kl_of(path),
        "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_memory": results["peak_memory"],
    }


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown, a line for each method that is there."""
    lines = [
        "| method | held-out pairs ranked right | KL, nats per answer | processor time"
        " | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method in METHODS:
        if run := found.get(method):
            rate = Rate(run["right"] / run["pairs"], run["pairs"]).words()
            memory = f"{run['peak_memory'] / 2**20:,.0f} MiB"
            lines.append(
                f"| {method} | {rate} | {run['kl']:.1f} | {run['seconds']:.0f} s | {memory} |"
            )
    missing = [method for method in METHODS if method not in found]
    return [*lines, *(["", f"Not measured yet: {', '.join(missing)}."] if missing else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("split", type=Path, nargs="?", help="without it the table alone")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "which-method-real")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    work = {method: partial(measured, method, asked.split, folder) for method in METHODS}
    found = go_on(RESULTS, work if asked.split else {}, asked.minutes)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
