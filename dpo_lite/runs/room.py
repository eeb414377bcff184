"""Whether there is a place for a run, and room: asked before anything is loaded or trained."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from dpo_lite.errors import HINTS, UserError
from dpo_lite.files import safe_name
from dpo_lite.runs.checkpoints import KEPT

TRIED_BYTES = 1 << 16
BESIDE_BYTES = 16 << 20  # log, metrics, answers, report, pictures


def check_output(folder: str | Path, name: str | None = None) -> None:
    """Raises UserError where no run of that name can be made in the folder: asked before anything
    is loaded. Nothing stays there of the try."""
    if name:
        refuse_taken(Path(folder) / safe_name(name))
    place = _there(folder)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(TRIED_BYTES))
            file.flush()
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "choose another folder")
        raise UserError(f"{folder} cannot be written ({error.strerror}): {hint}.") from error


def refuse_taken(path: Path) -> None:
    """Raises UserError where something has that name already."""
    if path.exists():
        raise UserError(
            f"run.name: {path} exists; choose another name, or go on with it by"
            f" `dpo-lite train --resume {path}`."
        )


def check_room(folder: str | Path, checkpoint: int, adapter: int) -> None:
    """Raises UserError where a run's files will not find room, before the first update.

    ``checkpoint``, ``adapter``: bytes of each. One checkpoint is written before the oldest goes;
    those that are there already, of a run that goes on, take no more.
    """
    place = _there(folder)
    there = 0
    for path in Path(folder).glob("checkpoints/*/*"):
        with contextlib.suppress(OSError):
            there += path.stat().st_size
    wanted = max((KEPT + 1) * checkpoint - there, 0) + adapter + BESIDE_BYTES
    free = shutil.disk_usage(place).free
    if free < wanted:
        raise UserError(
            f"{folder} has {free / 2**20:,.0f} MiB free, and the run wants {wanted / 2**20:,.0f}:"
            f" {KEPT + 1} checkpoints of {checkpoint / 2**20:,.0f} and the adapter; make room,"
            " or choose another run.folder."
        )


def _there(folder: str | Path) -> Path:
    """The folder, or the nearest above it that is there."""
    place = Path(folder).expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place
