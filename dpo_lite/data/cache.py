"""Folders that are made once and kept under a hash of all that they depend on."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dpo_lite.files import cache_faults_told, cache_folder, write_text
from dpo_lite.runs import whole

KEEP_SECONDS = 30 * 24 * 3600


def cached_folder(
    key: str,
    files: Sequence[str],
    make: Callable[[Path], None],
    kind: str = "data",
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """The folder of ``key`` with its ``files``; where it is not whole, ``make`` fills a new one.

    It appears under its name only when it is whole, whoever else makes the same at the same time,
    with a list of sizes and hashes that it is held to when it is used again; ``say`` is told of one
    that was damaged. Folders unused for a month are removed. Raises UserError where nothing can be
    written.
    """
    folder = cache_folder() / kind / key
    if words := _fault(folder, files):
        if folder.exists() and whole.has_list(folder):
            say(f"{folder} is damaged ({words}) and is made again")
        with cache_faults_told(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _forget_unused(folder.parent)
            with contextlib.suppress(OSError):  # another process may do the same
                whole.remove(folder)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
            try:
                make(partial)
                whole.seal(partial)
                _publish(partial, folder, files)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    with contextlib.suppress(OSError):  # a shared cache may belong to somebody else
        os.utime(folder)
    return folder


def open_folder(key: str, kind: str, facts: str) -> Path:
    """A folder of ``key`` that grows, with its facts in words in facts.json. Whatever is in it
    stays. Raises UserError where it cannot be written."""
    folder = cache_folder() / kind / key
    with cache_faults_told(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _forget_unused(folder.parent)
        if folder.exists() and not folder.is_dir():
            folder.unlink()
        folder.mkdir(exist_ok=True)
        file = folder / "facts.json"
        if not file.is_file() or file.read_bytes() != facts.encode():
            whole.remove(file)
            write_text(file, facts)
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


def _fault(folder: Path, files: Sequence[str]) -> str | None:
    """Why the folder cannot be used, as a clause; None where it can."""
    if not folder.is_dir():
        return "it is not there"
    lost = (whole.unreadable(folder / name, name) for name in files)
    return whole.fault(folder) or next(filter(None, lost), None)


def _publish(partial: Path, folder: Path, files: Sequence[str]) -> None:
    try:
        os.replace(partial, folder)
    except OSError:
        if _fault(folder, files):  # else another process was faster
            raise


def _forget_unused(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may remove the same
            if time.time() - path.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
