"""Which update's adapter a run kept, and why, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.report.words import counted
from dpo_lite.runs.results import are_numbers, is_number

KEPT = "kept"  # in results.json of a run that chose among its evaluations
LEAST = ("loss",)  # what is best where it is lowest


def kept_step(results: Mapping[str, Any] | None) -> int | None:
    """The update whose adapter is the run's; None where it is the last one without a choice."""
    kept = _kept(results)
    return kept["step"] if kept else None


def kept_words(results: Mapping[str, Any] | None, unit: str = "update") -> str:
    """A sentence or two; nothing of a run that keeps its last update without looking."""
    kept = _kept(results)
    if not kept:
        return ""
    which = f"{unit} {kept['step']:,} of {kept['trained']:,}"
    if kept["step"] == kept["trained"]:
        which = f"the last {unit}, {kept['step']:,}"
    return f"The adapter is that of {which}{_why(kept, unit)}.{_ending(kept, unit)}"


def _kept(results: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """As ``training.keeping.outcome`` returns it; None where there is none, or it is damaged."""
    kept = (results or {}).get(KEPT)
    if (
        not isinstance(kept, dict)
        or not {"by", "kl_budget", "ended", "kept", "last"} <= kept.keys()
    ):
        return None
    counts = [kept.get(key) for key in ("step", "trained", "planned", "evaluations")]
    looks = [kept.get(key) or {} for key in ("kept", "last")]
    if any(type(n) is not int for n in counts) or not all(map(are_numbers, looks)):
        return None
    if any(look and type(look.get("step")) is not int for look in looks):
        return None
    texts = all(isinstance(kept[key], str | None) for key in ("by", "ended"))
    budget = kept["kl_budget"] is None or looks[0].get("kl") is not None
    patience = kept["ended"] != "patience" or type(kept.get("patience")) is int
    return kept if texts and budget and patience and is_number(kept["kl_budget"]) else None


def _why(kept: Mapping[str, Any], unit: str) -> str:
    best, last = kept["kept"] or {}, kept["last"] or {}
    later = last.get("step") != best.get("step")
    if kept["by"] and best.get("value") is None:
        return f": its held-out {kept['by']} could not be told at any evaluation"
    clauses = []
    if kept["by"]:
        superlative = "lowest" if kept["by"] in LEAST else "highest"
        clause = f"whose held-out {kept['by']} was the {superlative} of "
        clause += f"{counted(kept['evaluations'], 'evaluation')}, {_number(kept['by'], best)}"
        if later and last.get("value") is not None:
            clause += f" ({_number(kept['by'], last)} at {unit} {last['step']:,})"
        clauses.append(clause)
    if kept["kl_budget"] is not None:
        clause = f"whose KL was {best['kl']:.2f} nats per answer, within the budget of "
        clause += f"{kept['kl_budget']:g}"
        if later and last.get("kl") is not None:
            clause += f" ({last['kl']:.2f} at {unit} {last['step']:,})"
        clauses.append(clause)
    return ", " + ", and ".join(clauses)


def _number(by: str, look: Mapping[str, Any]) -> str:
    return f"{look['value']:.1%}" if by == "accuracy" else f"{look['value']:.4f}"


def _ending(kept: Mapping[str, Any], unit: str) -> str:
    of = f" The run ended at {unit} {kept['trained']:,} of {kept['planned']:,}, "
    if kept["ended"] == "patience":
        return f"{of}after {counted(kept['patience'], 'evaluation')} without a better one."
    return f"{of}beyond its budget." if kept["ended"] else ""
