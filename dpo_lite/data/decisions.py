"""What somebody decided of single rows, and the data that follow: kept, dropped, turned round.

A file of decisions is JSON lines, ``{"row": 12, "decision": "flip"}``, rows counted from 0. It only
grows: of two decisions on a row the later one stands, and null takes one back. A line
``{"content": ...}`` says of which content of the source its numbers are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dpo_lite.data.file_text import LeftOut
from dpo_lite.data.files import Reading
from dpo_lite.data.flips import turned
from dpo_lite.data.renaming import same_but_spelling
from dpo_lite.data.sources import Source, read_source
from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import json_text, replaced, write_json
from dpo_lite.recipe import DataSection
from dpo_lite.runs.lines import append_line, mend_lines

KEEP, DROP, FLIP = DECISIONS = ("keep", "drop", "flip")
SAMPLE = 256  # rows by which columns are told that differ in spelling alone


@dataclass(frozen=True)
class Decisions:
    """``of``: row -> decision, in the order in which they were made."""

    of: dict[int, str] = field(default_factory=dict)
    content: str | None = None

    def rows(self, decision: str) -> list[int]:
        return sorted(row for row, made in self.of.items() if made == decision)


def read_decisions(path: Path) -> Decisions:
    """Raises UserError for a line that is none; a last one that was cut short is no line yet."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The decisions {path} cannot be read ({error}).") from None
    lines, made, content = text.split("\n"), Decisions(), None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if record is None and number == len(lines) and not text.endswith("\n"):
            continue
        if isinstance(record, dict) and "content" in record:
            content = str(record["content"])
            continue
        row, decision = _decision(record, path, number)
        made.of.pop(row, None)
        if decision is not None:
            made.of[row] = decision
    return Decisions(made.of, content)


def _decision(record: Any, path: Path, number: int) -> tuple[int, str | None]:
    row = record.get("row") if isinstance(record, dict) else None
    decision = record.get("decision") if isinstance(record, dict) else ""
    whole = isinstance(row, int) and not isinstance(row, bool) and row >= 0
    if not whole or decision not in (*DECISIONS, None):
        raise UserError(
            f"{path}, line {number} is no decision; write it as"
            ' {"row": 12, "decision": "keep"}, with keep, drop or flip.'
        )
    return row, decision


@disk_faults_told()
def add_decision(path: Path, row: int, decision: str | None) -> None:
    """``decision``: None takes back what was decided of the row."""
    if path.is_file():
        mend_lines(path)  # what a kill left
    append_line(path, json.dumps({"row": row, "decision": decision}))


def check_new_file(sources: int, out: Path, option: str) -> None:
    """Raise UserError where rows cannot be told by their number, or the file cannot be written.

    ``sources``: of the recipe; ``option``: what the user named the file by.
    """
    if sources != 1:
        raise UserError(f"{option} writes the rows of one source; name one in data.train.")
    if out.suffix != ".jsonl":
        raise UserError(f"{option}: {out} is written as JSON lines; end its name in .jsonl.")
    if out.exists():
        raise UserError(f"{option}: {out} exists; choose another name or remove it first.")
    if not out.parent.is_dir():
        raise UserError(f"{option}: there is no folder {out.parent}; make it first.")


def read_one_source(section: DataSection) -> Source:
    """The one source of a data section, read as it says."""
    (part,) = section.sources
    reading = Reading(section.encoding, tuple(section.leave_out))
    return read_source(part.source, section.revision, reading)


def columns_of(source: Source, section: DataSection) -> dict[str, str] | None:
    """Our column names -> the file's, as the rows are read by."""
    named = section.sources[0].columns
    return named or same_but_spelling(list(islice(source.rows(), SAMPLE)))


def write_rows(
    section: DataSection,
    form: str,
    out: Path,
    dropped: Collection[int] = (),
    flipped: Collection[int] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the source's rows without some and with some turned round; beside them what was done.

    ``form``: the name of the format they were recognised as. All others are written as they are,
    those too that are held out or that the doctor leaves out. What stands beside the file, under
    its name and ``.json``, is returned: parent, counts, the rows by number, and ``more``. Raises
    UserError where a row cannot be turned round, or is not there; nothing is written then.
    """
    source = read_one_source(section)
    columns = columns_of(source, section)
    count, left_out, unrated = 0, [], []
    turns, drops = set(flipped), set(dropped)
    with (
        disk_faults_told(),
        replaced(out) as partial,
        open(partial, "w", encoding="utf-8") as file,
    ):
        for number, row in enumerate(islice(source.rows(), section.limit)):
            count = number + 1
            if isinstance(row, LeftOut):
                left_out.append(row.line)
            elif number not in drops:
                kept = turned(row, number, form, columns) if number in turns else row
                if any(kept[name] is None and row[name] is not None for name in row):
                    unrated.append(number)
                file.write(json_text(kept, default=str) + "\n")
        if missing := sorted(row for row in drops | turns if row >= count):
            raise UserError(
                f"{source.name} has {count:,} rows, and row {missing[0]} (0 is the first) is none"
                " of them; these decisions are of other data."
            )
    facts = {
        "parent": source.name,
        "parent_content": source.key,
        "rows": count,
        "kept": count - len(drops) - len(left_out),
        "dropped": len(drops),
        "dropped_rows": sorted(drops),
        **({"flipped": len(turns), "flipped_rows": sorted(turns)} if turns else {}),
        **({"ratings_taken_out": unrated} if unrated else {}),
        **({"left_out": left_out} if left_out else {}),
        **(more or {}),
    }
    with disk_faults_told():
        write_json(out.with_name(out.name + ".json"), facts)
    return facts


def apply_decisions(
    section: DataSection, form: str, decisions: Decisions, out: Path, doubtful: Collection[int] = ()
) -> dict[str, Any]:
    """Write what was decided, as ``write_rows``; ``doubtful`` rows that nobody looked at are
    counted.

    Raises UserError too where the source has changed since, or nothing was decided.
    """
    check_new_file(len(section.sources), out, "--out")
    if not decisions.of:
        raise UserError("Nothing is decided yet: keep, drop or flip a row first.")
    source = read_one_source(section)
    if decisions.content not in (None, source.key):
        raise UserError(
            f"{source.name} has changed since these decisions were made; audit it again."
        )
    left = [row for row in doubtful if row not in decisions.of]
    looked = {
        "flipped": len(decisions.rows(FLIP)),
        "flipped_rows": decisions.rows(FLIP),
        "looked_at": len(decisions.of),
        "kept_rows": decisions.rows(KEEP),
        **({"doubtful_not_looked_at": len(left)} if doubtful else {}),
    }
    return write_rows(section, form, out, decisions.rows(DROP), decisions.rows(FLIP), looked)
