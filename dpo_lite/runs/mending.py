"""What is put right in a run's folder before the run goes on: leftovers, half lines, lost facts."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from dpo_lite.errors import UserError
from dpo_lite.files import PARTIAL, write_text
from dpo_lite.runs import whole
from dpo_lite.runs.checkpoints import numbered
from dpo_lite.runs.lines import METRICS, SAMPLES, mend_lines, mend_text
from dpo_lite.runs.state import read_manifest, read_object

RECIPE, MANIFEST = "recipe.yaml", "manifest.json"


def mend(run: Path) -> list[str]:
    """Put right what can be; returns a sentence for each file that was damaged.

    For a run that no process is at work on. Raises UserError where a file is lost that decides
    what the run is, and where a folder stands in place of a file.
    """
    refuse_folders(run)
    _sweep(run)
    words = [_mend_recipe(run), _mend_manifest(run)]
    words += [mend_lines(run / file) for file in (METRICS, SAMPLES)]
    mend_text(run / "log.txt")
    return [text for text in words if text]


def refuse_folders(run: Path) -> None:
    """Raises UserError where a folder has the name of a file of the run."""
    for name in (RECIPE, MANIFEST, "status.json", "results.json", METRICS, SAMPLES, "log.txt"):
        if (run / name).is_dir():
            raise UserError(f"{run / name} is a folder where the run has a file; move it away.")


def _sweep(run: Path) -> None:
    """Remove what a killed process left half-written beside the files and checkpoints."""
    for path in run.glob(".*"):
        if PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)
    for path in (run / "checkpoints").glob(".checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)


def _mend_recipe(run: Path) -> str | None:
    """The frozen recipe, from a checkpoint's copy of it where it is lost or cut short."""
    file = run / RECIPE
    text = file.read_bytes() if file.is_file() else b""
    kept = _kept(run, RECIPE)
    copy = kept.read_bytes() if kept else b""
    if _is_recipe(text) and not (copy != text and copy.startswith(text)):
        return None
    if kept is None:
        raise UserError(
            f"{file} is cut short or no recipe, and no checkpoint has a copy; put it back, or start"
            " a new run."
        )
    values = yaml.safe_load(copy)
    if values.get("run", {}).get("name") != run.name:  # it was renamed since
        copy = re.sub(
            rb"(?m)^(run:\n  name: ).*$", rb'\g<1>"%s"' % run.name.encode(), copy, count=1
        )
    write_text(file, copy.decode())
    os.utime(file, (kept.stat().st_mtime, kept.stat().st_mtime))
    return f"{RECIPE} was damaged and is put back from {kept.parent.name}"


def _is_recipe(text: bytes) -> bool:
    """Whether it is as a run's recipe is written: to the end of its last section."""
    try:
        values: Any = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(values, dict) and "hub" in values and text.endswith(b"\n")


def _mend_manifest(run: Path) -> str | None:
    """The facts that the run began with, from a checkpoint's copy."""
    kept = _kept(run, MANIFEST)
    if read_manifest(run) is not None or not ((run / MANIFEST).exists() or kept):
        return None
    if kept is None or read_manifest(kept.parent) is None:
        return None  # whoever goes on with it will ask
    write_text(run / MANIFEST, kept.read_text(encoding="utf-8"))
    return f"{MANIFEST} was damaged and is put back from {kept.parent.name}"


def _kept(run: Path, name: str) -> Path | None:
    """The newest copy of a file in a checkpoint that has not changed since."""
    for folder in reversed(numbered(run / "checkpoints").values()):
        files = (read_object(folder / whole.LIST) or {}).get("files") or {}
        if isinstance(files, dict) and whole.fault_of(folder, name, files.get(name)) is None:
            return folder / name
    return None
