"""What the small files of a run say, and what is told from the others where one is damaged.

They are replaced in one step, so a reader never sees half of one; a power cut, a full disk or a
copy may still leave one empty, cut or of another shape.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpo_lite.runs.checkpoints import STATE, complete
from dpo_lite.runs.lines import METRICS, MOST
from dpo_lite.runs.results import is_sound
from dpo_lite.runs.tails import Tail

STATES = "created queued preparing running finished stopped failed interrupted".split()
REBUILT = "rebuilt"  # in a status that was told from the other files
NUMBER, TEXT = (int, float), str
CLOCK = (float, int)  # seconds that a calendar has
LAST = 1e11  # of them, some 3,000 years after 1970
STATUS_SHAPE: dict[str, Any] = {
    "pid": int,
    "pid_started": TEXT,
    "error": TEXT,
    "doing": TEXT,
    "step": int,
    "max_steps": int,
    "pairs": int,
    **dict.fromkeys(
        "launched started ran_until seconds_before seconds_left updated".split(), CLOCK
    ),
    **dict.fromkeys("loss margin accuracy reward kl".split(), NUMBER),
}
MENDED_BY = {
    "status.json": "how the run stands is told from its other files",
    "results.json": "`dpo-lite eval {run}` measures it again",
    "manifest.json": "it is put back from a checkpoint when the run goes on",
}

Facts = dict[str, Any]


def read_object(path: Path | str) -> Facts | None:
    """A JSON object from a file; None where it is missing, damaged, or anything else. A pipe that
    has its name is not waited for."""
    try:
        with open(path, "rb", opener=_at_once) as stream:
            value = json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_status(run: Path) -> Facts:
    """What status.json says, else what the other files tell."""
    # Of a thousand runs, so that making a path of each would be half of it.
    return sound_status(read_object(f"{run}/status.json")) or rebuilt_status(run)


def sound_status(found: Facts | None) -> Facts | None:
    """A status without what has another type; None where it has no state."""
    if found is None or found.get("state") not in STATES:
        return None
    status = {k: v for k, v in found.items() if fits(v, STATUS_SHAPE.get(k))}
    if status.get("step") is None or status.get("max_steps") is None:
        status = {k: v for k, v in status.items() if k not in ("step", "max_steps")}
    return status


def rebuilt_status(run: Path) -> Facts:
    """How a run stands whose status.json is missing or damaged: no process speaks for it.

    What is written last, results and report, says that it is finished.
    """
    damaged = {REBUILT: True} if (run / "status.json").exists() else {}
    if read_results(run) and (run / "report.md").is_file():
        return {"state": "finished"} | _progress(run) | damaged
    progress = _progress(run)
    begun = progress or complete(run / "checkpoints")
    return {"state": "interrupted" if begun or damaged else "created"} | progress | damaged


def _progress(run: Path) -> Facts:
    """The last update that was logged, and how many there are to be."""
    records = Tail(run / METRICS).read()
    checkpoint = next(reversed(complete(run / "checkpoints").values()), None)
    last = read_object(checkpoint / STATE) if checkpoint else None
    most = (last or {}).get("max_steps")
    steps = [record["step"] for record in records if "loss" in record]
    sound = steps and most is not None and fits(most, int)
    return {"step": steps[-1], "max_steps": most} if sound else {}


def read_results(run: Path) -> Facts | None:
    """What results.json says; None where it is missing or damaged."""
    found = read_object(run / "results.json")
    return found if found is not None and is_sound(found) else None


def read_manifest(folder: Path) -> Facts | None:
    """What manifest.json of a run or a checkpoint says; None where it is missing or damaged."""
    found = read_object(folder / "manifest.json")
    data = (found or {}).get("data")
    sound = (
        isinstance(data, dict)
        and "fingerprint" in data
        and data.get("examples") is not None
        and fits(data["examples"], int)
    )
    return found if sound else None


READERS: dict[str, Callable[[Path], Facts | None]] = {
    "status.json": lambda run: sound_status(read_object(run / "status.json")),
    "results.json": read_results,
    "manifest.json": read_manifest,
}


def damaged_files(run: Path) -> list[str]:
    """Sentences about the files of a run that are there and say nothing."""
    return [
        f"{file} is damaged ({_how(run / file)}): {MENDED_BY[file].format(run=run)}."
        for file, read in READERS.items()
        if (run / file).exists() and read(run) is None
    ]


def _how(path: Path) -> str:
    if not path.is_file():
        return "it is a folder" if path.is_dir() else "it is no file"
    text = path.read_bytes()
    if not text.strip(b"\0 \n"):
        return "it is empty"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "it is cut short or no JSON"
    return "it holds something else"


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind, and a number one that can be shown and counted with.

    None stands for any value but a moment, which is counted with where it is there.
    """
    if kind is None or (value is None and kind is not CLOCK):
        return True
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    if kind is CLOCK:
        return -LAST < value < LAST
    return not isinstance(value, int) or abs(value) < MOST
