"""The same as benchmarks/torture.py where answers are drawn: task ppo with its three estimators.

    python -m benchmarks.torture_ppo [ppo] [rloo] [grpo] [--only WORD]

Each has another reward: of a reward model with PPO's value function, of a Python function with
RLOO, of a judge (a server of this process) and the function together with GRPO. A run has six
rollouts of two prompts and is stopped after five.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.torture import Stage, cache_at, set_up, table
from benchmarks.torture_cases import (
    EITHER,
    HOW,
    KILLS,
    PASSED,
    SAID,
    SAME,
    WEIGHTS,
    Case,
    Damage,
    Kill,
    at_end,
    both_checkpoints,
    half_archive,
    half_line,
    half_rotated,
    left_half_way,
    named,
    of_last,
    of_run,
    saved_as,
    to,
    unlisted_and,
    without_lists,
)
from dpo_lite.jobs import train as job
from dpo_lite.model.adapter_files import CONFIG, REWARD_FILE
from dpo_lite.quiet import quiet_libraries
from dpo_lite.recipe import validate_recipe
from dpo_lite.runs import whole
from dpo_lite.runs.folder import Run
from dpo_lite.training.ppo_trainer import VALUE_FILE
from tests.judge.stand_in import stand_in

FUNCTION = """
def letters(prompts, completions, **columns):
    return [sum(letter in "aeiou" for letter in text) for text in completions]
"""
REPLIES = "judge/rewards.jsonl"
FULL_AT = (100, 10_000, 100_000, 400_000, 2_000_000)
TRAINER = "dpo_lite.training.ppo_trainer"

# --- damage ---------------------------------------------------------------------------------------


def changed(old: str, new: str) -> Damage:
    def damage(run: Run, cache: Path) -> None:
        text = run.recipe_file.read_text()
        assert old in text
        run.recipe_file.write_text(text.replace(old, new))

    return damage


def another_estimator(run: Run, cache: Path) -> None:
    changed("estimator: ppo", "estimator: rloo")(run, cache)
    changed("answers: 1", "answers: 2")(run, cache)


def other_function(run: Run, cache: Path) -> None:
    """The recipe names another one: the file itself other runs are rewarded by."""
    Path("other.py").write_text(FUNCTION.replace("aeiou", "xyz"))
    changed("rewards.py:letters", "other.py:letters")(run, cache)


def nobody_there(run: Run, cache: Path) -> None:
    """The recipe names an address where no judge listens."""
    text, count = re.subn(
        r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:9", run.recipe_file.read_text()
    )
    assert count
    run.recipe_file.write_text(text)


def a_line_of_another_shape(run: Run, cache: Path) -> None:
    file = run.path / REPLIES
    _, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([b'{"key": 1, "reply": []}\n', b"[]\n", b"{\n", *rest]))


# --- where a run is killed ------------------------------------------------------------------------


def some_drawn(model: Any, prompts: Any, *rest: Any) -> None:
    from dpo_lite.training import ppo

    ppo.draw_answers(model, prompts[:1], *rest)


def half_file(source: Any, target: Any, *rest: Any) -> None:
    content = Path(source).read_bytes()
    Path(target).write_bytes(content[: len(content) // 2])


def half_tensors(tensors: Any, path: Any, *rest: Any) -> None:
    from safetensors.torch import save

    content = save(tensors)
    Path(path).write_bytes(content[: len(content) // 2])


def half_state(state: Any, path: Any) -> None:
    Path(path).write_text('{"global_step": 4, "max')


def of_checkpoint(path: Path, *rest: Any) -> bool:
    return path.name.startswith(".checkpoint-")


SHARED = (  # tried with PPO alone
    *("recipe.yaml, before it is there", "manifest.json, before it is there"),
    *("status.json, before it is replaced", "metrics.jsonl, half a line"),
    *("samples.jsonl, half a line", "the adapter, half of it", "the evaluation"),
    "results.json, before it is there",
)
OF_ALL = {
    "drawing, some of the answers there": Kill(
        f"{TRAINER}:draw_answers", call=3, partly=some_drawn
    ),
    "a rollout drawn, not judged": Kill(f"{TRAINER}:judge_answers", call=4),
    "a rollout judged, nothing learned": Kill(f"{TRAINER}:credit", call=3),
    "an update, behind its first minibatch": Kill(f"{TRAINER}:minibatch_gradient", call=10),
    "an update learned, not logged": Kill("dpo_lite.training.callbacks:RunRecorder.on_log", call=4),
    "the evaluation while it trains": Kill("dpo_lite.training.ppo_method:measure", call=1),
    "a checkpoint, before the adapter": Kill(f"{TRAINER}:save_checkpoint", call=2),
    "a checkpoint, half of optimizer.pt": Kill(
        "torch:save", saved_as("optimizer.pt"), 2, half_archive
    ),
    "a checkpoint, half of its state": Kill(
        "transformers:TrainerState.save_to_json", call=2, partly=half_state
    ),
    "a checkpoint, before its list": Kill("dpo_lite.runs.whole:seal", named(".checkpoint-"), 2),
    "the first checkpoint, before its list": Kill(
        "dpo_lite.runs.whole:seal", named(".checkpoint-")
    ),
    "a checkpoint whole, not in its place": Kill("pathlib:Path.rename", of_checkpoint, 2),
    "rotation, half of the oldest gone": Kill(f"{TRAINER}:rotate", call=3, partly=half_rotated),
}
OF_ONE = {
    "ppo": {
        "the reward model, half of it copied": Kill("shutil:copyfile", to(WEIGHTS), 1, half_file),
        "a checkpoint, half of the value function": Kill(
            f"{TRAINER}:save_file", call=2, partly=half_tensors
        ),
    },
    "rloo": {},
    "grpo": {
        "the judge's replies, half of one kept": Kill(
            "dpo_lite.judge.replies:append_line", named(Path(REPLIES).name), 9, half_line
        ),
        "the judge's replies, the first one": Kill(
            "dpo_lite.judge.replies:append_line", named(Path(REPLIES).name)
        ),
    },
}

# --- all of them ----------------------------------------------------------------------------------


def _cases(estimator: str) -> Iterator[Case]:
    for name, kill in (OF_ONE[estimator] | OF_ALL).items():
        yield Case(f"killed at {name}", None, kill)
    yield from {"ppo": _of_ppo, "rloo": _of_rloo, "grpo": _of_grpo}[estimator]()
    for name in SHARED if estimator == "ppo" else ():
        yield Case(f"killed at {name}", None, *KILLS[name])


def _of_ppo() -> Iterator[Case]:
    for how, damage in HOW.items():
        yield Case(f"checkpoint: {VALUE_FILE} {how}", of_last(VALUE_FILE, damage), words=PASSED)
        if how in ("cut", "missing"):  # the rest is DPO's code
            for file in (WEIGHTS, "optimizer.pt", "trainer_state.json"):
                yield Case(f"checkpoint: {file} {how}", of_last(file, damage), words=PASSED)
        for file in (CONFIG, WEIGHTS, REWARD_FILE):
            words = r"ppo\.reward|damaged|the reward model's settings|the reward \("
            yield Case(f"reward: {file} {how}", of_run(f"reward/{file}", damage), None, SAID, words)
    for file in (VALUE_FILE, "optimizer.pt"):
        damage = unlisted_and(file, HOW["cut"])
        yield Case(f"of an older version: {file} cut", damage, words=PASSED)
    yield Case("both checkpoints cut", both_checkpoints, words="no whole checkpoint is left")
    yield Case("checkpoints of an older version", without_lists)
    yield Case("a checkpoint left half-way", left_half_way, words="checkpoint-6 is passed over")
    half = at_end("metrics.jsonl", b'{"step": 6, "lo')
    yield Case("metrics: half a line", half, words="half-written")
    longer = changed("max_new_tokens: 5\n", "max_new_tokens: 6\n")
    words = r"ppo\.max_new_tokens was 5 and is 6"
    yield Case("another ppo.max_new_tokens", longer, None, SAID, words)
    words = r"ppo\.estimator was ppo and is rloo"
    yield Case("another ppo.estimator", another_estimator, None, SAID, words)
    for size in FULL_AT:
        yield Case(f"a disk full at {size:,} bytes a file", expected=EITHER, full=size)


def _of_rloo() -> Iterator[Case]:
    for file in (WEIGHTS, "optimizer.pt", whole.LIST):
        yield Case(f"checkpoint: {file} cut", of_last(file, HOW["cut"]), words=PASSED)
    yield Case("another function", other_function, None, SAID, r"ppo\.reward was .*rewards.py")
    gone = changed("rewards.py:letters", "gone.py:letters")
    yield Case("no function", gone, None, SAID, "there is no file gone.py")


def _of_grpo() -> Iterator[Case]:
    for how, damage in HOW.items():
        expected = EITHER if how == "flipped" else SAME
        yield Case(f"replies: {how}", of_run(REPLIES, damage), None, expected)
    yield Case("replies: half a line", at_end(REPLIES, b'{"key": "abc", "rep'))
    yield Case("replies: zeros at the end", at_end(REPLIES, bytes(300)))
    yield Case("replies: lines of another shape", a_line_of_another_shape)
    words = r"judge\.model was stand-in and is another"
    yield Case("another judge", changed("stand-in", "another"), None, SAID, words)
    yield Case("no judge there", nobody_there, None, SAID, r"http://127\.0\.0\.1:9")
    for size in (2_000, 10_000):
        yield Case(f"a disk full at {size:,} bytes a file", expected=EITHER, full=size)


CASES = {estimator: list(_cases(estimator)) for estimator in OF_ONE}


def more_for(estimator: str, reward: Any, judge: str = "") -> dict[str, Any]:
    """The sections of a recipe whose runs have six small rollouts."""
    ppo = {"reward": reward, "estimator": estimator, "max_new_tokens": 5, "minibatch": 2}
    if estimator != "ppo":
        ppo |= {"answers": 2}
    more = {
        "task": "ppo",
        "train": {"batch_size": 2, "eval_steps": 3},
        "ppo": ppo,
    }
    section = {"url": judge, "model": "stand-in", "retries": 0, "timeout": 5.0}
    return more | ({"judge": section} if judge else {})


def scored(body: dict[str, Any]) -> str:
    """What the judge says: always the same of the same answer."""
    content = body["messages"][-1]["content"].encode()
    return f"SCORE: {hashlib.sha256(content).digest()[0] % 11}"


@contextmanager
def staged(estimator: str, base: str, data: str, folder: Path) -> Iterator[Stage]:
    """The two runs of an estimator with all that they need; the folder is the current one then."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rewards.py").write_text(FUNCTION)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with stand_in(scored) as judge:
            if estimator == "ppo":
                reward: Any = str(_reward_model(base, data, folder).adapter)
            else:
                function = "rewards.py:letters"
                reward = function if estimator == "rloo" else ["judge", function]
            url = judge.url if estimator == "grpo" else ""
            yield set_up(base, data, folder, more_for(estimator, reward, url))
    finally:
        os.chdir(before)


def _reward_model(base: str, data: str, folder: Path) -> Run:
    values = {
        "task": "reward",
        "model": {"base": base},
        "data": {"train": data},
        "train": {"lr": 5e-3, "batch_size": 8, "max_steps": 3},
        "eval": {"limit": 4},
        "run": {"folder": str(folder / "rewards"), "name": "reward"},
    }
    from rich.console import Console

    with cache_at(folder / "cache"):
        return job.start(validate_recipe(values, "torture"), "reward", Console(quiet=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("estimators", nargs="*", choices=[*CASES, []])
    parser.add_argument("--only", default="", help="cases whose name has this word")
    options = parser.parse_args()
    quiet_libraries()
    folder = Path(tempfile.mkdtemp(prefix="dpo-lite-torture-"))
    patch("dpo_lite.report.run.draw_curves", lambda run: None).start()  # takes longer than the run
    well = tried = 0
    for estimator in options.estimators or CASES:
        cases = [case for case in CASES[estimator] if options.only in case.name]
        print(f"{estimator}: {len(cases)} cases", flush=True)
        place = folder / estimator
        with staged(estimator, "builtin:myths", "builtin:myths", place) as stage:
            well += table(cases, stage)
        tried += len(cases)
    print(f"{well} of {tried}: same bytes, or one sentence")
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(well < tried)


if __name__ == "__main__":
    main()
