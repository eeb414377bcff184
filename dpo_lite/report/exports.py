"""What became of a run's preference in other formats: a table for the terminal and the report."""

from __future__ import annotations

from typing import Any

from dpo_lite.files import write_json
from dpo_lite.rates import EXPLAINED, Rate, margin_text
from dpo_lite.runs.folder import Run
from dpo_lite.runs.results import are_numbers, is_number
from dpo_lite.runs.state import read_object

EXPORTS = "exports.json"
HEAD = (
    "format",
    "size",
    "margin",
    "accuracy",
    "KL to the reference",
    "KL to the adapter",
)


def keep(run: Run, export: dict[str, Any]) -> None:
    """Beside those that are there; one of the same kind into the same folder is replaced."""
    same = ("to", "folder")
    others = [e for e in _kept(run) if any(e.get(key) != export.get(key) for key in same)]
    write_json(run.path / EXPORTS, {"exports": [*others, export]})


def _kept(run: Run) -> list[dict[str, Any]]:
    """What was kept, without what is damaged."""
    found = (read_object(run.path / EXPORTS) or {}).get("exports")
    return [one for one in found if _is_export(one)] if isinstance(found, list) else []


def _is_export(one: Any) -> bool:
    if not isinstance(one, dict) or not are_numbers(one.get("sizes", {})):
        return False
    measured, warnings = one.get("survival", []), one.get("warnings", [])
    if not isinstance(measured, list) or not isinstance(warnings, list):
        return False
    named = all(isinstance(text, str) for text in [one.get("to"), *warnings])
    return named and is_number(one.get("rows")) and all(map(_is_measured, measured))


def _is_measured(one: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("name"), str):
        return False
    apart = [one.get("kl_from_reference"), one.get("kl_from_adapter")]
    right = [one.get("right")] if one.get("pairs") else []
    told = all(is_number(number) and number is not None for number in [*apart, *right])
    return told and is_number(one.get("pairs")) and is_number(one.get("margin"))


def rows(export: dict[str, Any]) -> list[tuple[str, ...]]:
    """In the order of HEAD. KL in nats per token of held-out responses."""
    sizes = export.get("sizes", {})
    return [
        (
            one["name"],
            f"{sizes[one['name']] / 2**20:,.0f} MiB" if sizes.get(one["name"]) else "–",
            "–" if one.get("margin") is None else margin_text(one["margin"]),
            Rate(one["right"] / one["pairs"], one["pairs"]).cell() if one.get("pairs") else "–",
            f"{one['kl_from_reference']:.2g}",
            f"{one['kl_from_adapter']:.2g}",
        )
        for one in export.get("survival", [])
    ]


def lines(run: Run) -> list[str]:
    """The report's part, as Markdown; empty where nothing was measured."""
    found: list[str] = []
    for export in _kept(run):
        if not export.get("survival"):
            continue
        rows_of = export.get("rows", "–")
        found += [
            f"{export['to']}, {rows_of} held-out rows, KL in nats per token of their responses."
            f" {EXPLAINED}",
            "",
            f"| {' | '.join(HEAD)} |",
            f"|{' --- |' * len(HEAD)}",
            *(f"| {' | '.join(row)} |" for row in rows(export)),
            "",
            *(line for warning in export.get("warnings", []) for line in (warning, "")),
        ]
    return ["## Exported", "", *found] if found else []
