"""What of a run is published so that anybody can replay its first updates and compare.

And what came of replaying it, which stays in the run and is told on its card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpo_lite.files import write_json
from dpo_lite.runs.folder import Run
from dpo_lite.runs.results import are_numbers, is_number
from dpo_lite.runs.state import read_object

REPLAY, VERIFIED = "replay.json", "verified.json"
KEPT_UPDATES = 20
COMPARED = ("loss", "rewards/margins", "logps/chosen", "logps/rejected", "grad_norm")


def replay_facts(run: Run, most: int | None = KEPT_UPDATES) -> dict[str, Any]:
    """The run's conditions and what its first updates measured. No path of this machine."""
    manifest, steps = run.manifest(), run.steps()
    data = manifest.get("data", {})
    return {
        "device": manifest.get("device"),
        "versions": {"dpo_lite": manifest.get("dpo_lite"), **manifest.get("versions", {})},
        "base_revision": manifest.get("base_revision"),
        "data": {"fingerprint": data.get("fingerprint"), "examples": data.get("examples")},
        "updates": len(steps),
        "first": [
            {key: step[key] for key in ("step", *COMPARED) if key in step} for step in steps[:most]
        ],
    }


def keep_verified(run: Run, verdict: dict[str, Any]) -> None:
    write_json(run.path / VERIFIED, verdict)


def verified(folder: Path) -> dict[str, Any]:
    """What came of replaying a run; empty where it was not, or the file is damaged."""
    found = read_object(folder / VERIFIED) or {}
    counts, apart = [found.get("updates"), found.get("of")], found.get("apart")
    whole = all(type(count) is int for count in counts) and isinstance(found.get("versions"), dict)
    whole = whole and type(found.get("reproduced")) is bool and is_number(found.get("adapter"))
    if not whole or not isinstance(apart, dict) or not are_numbers(apart):
        return {}
    return found if apart.get("loss") is not None or not found["reproduced"] else {}


def verified_words(verdict: dict[str, Any]) -> str:
    """One sentence for report and card; empty where the run was not replayed."""
    if not verdict:
        return ""
    versions = ", ".join(f"{name} {number}" for name, number in verdict["versions"].items())
    where = f"on {verdict.get('date')} on {verdict.get('device')} ({versions})"
    count = f"{verdict['updates']} of {verdict['of']} updates"
    if verdict["reproduced"]:
        adapter = " and the adapter" if verdict.get("adapter") is not None else ""
        return (
            f"Reproduced {where}: the first {count} gave the same losses{adapter}, the loss to"
            f" {verdict['apart']['loss']:.1g}."
        )
    return f"Not reproduced {where}: of the first {count}, {verdict.get('why')}."
