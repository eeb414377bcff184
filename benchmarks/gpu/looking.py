"""One unit in a process of its own with a limit: what runs out or breaks costs that unit alone.

On a card the process is a fresh one, since CUDA's state cannot be shared with a fork; without one
it is a fork of a process that has imported everything, which takes longer than a unit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.parts import PARTS, Unit
from benchmarks.gpu.records import FAIL, NOT_RUN
from dpo_lite.errors import UserError

Found = dict[str, Any]
LATE = "late"  # set where a unit was ended by its limit


def look_at(unit: Unit, small: bool, shapes: tuple[str, ...], cache: Path, limit: float) -> Found:
    """The unit's figures; those that it had come to where it ended before its end."""
    fork = not torch.cuda.is_available() and hasattr(os, "fork")
    if fork:
        import_all()
    with tempfile.TemporaryDirectory(prefix="gpu-kit-") as folder:
        file = Path(folder) / "found.json"
        asked = (unit.part.look, small, shapes, unit.shape, Path(folder), cache, file, limit)
        process = multiprocessing.get_context("fork" if fork else "spawn").Process(
            target=_look, args=asked
        )
        started = time.time()
        process.start()
        try:
            process.join(limit)
        finally:
            alive = process.is_alive()
            if alive:
                process.kill()
                process.join()
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"figures": []}
    found["seconds"] = round(time.time() - started, 1)
    if not found.pop("over", False):
        ended = f"over its limit of {limit:.0f} s" if alive else f"ended by {process.exitcode}"
        found |= {"state": FAIL, "why": f"It was {ended} before it was done.", LATE: alive}
    return found


def not_run(why: str) -> Found:
    return {"state": NOT_RUN, "why": why}


def import_all() -> None:
    for part in PARTS:
        import_module(part.look.partition(":")[0])


def _look(
    look: str,
    small: bool,
    shapes: tuple[str, ...],
    shape: str | None,
    folder: Path,
    cache: Path,
    file: Path,
    limit: float,
) -> None:
    from dpo_lite.quiet import quiet_libraries

    os.environ["DPO_LITE_CACHE"] = str(cache)  # with a device lock of its own
    quiet_libraries()
    from benchmarks.gpu.bench import Bench
    from benchmarks.gpu.environment import device_name, versions
    from dpo_lite.model.base import compute_device, compute_dtype

    found: Found = {"figures": []}
    try:
        device = compute_device()
        found |= {"device": device_name(), "versions": versions()}
        bench = Bench(
            device, compute_dtype(device), small, shapes, shape, folder, time.time() + limit
        )
        module, _, function = look.partition(":")
        torch.manual_seed(0)
        for figure in getattr(import_module(module), function)(bench):
            found["figures"].append(figure)
            _write(file, found)
    except UserError as error:
        found["why"] = str(error)
    except (Exception, SystemExit) as error:  # the record says so; where, for who mends it
        first = (str(error).strip().splitlines() or [""])[0]
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        found["why"] = f"{type(error).__name__} in {place}: {first}"[:400]
    _write(file, found | {"over": True})


def _write(file: Path, found: Found) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.replace(file)
