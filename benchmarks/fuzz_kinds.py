"""The kinds of inputs that benchmarks/fuzz.py makes: each tries one in a folder."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml

from benchmarks.fuzz_damage import ODD, damaged_bytes, damaged_value, page
from benchmarks.fuzz_runs import reviews, run_folders, studies


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
    from dpo_lite.compare.vote_rows import preference_rows, unpaired_rows
    from dpo_lite.compare.votes import passed_over, read_votes, votes_file, win_rates
    from dpo_lite.ui import compare_views, tab_compare

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
    for rows in (preference_rows, unpaired_rows):
        rows(found, "one")
    shown = page(folder)
    "".join([compare_views.win_table(*win_rates(found)), repr(tab_compare.facts(shown))]).encode()


KINDS: dict[str, Callable[[random.Random, Path], None]] = {
    kind.__name__: kind
    for kind in (
        *(recipes, command_lines, data_files, adapters, votes, run_folders, studies, reviews),
    )
}
