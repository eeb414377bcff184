"""From which checkpoint a run goes on: the newest that is whole, and why not from a newer one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.model.safetensors_header import tensor_places
from dpo_lite.runs import whole
from dpo_lite.runs.checkpoints import STATE, copy_beside, numbered


@contextmanager
def checkpoint_written(folder: Path) -> Iterator[None]:
    """Around the writing of a checkpoint: with the run's facts and, last, the list of its files."""
    with whole.written_whole(folder):
        yield
        copy_beside(folder)


def newest_whole(
    folder: Path, needed: Sequence[str], say: Callable[[str], None] = lambda text: None
) -> Path | None:
    """The newest checkpoint of which nothing is missing; ``say`` is told what was passed over.

    ``needed``: the files without which a run would not go on as it was.
    """
    passed = []
    for path in reversed(numbered(folder).values()):
        if words := fault(path, needed):
            passed.append(f"{path.name} is passed over: {words}")
            continue
        for text in passed:
            say(f"{text}; going on from {path.name}")
        return path
    for text in passed:
        say(f"{text}; no whole checkpoint is left")
    return None


def fault(folder: Path, needed: Sequence[str]) -> str | None:
    """Why a run cannot go on from this checkpoint, as a clause; None where it can.

    One of a version that wrote no list is read as far as its files can tell: JSON is parsed, what
    torch saved is a zip archive with a checksum per entry, and safetensors say how long they are.
    """
    if whole.has_list(folder) and (words := whole.fault(folder)):
        return words
    for name in needed:
        if words := whole.unreadable(folder / name, name):
            return words
    if whole.has_list(folder):
        return None
    return next(filter(None, (_unlisted_fault(folder / name, name) for name in needed)), None)


def step_of(checkpoint: Path | None) -> int:
    """After which update it was written; 0 for the beginning."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _unlisted_fault(path: Path, name: str) -> str | None:
    try:
        if path.suffix == ".json":
            state = json.loads(path.read_bytes())
            sound = isinstance(state, dict) and (name != STATE or "global_step" in state)
        elif path.suffix == ".safetensors":
            sound = bool(tensor_places(path))
        else:
            with zipfile.ZipFile(path) as archive:
                sound = archive.testzip() is None
    except UserError as error:
        return str(error).removeprefix(f"{path.parent}/").rstrip(".")
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        sound = False
    return None if sound else f"{name} is damaged"
