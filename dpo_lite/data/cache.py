"""Folders that are made once and kept under a hash of all that they depend on."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.files import cache_folder

KEEP_SECONDS = 30 * 24 * 3600


def cached_folder(
    key: str, files: Sequence[str], make: Callable[[Path], None], kind: str = "data"
) -> Path:
    """The folder of ``key`` with its ``files``; where it is not whole, ``make`` fills a new one.

    It appears under its name only when it is whole, whoever else makes the same at the same time.
    Folders unused for a month are removed. Raises UserError where nothing can be written.
    """
    folder = cache_folder() / kind / key
    if not _whole(folder, files):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _forget_unused(folder.parent)
            shutil.rmtree(folder, ignore_errors=True)  # damaged, or not there
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
            try:
                make(partial)
                _publish(partial, folder, files)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise UserError(
                f"The cache in {folder.parent} cannot be written ({error.strerror or error}); set "
                "DPO_LITE_CACHE to a folder with room that can."
            ) from error
    with contextlib.suppress(OSError):  # a shared cache may belong to somebody else
        os.utime(folder)
    return folder


def _whole(folder: Path, files: Sequence[str]) -> bool:
    return all((folder / name).is_file() for name in files) and folder.is_dir()


def _publish(partial: Path, folder: Path, files: Sequence[str]) -> None:
    try:
        os.replace(partial, folder)
    except OSError:
        if not _whole(folder, files):  # else another process was faster
            raise


def _forget_unused(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may remove the same
            if time.time() - path.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
