"""The cases of benchmarks/torture.py: what is damaged, where a run is killed, what must be said."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file

from dpo_lite.runs import whole
from dpo_lite.runs.folder import Run

SAME, SAID = "same bytes", "one sentence"
EITHER = f"{SAME} or {SAID}"
WEIGHTS = "adapter_model.safetensors"
OF_CHECKPOINT = (
    *(WEIGHTS, "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"),
    *("trainer_state.json", whole.LIST),
)
Damage = Callable[[Run, Path], None]


@dataclass(frozen=True)
class Kill:
    """At the ``call``-th call of ``target`` whose arguments ``match``, behind ``partly``."""

    target: str  # module:attribute
    match: Callable[..., bool] = lambda *args, **options: True
    call: int = 1
    partly: Callable[..., Any] = lambda *args, **options: None
    number: int = signal.SIGKILL

    @contextmanager
    def set(self) -> Iterator[None]:
        module, _, name = self.target.partition(":")
        owner = __import__(module, fromlist=[""])
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        honest, seen = getattr(owner, last), []

        def struck(*args, **options):
            if self.match(*args, **options):
                seen.append(1)
                if len(seen) == self.call:
                    self.partly(*args, **options)
                    os.kill(os.getpid(), self.number)
            return honest(*args, **options)

        with patch.object(owner, last, struck):
            yield


@dataclass(frozen=True)
class Case:
    name: str
    damage: Damage | None = None
    kill: Kill | None = None
    expected: str = SAME
    words: str = ""  # that must be said, as a regular expression
    full: int | None = None  # bytes beyond which no file grows while it trains

    def line(self, said: str) -> str | None:
        """The line that had to be said, of those that were; None where it was not."""
        lines = said.splitlines() or [""]
        return next((line for line in lines if re.search(self.words, line)), None)


# --- how files are damaged ------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    """What a power cut leaves of a file whose size was written and its content was not."""
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def missing(path: Path) -> None:
    path.unlink()


def a_list(path: Path) -> None:
    path.write_text("[1, 2]")


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


HOW = {"cut": cut, "empty": emptied, "zeros": zeroed, "flipped": flipped, "missing": missing}
SHAPES = {"cut": cut, "empty": emptied, "zeros": zeroed, "a list": a_list, "missing": missing}


def last(run: Run) -> Path:
    found = run.last_checkpoint()
    assert found is not None
    return found


def of_last(file: str, how: Callable[[Path], None]) -> Damage:
    return lambda run, cache: how(last(run) / file)


def of_run(file: str, how: Callable[[Path], None]) -> Damage:
    return lambda run, cache: how(run.path / file)


def of_cache(pattern: str, how: Callable[[Path], None]) -> Damage:
    def damage(run: Run, cache: Path) -> None:
        found = list(cache.glob(pattern))
        assert found, f"nothing is {pattern}"
        for path in found:
            how(path)

    return damage


def both_checkpoints(run: Run, cache: Path) -> None:
    for path in run.checkpoints.glob("*/optimizer.pt"):
        cut(path)


def without_lists(run: Run, cache: Path) -> None:
    """As a version wrote them that knew of no list."""
    for folder in run.checkpoints.iterdir():
        for name in (whole.LIST, "recipe.yaml", "manifest.json"):
            (folder / name).unlink()


def unlisted_and(file: str, how: Callable[[Path], None]) -> Damage:
    def damage(run: Run, cache: Path) -> None:
        without_lists(run, cache)
        how(last(run) / file)

    return damage


def no_checkpoints(run: Run, cache: Path) -> None:
    """Folders and a file whose names only begin like one."""
    shutil.copytree(last(run), run.checkpoints / "checkpoint-best")
    shutil.copytree(last(run), run.checkpoints / "checkpoint-4-backup")
    (run.checkpoints / "checkpoint-9").write_text("")
    (run.checkpoints / "checkpoint-007").mkdir()


def touched_later(run: Run, cache: Path) -> None:
    later = last(run).stat().st_mtime + 1000
    os.utime(run.checkpoints / "checkpoint-4", (later, later))


def left_half_way(run: Run, cache: Path) -> None:
    """One of a later update, as a kill leaves it; its number comes again."""
    folder = run.checkpoints / "checkpoint-6"
    shutil.copytree(last(run), folder)
    (folder / whole.LIST).write_text("{}")


def not_a_number(run: Run, cache: Path) -> None:
    file = last(run) / WEIGHTS
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, file)
    whole.seal(file.parent)


def at_end(file: str, text: bytes) -> Damage:
    def damage(run: Run, cache: Path) -> None:
        with open(run.path / file, "ab") as stream:
            stream.write(text)

    return damage


def without_last_break(run: Run, cache: Path) -> None:
    file = run.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes().rstrip(b"\n"))


def answers_lost(run: Run, cache: Path) -> None:
    """Of those given before the training one is gone."""
    file = run.path / "samples.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[1:]))


def a_line_within(run: Run, cache: Path) -> None:
    file = run.path / "samples.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b'{"when": "bef\n', *lines[1:]]))


def another_lr(run: Run, cache: Path) -> None:
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text.replace("lr: 0.001", "lr: 0.002"))


def another_rank(run: Run, cache: Path) -> None:
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text.replace("  r: 16", "  r: 8"))


def fewer_rows(run: Run, cache: Path) -> None:
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text.replace("  limit: null\ntrain", "  limit: 20\ntrain"))


def manifest_lost(run: Run, cache: Path) -> None:
    without_lists(run, cache)
    (run.path / "manifest.json").unlink()


def leftovers(run: Run, cache: Path) -> None:
    (run.path / ".status.json.4711").write_text("{")  # of an older version
    (run.path / ".status.json.4711-1").write_text("{")
    (run.checkpoints / ".checkpoint-6").mkdir()


def tickets(run: Run, cache: Path) -> None:
    for folder in cache.glob("device-*"):
        for number, text in enumerate(("[]", "", '"a"', '{"owner": 1}', '{"pid": "x"}')):
            (folder / f"ticket-{number:020d}-1-1.json").write_text(text)
        (folder / "holder.json").write_text("[]")


def cache_is_a_file(run: Run, cache: Path) -> None:
    shutil.rmtree(cache)
    cache.write_text("")


# --- where a run is killed ------------------------------------------------------------------------


def to(name: str) -> Callable[..., bool]:
    return lambda source, target, *rest: Path(target).name == name


def named(name: str) -> Callable[..., bool]:
    return lambda path, *rest, **options: Path(path).name.startswith(name)


def saved_as(name: str) -> Callable[..., bool]:
    return lambda value, path, *rest, **options: Path(str(path)).name == name


def half_line(path: Path, line: str) -> None:
    with open(path, "ab") as stream:
        stream.write(line.encode()[: len(line) // 2])


def half_archive(value: Any, path: Any, *rest: Any, **options: Any) -> None:
    Path(str(path)).write_bytes(b"PK\x03\x04 and no more")


def half_rotated(newest: Path, *rest: Any) -> None:
    oldest = min(newest.parent.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    (oldest / "optimizer.pt").unlink()


def half_adapter(run: Run, loaded: Any) -> None:
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{")


REPLACE = "os:replace"
KILLS = {
    "recipe.yaml, before it is there": (Kill(REPLACE, to("recipe.yaml")), SAID),
    "manifest.json, before it is there": (Kill(REPLACE, to("manifest.json")), SAME),
    "status.json, before it is replaced": (Kill(REPLACE, to("status.json"), 8), SAME),
    "samples.jsonl of before, before it is there": (Kill(REPLACE, to("samples.jsonl")), SAME),
    "metrics.jsonl, half a line": (
        Kill("dpo_lite.runs.folder:append_line", named("metrics.jsonl"), 3, half_line),
        SAME,
    ),
    "samples.jsonl, half a line": (
        Kill("dpo_lite.runs.folder:append_line", named("samples.jsonl"), 1, half_line),
        SAME,
    ),
    "a checkpoint, behind the adapter": (
        Kill("transformers:Trainer._save_optimizer_and_scheduler", call=2),
        SAME,
    ),
    "a checkpoint, half of optimizer.pt": (
        Kill("torch:save", saved_as("optimizer.pt"), 2, half_archive),
        SAME,
    ),
    "a checkpoint, before its list": (
        Kill("dpo_lite.runs.whole:seal", named("checkpoint-"), 2),
        SAME,
    ),
    "the first checkpoint, before its list": (
        Kill("dpo_lite.runs.whole:seal", named("checkpoint-")),
        SAME,
    ),
    "rotation, half of the oldest gone": (
        Kill("dpo_lite.training.trainer:rotate", call=3, partly=half_rotated),
        SAME,
    ),
    "the answers before": (Kill("dpo_lite.jobs.held_out:answer_held_out"), SAME),
    "the adapter, half of it": (Kill("dpo_lite.jobs.train:_save", partly=half_adapter), SAME),
    "the evaluation": (Kill("dpo_lite.jobs.train:evaluate_run"), SAME),
    "the answers at the end": (Kill("dpo_lite.jobs.held_out:answer_held_out", call=2), SAME),
    "samples.jsonl at the end, before it is there": (
        Kill(REPLACE, to("samples.jsonl"), 2),
        SAME,
    ),
    "results.json, before it is there": (Kill(REPLACE, to("results.json")), SAME),
    "report.md, before it is there": (Kill(REPLACE, to("report.md")), SAME),
}

# From a status that is not written whole to an optimizer's moments that are not.
FULL_AT = (100, 1_000, 10_000, 70_000, 100_000, 200_000, 400_000, 1_000_000, 2_000_000, 5_000_000)

# --- all of them ----------------------------------------------------------------------------------

PASSED = r"checkpoint-5 is passed over: .*; going on from checkpoint-4"


def _cases() -> Iterator[Case]:
    for file in OF_CHECKPOINT:
        for how, damage in HOW.items():
            if (file, how) == (whole.LIST, "missing"):  # then it is one of an older version
                yield Case(f"checkpoint: {file} {how}", of_last(file, damage))
            else:
                yield Case(f"checkpoint: {file} {how}", of_last(file, damage), words=PASSED)
    yield Case("both checkpoints cut", both_checkpoints, words="no whole checkpoint is left")
    yield Case("checkpoints of an older version", without_lists)
    for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", WEIGHTS):
        damage = unlisted_and(file, cut)
        yield Case(f"of an older version: {file} cut", damage, words=PASSED)
    yield Case("names like checkpoints", no_checkpoints)
    yield Case("an older checkpoint touched later", touched_later)
    yield Case("a checkpoint left half-way", left_half_way, words="checkpoint-6 is passed over")
    yield Case("NaN in the adapter", not_a_number, None, SAID, "holds NaN")

    half = b'{"step": 6, "lo'
    yield Case("metrics: half a line", at_end("metrics.jsonl", half), words="half-written")
    yield Case("metrics: zeros", at_end("metrics.jsonl", bytes(300)), words="half-written")
    yield Case("metrics: no last break", without_last_break)
    yield Case("samples: half a line", at_end("samples.jsonl", half), words="half-written")
    yield Case("samples: a line within", a_line_within)
    yield Case("samples: answers before lost", answers_lost)
    yield Case("log: half a line and zeros", at_end("log.txt", b"half\0\0\0"))

    for how, damage in SHAPES.items():
        yield Case(f"status.json {how}", of_run("status.json", damage))
        restored = r"manifest.json was damaged and is put back from checkpoint-5"
        yield Case(f"manifest.json {how}", of_run("manifest.json", damage), words=restored)
        restored = r"recipe.yaml was damaged and is put back from checkpoint-5"
        yield Case(f"recipe.yaml {how}", of_run("recipe.yaml", damage), words=restored)
    for file in ("status.json", "manifest.json", "recipe.yaml", "metrics.jsonl", "log.txt"):
        words = r"is a folder where the run has a file; move it away"
        yield Case(f"{file} a folder", of_run(file, a_folder), None, SAID, words)
    yield Case("leftovers of a kill", leftovers)

    yield Case("another train.lr", another_lr, None, SAID, r"train\.lr was 0\.001 and is 0\.002")
    yield Case("another adapter.r", another_rank, None, SAID, r"adapter\.r was 16 and is 8")
    yield Case("other data", fewer_rows, None, SAID, r"data\.limit was null and is 20")
    yield Case("the manifest lost for good", manifest_lost, None, SAID, "missing or damaged")

    for how, damage in HOW.items():
        for file in ("rows.arrow", "facts.json", whole.LIST):
            lost = file == whole.LIST and how == "missing"  # then it is one of an older version
            words = "" if lost else r"is damaged \(.*\) and is made again"
            yield Case(f"cache: {file} {how}", of_cache(f"data/*/{file}", damage), words=words)
        words = "" if how == "missing" else "they are computed again when they are met"
        damage = torn if how == "cut" else damage
        yield Case(f"cache: reference {how}", of_cache("reference/*/*.bin", damage), words=words)
        yield Case(f"cache: reference's facts {how}", of_cache("reference/*/facts.json", damage))
        yield Case(f"cache: hash of weights {how}", of_cache("weights/*/sha256", damage))
    yield Case("cache: a file", cache_is_a_file, None, SAID, "set DPO_LITE_CACHE")
    yield Case("tickets that are none", tickets)

    for name, (kill, expected) in KILLS.items():
        yield Case(f"killed at {name}", None, kill, expected)

    for size in FULL_AT:
        yield Case(f"a disk full at {size:,} bytes a file", expected=EITHER, full=size)


CASES = list(_cases())


def case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)
