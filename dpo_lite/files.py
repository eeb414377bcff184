"""Small files that anybody may read at any time: replaced in one step, named safely."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError

POINTER = b"version https://git-lfs.github.com/spec/"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z", re.IGNORECASE)  # on Windows


def safe_name(name: str) -> str:
    """The name, if it can be a folder's on every system and nothing else; raises UserError."""
    if not NAME.match(name) or DEVICE_NAME.match(name):
        raise UserError(
            f"run.name: {name!r} cannot name a run; use up to 64 letters, digits, dots, dashes and"
            " underscores, with a letter or digit first."
        )
    return name


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is no file. Raises UserError where it is damaged."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (it is no JSON object); copy it again or remove it.")
    return value


def json_text(value: Any, **options: Any) -> str:
    """JSON as people read it. Half of a surrogate pair, which JSON can spell and no file can hold
    as a letter, stays spelt."""
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, **options)
    return text


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json_text(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new, never half of it.

    Half of a surrogate pair, which no file can hold, is a question mark there."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


# What a process that was killed in ``replaced`` leaves; before, it had no thread in its name.
PARTIAL = re.compile(r"\.(.+)\.\d+(-\d+)?")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside it, to be written and then put in its place; gone where that fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # the first fault is told
            partial.unlink(missing_ok=True)
        raise


def refuse_existing(folder: Path) -> None:
    """Raises UserError where a folder that is to be new is there: before any work for it."""
    if folder.exists():
        raise UserError(f"{folder} exists; name a folder that does not.")


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder and fill it inside; it is gone again where that fails."""
    refuse_existing(folder)
    folder.mkdir(parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # the first fault is told
        raise


def is_pointer(path: Path) -> bool:
    """Whether a clone without Git LFS left its note there in place of the file."""
    with open(path, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def cache_folder() -> Path:
    """Where they lie: ``$DPO_LITE_CACHE``, else a folder beside the Hugging Face cache."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("DPO_LITE_CACHE") or Path(HF_HOME) / "dpo_lite").expanduser()


@contextmanager
def cache_faults_told(folder: Path) -> Iterator[None]:
    """Raises UserError where a place of the cache cannot be made or written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The cache in {folder} cannot be written ({error.strerror or error}); set "
            "DPO_LITE_CACHE to a folder of your own with room."
        ) from error
