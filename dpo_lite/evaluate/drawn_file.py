"""A drawing on disk: its lines, and beside them all that decided them, so that it can go on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import read_json, replaced, write_json


@dataclass
class Tally:
    """What became of the prompts: every one is counted once."""

    pairs: int = 0
    alike: int = 0  # best and worst no further apart than the margin
    unfinished: int = 0  # fewer than two different answers that came to their end
    tools: int = 0  # a prompt that names tools, which a row of this kind cannot
    unread: int = 0  # a judge that was to compare them did not say
    rewards: float = 0.0  # sum over all answers
    answers: int = 0  # that had one; none where they are compared

    @property
    def mean_reward(self) -> float | None:
        return self.rewards / self.answers if self.answers else None


def files_of(out: Path) -> list[Path]:
    """A drawing's lines, what is known of it, and what a judge replied."""
    return [out, _beside(out), replies_of(out)]


def replies_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}.judge.jsonl")


def _beside(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def note(out: Path, settings: dict[str, Any], tally: Tally, done: int) -> None:
    place = {"done": done, "bytes": out.stat().st_size if out.exists() else 0}
    write_json(_beside(out), {"drawn_by": settings} | place | asdict(tally))


def so_far(out: Path, settings: dict[str, Any]) -> tuple[Tally, int]:
    """The tally and the number of prompts that are done; what was written behind them is cut off.

    Raises UserError where the file is of another drawing, or of none.
    """
    known = read_json(_beside(out))
    if known is None:
        if out.exists() and out.stat().st_size:
            raise UserError(f"{out} exists; choose another name or remove it first.")
        return Tally(), 0
    if not _is_note(known):
        raise UserError(f"{_beside(out)} is damaged; remove it and {out}.")
    if known["drawn_by"] != settings:
        changed = ", ".join(k for k, v in settings.items() if known["drawn_by"].get(k) != v)
        raise UserError(f"{out} was drawn with another {changed}; choose another name.")
    kept = out.read_bytes()[: known["bytes"]] if out.exists() else b""
    if len(kept) < known["bytes"]:
        raise UserError(f"{out} is shorter than it was; remove it and {_beside(out)}.")
    with disk_faults_told(), replaced(out) as partial:
        partial.write_bytes(kept)
    return Tally(**{key: known.get(key, 0) for key in asdict(Tally())}), known["done"]


def _is_note(known: dict[str, Any]) -> bool:
    counts = [known.get(key) for key in ("done", "bytes")]
    counts += [known.get(key, 0) for key in asdict(Tally())]
    numbers = all(type(count) in (int, float) and count >= 0 for count in counts)
    return numbers and isinstance(known.get("drawn_by"), dict)
