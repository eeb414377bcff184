"""The checkpoints of a run by their number: which there are, which one is meant, which are kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_lite.errors import UserError
from dpo_lite.runs import whole

if TYPE_CHECKING:
    from dpo_lite.runs.folder import Run

NUMBERED = re.compile(r"checkpoint-(0|[1-9][0-9]*)")
STATE = "trainer_state.json"  # what is written last, but for the list
KEPT = 2
# Of the run, copied into each checkpoint: what a damaged one is mended by.
BESIDE = ("recipe.yaml", "manifest.json")


def numbered(folder: Path) -> dict[int, Path]:
    """Every checkpoint by its update, whole or not; folders by other names are none."""
    found = {}
    for path in folder.glob("checkpoint-*"):
        match = NUMBERED.fullmatch(path.name)
        if match and path.is_dir():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def complete(folder: Path) -> dict[int, Path]:
    """Those that were written to their end, by a look at their names alone."""
    return {n: path for n, path in numbered(folder).items() if (path / STATE).is_file()}


def rotate(newest: Path, best: int | None = None, kept: int = KEPT) -> None:
    """Delete the oldest until so many are kept; ``newest`` and ``best`` always are.

    By number and not by time: an older one may have been touched later. What has a higher number
    than ``newest`` is of a way that was left, and is written anew when the run comes there.
    """
    step = int(newest.name.rpartition("-")[2])
    before = {n: path for n, path in numbered(newest.parent).items() if n < step}
    may_go = [path for number, path in before.items() if number != best]
    for path in may_go[: max(len(before) + 1 - kept, 0)]:
        shutil.rmtree(path, ignore_errors=True)


def copy_beside(folder: Path) -> None:
    """Put the run's facts into a checkpoint that is being written."""
    for name in BESIDE:
        source = folder.parent.parent / name
        if source.is_file():
            shutil.copy2(source, folder / name)  # with its time, by which runs are listed


def find_checkpoint(run: Run, wanted: str) -> tuple[Path, int]:
    """The folder and the update of a whole checkpoint: a number, or ``last``."""
    there = complete(run.checkpoints)
    if not there:
        raise UserError(f"{run.path} has no checkpoint yet; the first comes at train.save_steps.")
    number = str(wanted).removeprefix("checkpoint-")
    step = max(there) if number == "last" else int(number) if number.isdecimal() else None
    if step is None or step not in there:
        names = ", ".join(map(str, there))
        raise UserError(f"{run.path} has no checkpoint {wanted}; there are {names}, and `last`.")
    if whole.has_list(there[step]) and (words := whole.fault(there[step])):
        raise UserError(f"{there[step]} is damaged: {words}; take another checkpoint.")
    return there[step], step
