"""One architecture, looked at in a process of its own with a limit; what fails fills its cell.

The processes are forks of one that has imported everything, which takes longer than a column.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

from benchmarks.model_zoo import checks, runs
from benchmarks.model_zoo.architectures import ARCHITECTURES
from benchmarks.model_zoo.case import Case, Cell, Missed
from dpo_lite.errors import UserError
from dpo_lite.model.text_model import missing_package

COLUMNS: dict[str, Callable[[Case], Cell]] = checks.COLUMNS | runs.COLUMNS
PICTURES = ("dpo_lite.report.run.draw_curves", "dpo_lite.report.reward.draw_calibration")
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


def versions() -> dict[str, str]:
    return {"Python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def look_at(name: str, columns: Sequence[str], limit: float) -> dict[str, Cell]:
    """Columns of an architecture; those that were not reached within ``limit`` seconds say so."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        file = Path(folder) / "record.json"
        process = multiprocessing.get_context("fork").Process(
            target=_look, args=(name, columns, Path(folder), file)
        )
        started = time.time()
        process.start()
        process.join(limit)
        if process.is_alive():
            process.kill()
            process.join()
        cells = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        took = time.time() - started
    ended = f"over the limit of {limit:.0f} s" if took >= limit else f"ended by {process.exitcode}"
    return {column: cells.get(column, {"failed": ended}) for column in columns}


def _look(name: str, columns: Sequence[str], folder: Path, file: Path) -> None:
    os.environ["DPO_LITE_CACHE"] = str(folder / "cache")  # with a device lock of its own
    case, cells = Case(ARCHITECTURES[name], folder), {}
    with ExitStack() as pictures:  # which nobody looks at
        for drawn in PICTURES:
            pictures.enter_context(patch(drawn, lambda *arguments: None))
        for column in columns:
            if column == "plans" or column in runs.COLUMNS:
                case.forget()
            cells[column] = cell(COLUMNS[column], case)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(cells), encoding="utf-8")
            part.replace(file)


def cell(look: Callable[[Case], Cell], case: Case) -> Cell:
    """What a column says: its facts, or in one line why there are none."""
    started = time.perf_counter()
    try:
        found = look(case)
    except Missed as miss:
        found = {"missed": str(miss)}
    except UserError as refusal:
        found = {"refused": str(refusal)}
    except ImportError as error:
        told = missing_package(case.architecture.name, error)
        found = {"refused": told or str(error).strip()}
    except Exception as error:  # the row says so; where, for who mends it
        first = str(error).strip().splitlines()[:1]
        frame = traceback.extract_tb(error.__traceback__)[-1]
        found = {
            "failed": ": ".join([type(error).__name__, *first])[:300],
            "where": f"{Path(frame.filename).name}:{frame.lineno}",
        }
    return found | {"took": round(time.perf_counter() - started, 1)}
