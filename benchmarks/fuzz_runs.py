"""Kinds of benchmarks/fuzz.py: a run, a sweep or rounds, a review, of which one file is damaged."""

from __future__ import annotations

import contextlib
import json
import random
from functools import cache
from pathlib import Path

from benchmarks.fuzz_damage import Sound, page, put
from dpo_lite.errors import UserError


@cache
def recipe_of_a_run() -> bytes:
    from dpo_lite.recipe import load_recipe, to_yaml

    return to_yaml(load_recipe("quickstart")).encode()


def run_folders(draw: random.Random, folder: Path) -> None:
    """A run, one of its files damaged, listed and shown by page and terminal."""
    from dpo_lite.cli import main
    from dpo_lite.runs.folder import create_run
    from dpo_lite.ui import compare_question, publish_views, pulse, run_files, run_views
    from dpo_lite.ui.curves import View

    run = create_run(folder, "one", "one")
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"")
    sound: dict[str, Sound] = RUN | {"status.json": draw.choice(STATUSES)}
    sound |= {"recipe.yaml": recipe_of_a_run(), "log.txt": b"a line\n" * 5}
    put(draw, run.path, sound)
    found = run_files.statuses(folder)
    assert list(found) == ["one"], "the run is not listed"
    shown = [
        run_views.run_table(found, ["one"]),
        run_views.detail(folder, found, ["one"]),
        run_views.curve_grid(folder, ["one"], View()),
        run_views.samples(folder, ["one"]),
        run_views.log_tail(folder, ["one"]),
        *pulse.look(page(folder), ["one"]).values(),
        *compare_question.answering(folder),
        *publish_views.run_names(folder),
    ]
    "".join(shown).encode()
    for words in (["runs"], ["runs", "show", "one"]):
        with contextlib.suppress(SystemExit):
            main([*words, "--runs", str(folder)])


NOBODY = 2**22 + 1  # above every process number
MANIFEST: Sound = {"data": {"fingerprint": "a", "examples": 9}, "device": "cpu"}
CLOCKS = {"launched": 1.8e9, "started": 1.8e9, "ran_until": 1.8e9, "updated": 1.8e9}
STATUS = {
    "step": 3,
    "max_steps": 3,
    "loss": 0.5,
    "margin": 1.0,
    "accuracy": 0.7,
    "pairs": 4,
} | CLOCKS
AT_WORK = {
    "state": "running",
    "pid": NOBODY,
    "pid_started": "12",
    "seconds_left": 9,
    "doing": "answers",
}
STATUSES: list[Sound] = [
    STATUS | {"state": "finished", "error": None, "seconds_before": 3.0},
    STATUS | AT_WORK,
    {"state": "queued", "launched": 1.8e9, "pid": None, "doing": "starting"},
    STATUS | {"state": "failed", "error": "The data are gone.", "reward": 0.1, "kl": 2.0},
]
CHANGED = {"changed": {"better": 3, "worse": 1}, "n": 20, "higher": True}
APART = {"difference": {"value": 0.1, "stderr": 0.02}, "n": 20}
OF_TASK = {"task": "arc", "metric": "acc", "filter": "none"}
VALUES = {"reference": {"value": 0.5, "stderr": 0.1}, "policy": {"value": 0.6, "stderr": 0.1}}
RUN: dict[str, Sound] = {
    "results.json": {
        "sets": {
            "held_out": {
                "loss": 0.5,
                "rewards/accuracies": 0.7,
                "rewards/margins": 1.0,
                "pairs": 9,
                "generation": {"reference": 0.2, "policy": 0.5},
                "likelihood": {"reference": 0.2, "policy": 0.5},
                "counts": {
                    "rewards/accuracies": {"successes": 6, "n": 9},
                    "generation": {"policy": {"successes": 4, "n": 9}},
                },
            }
        },
        "kept": {
            **{"step": 2, "trained": 3, "planned": 3, "evaluations": 2, "patience": 2},
            **{"by": "loss", "kl_budget": 3.0, "ended": "patience"},
            "kept": {"step": 2, "value": 0.5, "kl": 1.0},
            "last": {"step": 3, "value": 0.6, "kl": 1.5},
        },
        "seconds": 12.0,
        "peak_memory": 2**30,
        "memory": {"together": {"predicted": 5, "measured": None}},
    },
    "manifest.json": MANIFEST,
    "metrics.jsonl": [
        {"step": n, "loss": 0.6, "rewards/margins": 0.1, "rewards/accuracies": 0.7, "pairs": 4}
        for n in range(1, 40)
    ],
    "samples.jsonl": [
        {"when": when, "prompt": "p", "answer": "a", "step": 3} for when in ("before", "after")
    ],
    "most_wrong.json": {"held_out": {"prompt": "p", "chosen": "c", "rejected": "r", "margin": -1}},
    "suite.json": {
        "entries": [
            {
                **{"suite": "arc", "settings": {"limit": 20, "lm_eval": "0.4"}, "groups": {}},
                "tasks": {"arc": {"fewshot": 5, "dataset": "a/b"}},
                "rows": [OF_TASK | VALUES | CHANGED, OF_TASK | VALUES | APART],
            }
        ]
    },
    "adapter/adapter_config.json": {"task_type": "CAUSAL_LM"},
}


STUDY = {"state": "finished", "pid": NOBODY, "process_started": "12", "doing": None, "error": None}
STUDY |= {"launched": 1.8e9, "started": 1.8e9, "stopping": False, "command": ["dpo-lite", "sweep"]}
DRAWN = {"policy": "one", "prompt": "p", "answers": ["a", "b"]}
DRAWN |= {"conversation": [{"role": "user", "content": "p"}]}
MEASURED = {"test": {"reward": 0.1, "kl": 2.0, "truthful": 0.6, "prompts": 9}}
STUDIES: dict[str, Sound] = {
    "one.sweep/study.json": STUDY,
    "one.sweep/sweep.json": {
        **{"given": {"task": "dpo"}, "keys": ["train.beta"]},
        "runs": {"one": {"train.beta": "0.1"}, "two": {"train.beta": "0.2"}},
    },
    "one.sweep/log.txt": b"a line\n" * 3,
    "one.rounds/study.json": STUDY
    | {"first": "one", "rounds": 3, "by": "votes", "state": "running"},
    "one-round-1.jsonl": [{"prompt": "p", "chosen": "a", "rejected": "b"}] * 3,
    "one-round-1.jsonl.json": {"rewards": 3.0, "answers": 4, "pairs": 3, "done": 4, "bytes": 9},
    "one-round-1.ballot.jsonl": [DRAWN, DRAWN | {"prompt": "q"}],
    "one/results.json": RUN["results.json"],
    "one/status.json": STATUSES[0],
    "one/metrics.jsonl": [{"step": 1, "kl": 0.5}],
    "road/points.jsonl": [
        {"run": f"road-{kind}", "kind": kind, "seed": 1, "beta": beta, "seconds": 2.0, "memory": 9}
        | {"sets": MEASURED}
        for kind, beta in (("sft", None), ("ppo", 0.1), ("dpo", 0.1))
    ],
}


def studies(draw: random.Random, folder: Path) -> None:
    """A sweep, rounds and a whole road beside their runs, a file damaged, shown and taken up."""
    from dpo_lite.compare.ballots import pairs_of_votes, read_ballots, waiting
    from dpo_lite.compare.votes import read_votes
    from dpo_lite.files import write_text
    from dpo_lite.report.rlhf import read_points, table
    from dpo_lite.runs import studies as kept
    from dpo_lite.runs.folder import Run
    from dpo_lite.studies.sweep import plan_sweep, refuse_other
    from dpo_lite.ui import compare_drawn, run_files, study_views

    put(draw, folder, STUDIES | {"one/recipe.yaml": recipe_of_a_run()})
    found = kept.studies(folder)
    assert {study.name for study in found} == {"one.sweep", "one.rounds"}, "a study is not listed"
    study_views.mark(found)
    statuses = run_files.statuses(folder)
    shown = []
    for study in found:
        with contextlib.suppress(UserError):  # of a recipe that cannot be read
            shown.append(study_views.study_html(study, statuses))
        with contextlib.suppress(UserError):
            study.refuse_running()
    "".join(shown).encode()
    write_text(folder / "report.md", table(read_points(Run(folder / "road"))))
    pairs = waiting(folder, "one", read_votes(folder))
    pairs_of_votes(read_ballots(folder / "one-round-1.ballot.jsonl"), read_votes(folder), False)
    for pair in pairs:
        with contextlib.suppress(UserError):  # the adapter is none
            compare_drawn.ballot(page(folder), pair)
    with contextlib.suppress(UserError):
        asked = ["train.beta=0.1,0.2", f"run.folder={folder}"]
        refuse_other(plan_sweep("quickstart", asked, "one"))


def reviews(draw: random.Random, folder: Path) -> None:
    """A review of doubted labels: what the audit found, or what was decided, is damaged."""
    from dpo_lite.data.files import content_hash
    from dpo_lite.ui import review_views
    from dpo_lite.ui import reviews as kept

    pair = {"row": 3, "other_way": 0.9, "turns": [["user", "p"]], "chosen": "a", "rejected": "b"}
    pair |= {"why": "the other is longer", "no_flip": ""}
    shortcut = {"name": "length", "points": "longer", "share": 0.8, "interval": [0.7, 0.9]}
    source = folder / "a.jsonl"
    rows = [{"prompt": f"p{n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(9)]
    source.write_text("\n".join(map(json.dumps, rows)) + "\n")
    content = content_hash([source])
    found: Sound = {
        **{"content": content, "section": {"train": str(source)}, "source": str(source)},
        **{"shortcuts": [shortcut | {"pairs": 9}], "words": ["chance", "and more"], "keys": []},
        **{"doubtful": [pair, pair | {"row": 5}], "form": "triples", "pairs": 9, "rows": 2},
    }
    made: Sound = [{"content": content}, {"row": 3, "decision": "flip"}]
    put(draw, folder / kept.FOLDER, {"a-1.json": found, "a-1.jsonl": made})
    kept.latest(folder)
    review = kept.load(folder, "a-1")
    shown = [review_views.audit_report(review.found), review_views.progress(review)]
    shown += [review_views.arena(review, at) for at in (*range(len(review.pairs)), None)]
    "".join([*shown, review_views.saved_words(review)]).encode()
    if review.pairs:
        kept.decide(review, 0, "keep")
    kept.save(folder, review)
