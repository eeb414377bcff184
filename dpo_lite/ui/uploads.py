"""Data files from the browser: kept beside one's recipes, under a name that was checked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from dpo_lite.data.files import KINDS, content_hash, file_kind
from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import replaced

MOST_BYTES = 200 * 2**20
ACCEPTED = [*KINDS, ".ndjson", ".gz"]


@disk_faults_told()
def keep_upload(arrived: Path, folder: Path) -> Path:
    """Move an uploaded file to ``folder``; the same content under the same name is kept once.

    Raises UserError for a file that is too large or that no reader knows.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", arrived.name).lstrip(".-")[-80:] or "data"
    if file_kind(Path(name)) is None:
        raise UserError(f"{arrived.name} is no data file; upload one of {', '.join(KINDS)}.")
    if arrived.stat().st_size > MOST_BYTES:
        raise UserError(
            f"{arrived.name} is over {MOST_BYTES // 2**20} MB; put it beside the program and write"
            " its path."
        )
    stem, dot, ending = name.partition(".")
    number, target = 2, folder / name
    while target.exists() and content_hash([target]) != content_hash([arrived]):
        target = folder / f"{stem}-{number}{dot}{ending}"
        number += 1
    folder.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        with replaced(target) as partial:
            shutil.copyfile(arrived, partial)
    return target
