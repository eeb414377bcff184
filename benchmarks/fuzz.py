"""Twenty thousand inputs that somebody damaged or made up; each ends well or in one sentence.

    python -m benchmarks.fuzz                    20,000 of them, in about ten minutes on two cores
    python -m benchmarks.fuzz --count 500 --seed 3 recipes votes

Every kind starts from something sound and changes it a little: a byte, a cell, a word, a file. What
is held: an exception is one that a user reads as a sentence (``errors.in_words``), nothing takes
longer than a minute, and what was not damaged is still read. A fault is printed with its seed, by
which the one input is made again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest.mock import patch

import typer.main
import yaml

from dpo_lite.errors import in_words

ODD = [
    None, True, 0, -1, 2**63, 10**400, 0.5, 1e300, float("nan"), float("inf"), "", " ", "x",
    "1e999", "a\0b", "\x1b[31m", "\ud800", "[/red]", "../..", "/", "~", "n" * 5000, [], [[]], {},
    {"a": 1}, [{"role": "user"}], [1, "a", None],
]  # fmt: skip
LONGEST = 60.0  # seconds that one input may take


# --- how something sound is damaged ---------------------------------------------------------------


def damaged_bytes(draw: random.Random, text: bytes) -> bytes:
    """Some bytes cut off, changed, doubled, zeroed or put in between."""
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(len(text) + 1)
        end = min(len(text), at + draw.choice([1, 1, 4, 40]))
        put = draw.choice([b"", bytes(end - at), draw.randbytes(end - at), text[at:end] * 2])
        text = text[:at] if draw.random() < 0.2 else text[:at] + put + text[end:]
    return text


def damaged_value(draw: random.Random, value):
    """The same tree with a node that is another, is gone, or is there twice."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        how = draw.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return value | {str(draw.choice(ODD))[:50]: value[key]}
        return value | {key: damaged_value(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], damaged_value(draw, value[at]), *value[at + 1 :]]
    return draw.choice(ODD)


# --- the kinds: each tries one input in a folder --------------------------------------------------


def recipes(draw: random.Random, folder: Path) -> None:
    """A shipped recipe with values, words or bytes of it changed."""
    from dpo_lite.recipe import load_recipe, to_yaml

    text = draw.choice(shipped_recipes()).read_bytes()
    if draw.random() < 0.5:
        changed = damaged_value(draw, yaml.safe_load(text))
        text = yaml.safe_dump(changed, allow_unicode=True).encode("utf-8", "replace")
    else:
        text = damaged_bytes(draw, text)
    file = folder / "recipe.yaml"
    file.write_bytes(text)
    loaded = load_recipe(file)
    file.write_text(to_yaml(loaded), encoding="utf-8")
    assert load_recipe(file) == loaded, "a recipe is another one when it is read again"


@cache
def shipped_recipes() -> list[Path]:
    from dpo_lite.recipe.library import shipped

    return [entry.path for entry in shipped()]


def command_lines(draw: random.Random, folder: Path) -> None:
    """A command with words that are names, numbers, options or nothing of the kind."""
    from dpo_lite.cli import main

    commands = ["runs", "runs show", "runs stop", "runs delete --yes", "runs rename", "votes"]
    commands += ["recipes", "recipes show", "recipes cp", "recipes diff", "import", "plan"]
    words = ["quickstart", "missing", "--runs", ".", "train.beta=0.1", "--all", "--json", "--help"]
    words += ["train.lr=nan", "=", "data.train=", "--", "-1", "a=b=c", "--lines", "half"]
    words += [str(value)[:300] for value in ODD]
    (folder / "half").mkdir()
    (folder / "half" / "recipe.yaml").write_text("[")
    arguments = [*draw.choice(commands).split(), *draw.choices(words, k=draw.randrange(4))]
    with contextlib.chdir(folder):
        main([word.replace("\0", "") for word in arguments])  # no system passes a zero


def data_files(draw: random.Random, folder: Path) -> None:
    """A file of pairs, in each kind that is text, with bytes or cells of it changed."""
    from dpo_lite.jobs.doctor import examine

    rows = [
        {"prompt": f"question {n}", "chosen": f"good {n}", "rejected": f"bad {n}"}
        for n in range(12)
    ]
    if draw.random() < 0.5:
        rows = [damaged_value(draw, row) if draw.random() < 0.2 else row for row in rows]
    kind = draw.choice([".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz"])
    text = json.dumps(rows) if kind == ".json" else "\n".join(map(json.dumps, rows))
    if kind in (".csv", ".tsv"):
        between = "," if kind == ".csv" else "\t"
        cells = [list(map(str, row.values())) for row in rows if isinstance(row, dict)]
        text = "\n".join(between.join(line) for line in [["prompt", "chosen", "rejected"], *cells])
    raw = text.encode("utf-8", "replace")
    if kind.endswith(".gz"):
        import gzip

        raw = gzip.compress(raw, mtime=0)
    file = folder / f"rows{kind}"
    file.write_bytes(damaged_bytes(draw, raw) if draw.random() < 0.6 else raw)
    report = examine(str(file))
    lost = sum(drop.count for reason, drop in report.dropped.items() if report.lost(reason))
    assert report.kept + sum(report.evals.values()) + lost >= report.rows, "rows are lost uncounted"


def adapters(draw: random.Random, folder: Path) -> None:
    """The folder of an adapter, its configuration or its weights damaged."""
    import numpy as np
    from safetensors.numpy import save

    from dpo_lite.model.adapter_files import CONFIG, WEIGHTS, adapter_folder, check_adapter

    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    config |= {"task_type": "CAUSAL_LM", "base_model_name_or_path": "a/b", "lora_dropout": 0.0}
    text = json.dumps(damaged_value(draw, config) if draw.random() < 0.5 else config)
    raw = text.encode("utf-8", "replace")
    (folder / CONFIG).write_bytes(damaged_bytes(draw, raw) if draw.random() < 0.5 else raw)
    name = "base_model.model.layers.0.q_proj.lora_B.weight"
    weights = save({name: np.ones((8, 4), np.float32)})
    (folder / WEIGHTS).write_bytes(damaged_bytes(draw, weights) if draw.random() < 0.5 else weights)
    check_adapter(adapter_folder(str(folder)), "a/b", "model.adapter")


def votes(draw: random.Random, folder: Path) -> None:
    """The file of votes with lines or bytes of it changed; sound lines still count."""
    from dpo_lite.compare.votes import passed_over, read_votes, votes_file, win_rates

    columns = [
        {"label": label, "fingerprint": label * 8, "answer": f"answer {label}"} for label in "ab"
    ]
    vote = {"time": 1.0, "run": "one", "prompt": "p", "columns": columns, "sampling": {}}
    vote |= {"blind": True, "verdict": "A"}
    lines = [json.dumps(vote | {"prompt": f"p{n}"}) for n in range(4)]
    lines += [json.dumps(damaged_value(draw, vote)) for _ in range(3)]
    raw = "\n".join(lines).encode("utf-8", "replace")
    file = votes_file(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    by_bytes = draw.random() < 0.5
    file.write_bytes(damaged_bytes(draw, raw) if by_bytes else raw + b"\n")
    found = read_votes(folder)
    sound = {f"p{n}" for n in range(4)}
    assert by_bytes or sound <= {vote["prompt"] for vote in found}, "a sound vote is lost"
    win_rates(found)
    passed_over(folder)


@cache
def recipe_of_a_run() -> bytes:
    from dpo_lite.recipe import load_recipe, to_yaml

    return to_yaml(load_recipe("quickstart")).encode()


def run_folders(draw: random.Random, folder: Path) -> None:
    """A finished run, one of its files damaged, listed and shown by page and terminal."""
    from dpo_lite.cli import main
    from dpo_lite.runs.folder import create_run
    from dpo_lite.ui import compare_question, publish_views, run_files, run_views
    from dpo_lite.ui.curves import View

    run = create_run(folder, "one", "one")
    sound: dict[str, list | dict] = {
        "status.json": {"state": "finished", "step": 3, "max_steps": 3, "loss": 0.5, "pairs": 4},
        "results.json": {
            "sets": {"held_out": {"loss": 0.5, "rewards/accuracies": 0.7, "pairs": 9}}
        },
        "manifest.json": {"data": {"fingerprint": "a", "examples": 9}, "device": "cpu"},
        "metrics.jsonl": [{"step": n, "loss": 0.6, "rewards/margins": 0.1} for n in range(1, 40)],
        "samples.jsonl": [{"when": "before", "prompt": "p", "answer": "a"}] * 2,
        "adapter/adapter_config.json": {"task_type": "CAUSAL_LM"},
    }
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"")
    hit = draw.choice([*sound, "recipe.yaml", "log.txt"])
    for name, content in sound.items():
        parts = content if name.endswith("l") else [content]
        if name == hit:
            parts = [damaged_value(draw, p) if draw.random() < 0.5 else p for p in parts]
        raw = "".join(json.dumps(part) + "\n" for part in parts).encode("utf-8", "replace")
        if name == hit and draw.random() < 0.5:
            raw = damaged_bytes(draw, raw)
        (run.path / name).write_bytes(raw)
    recipe, log = recipe_of_a_run(), b"a line\n" * 5
    run.recipe_file.write_bytes(damaged_bytes(draw, recipe) if hit == "recipe.yaml" else recipe)
    (run.path / "log.txt").write_bytes(damaged_bytes(draw, log) if hit == "log.txt" else log)
    found = run_files.statuses(folder)
    assert list(found) == ["one"], "the run is not listed"
    run_views.run_table(found, ["one"])
    run_views.detail(folder, found, ["one"])
    run_views.curve_grid(folder, ["one"], View())
    run_views.samples(folder, ["one"])
    run_views.log_tail(folder, ["one"])
    compare_question.answering(folder)
    publish_views.run_names(folder)
    for words in (["runs"], ["runs", "show", "one"]):
        with contextlib.suppress(SystemExit):
            main([*words, "--runs", str(folder)])


KINDS: dict[str, Callable[[random.Random, Path], None]] = {
    kind.__name__: kind
    for kind in (recipes, command_lines, data_files, adapters, votes, run_folders)
}


def tried(kind: str, seed: int, folder: Path) -> str:
    """What became of one input: ``sound``, ``told`` in a sentence, or the traceback."""
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            KINDS[kind](random.Random(f"{kind} {seed}"), folder)
        outcome = "sound"
    except SystemExit as end:  # the command line has told it
        outcome = "told" if end.code else "sound"
    except Exception as error:
        outcome = "told" if in_words(error) else traceback.format_exc()
    if time.perf_counter() - began > LONGEST:
        return f"took {time.perf_counter() - began:.0f} s"
    return outcome


def fuzz(kinds: list[str], count: int, seed: int) -> dict[str, Counter[str]]:
    """So many inputs, dealt out evenly; how they ended, by kind, and one example of each fault."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    commands = cache(typer.main.get_command)  # made once, which takes longer than most inputs
    with patch.object(typer.main, "get_command", commands):
        _fuzz(kinds, count, seed, counts)
    return counts


def _fuzz(kinds: list[str], count: int, seed: int, counts: dict[str, Counter[str]]) -> None:
    for number in range(count):
        kind = kinds[number % len(kinds)]
        folder = Path(tempfile.mkdtemp())
        outcome = tried(kind, seed + number, folder)
        shutil.rmtree(folder, ignore_errors=True)
        if outcome not in ("sound", "told"):
            last = "\n".join(outcome.strip().splitlines()[-7:])
            if not counts[kind][last.splitlines()[-1]]:
                print(f"{kind}, seed {seed + number}:\n{last}\n", file=sys.stderr, flush=True)
            outcome = last.splitlines()[-1]
        counts[kind][outcome] += 1


def run() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    counts = fuzz(asked.kinds or list(KINDS), asked.count, asked.seed)
    for kind, ends in counts.items():
        faults = sum(ends.values()) - ends["sound"] - ends["told"]
        print(f"{kind:<16}{ends['sound']:>7} sound{ends['told']:>7} told{faults:>7} faults")
    sys.exit(any(set(ends) - {"sound", "told"} for ends in counts.values()))


if __name__ == "__main__":
    run()
