"""A folder that carries a list of its files: what a kill, a full disk or a copy left of it shows.

The list is written last, in one step, with the size and hash of every file. While the folder is
being filled it has an empty list, so that one without any is of a version that wrote none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_lite.files import write_json

LIST = "whole.json"
READ_BYTES = 1 << 22


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A new folder to be filled: it has its list where that went well, and is gone where not."""
    remove(folder)
    folder.mkdir(parents=True)
    write_json(folder / LIST, {})
    try:
        yield folder
        seal(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # on a full disk its room is wanted
        raise


def seal(folder: Path) -> None:
    """Write the list of what the folder holds."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != LIST:
            files[path.relative_to(folder).as_posix()] = _facts(path, keep=True)
    write_json(folder / LIST, {"files": files})


def has_list(folder: Path) -> bool:
    return os.path.lexists(folder / LIST)


def fault(folder: Path) -> str | None:
    """Why a folder with a list is not whole, as a clause; None where it is."""
    try:
        listed = json.loads((folder / LIST).read_bytes())
        files = listed.get("files")
    except (OSError, ValueError, AttributeError, RecursionError):
        return f"its list, {LIST}, is damaged"
    if not isinstance(files, dict):
        return "it was not written to its end"
    for name, wanted in files.items():
        if words := fault_of(folder, name, wanted):
            return words
    return None


def fault_of(folder: Path, name: str, wanted: Any) -> str | None:
    """Why one of its files is not what the list says of it, ``wanted``; None where it is."""
    path = folder / name
    if words := unreadable(path, name):
        return words
    try:
        size = path.stat().st_size
        if size < wanted["bytes"]:
            return f"{name} is cut short ({size:,} of {wanted['bytes']:,} bytes)"
        if size > wanted["bytes"]:
            return f"{name} has {size:,} bytes, not {wanted['bytes']:,}"
        if _facts(path) != wanted:
            return f"{name} is not what was written (its hash differs)"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    except (KeyError, TypeError):
        return f"its list, {LIST}, is damaged"
    return None


def unreadable(path: Path, name: str) -> str | None:
    """What is wrong with a file before its content is looked at, as a clause."""
    if not os.path.lexists(path):
        return f"{name} is missing"
    if not path.is_file():
        return f"{name} is no file"
    return f"{name} is empty" if path.stat().st_size == 0 else None


def remove(path: Path) -> None:
    """Take away whatever has that name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _facts(path: Path, keep: bool = False) -> dict[str, Any]:
    """Size and hash of a file; ``keep``: it is on the disk itself before the list says so."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            size += len(piece)
        if keep:
            with contextlib.suppress(OSError):  # a disk or system that has no such thing
                os.fsync(file.fileno())
    return {"bytes": size, "sha256": digest.hexdigest()}
