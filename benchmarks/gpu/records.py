"""What was found, a record per unit, in one JSON file that is replaced after each of them.

A record holds for a device, a version of the code and a form (small or whole): with another of
these the unit is run anew, and the old record stays in the file beside the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.parts import Unit
from dpo_lite.files import read_json, write_json

PASS, FAIL, NOT_RUN = "PASS", "FAIL", "not run"
DONE = (PASS, FAIL)
ROOT = Path(__file__).parents[2]
CODE = ("dpo_lite/**/*.py", "benchmarks/gpu/*.py", "benchmarks/dpo_speed.py")
Record = dict[str, Any]


class Key(NamedTuple):
    """What a record holds for."""

    device: str
    code: str
    small: bool


def code_version() -> str:
    """Twelve digits of a hash over the code of the product and of the kit."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def record_of(unit: Unit, key: Key, found: dict[str, Any]) -> Record:
    """``found``: figures, seconds, versions, and why it failed or was not run, if so."""
    return {
        "unit": unit.name,
        "part": unit.part.name,
        "letter": unit.part.letter,
        "what": unit.part.what,
        "shape": unit.shape,
        "state": state_of(found),
        **{"why": None, "figures": [], "seconds": None, "versions": {}, **found},
        **key._asdict(),
    }


def state_of(found: dict[str, Any]) -> str:
    if found.get("state"):
        return found["state"]
    failed = found.get("why") or any(figure["passed"] is False for figure in found["figures"])
    return FAIL if failed else PASS


def key_of(record: Record) -> Key:
    return Key(*(record[field] for field in Key._fields))


def read(path: Path) -> list[Record]:
    return (read_json(path) or {"records": []})["records"]


def of_key(records: Iterable[Record], key: Key) -> dict[str, Record]:
    return {record["unit"]: record for record in records if key_of(record) == key}


def put(path: Path, new: Iterable[Record]) -> list[Record]:
    """Write the file with these records in place of older ones of the same unit and key."""
    new = list(new)
    places = {(record["unit"], key_of(record)) for record in new}
    kept = [r for r in read(path) if (r["unit"], key_of(r)) not in places]
    write_json(path, {"records": [*kept, *new]})
    return [*kept, *new]
