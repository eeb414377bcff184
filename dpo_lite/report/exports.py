"""What became of a run's preference in other formats: a table for the terminal and the report."""

from __future__ import annotations

from typing import Any

from dpo_lite.files import read_json, write_json
from dpo_lite.rates import EXPLAINED, Rate, margin_text
from dpo_lite.runs.folder import Run

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
    kept = (read_json(run.path / EXPORTS) or {}).get("exports", [])
    same = ("to", "folder")
    others = [e for e in kept if any(e.get(key) != export.get(key) for key in same)]
    write_json(run.path / EXPORTS, {"exports": [*others, export]})


def rows(export: dict[str, Any]) -> list[tuple[str, ...]]:
    """In the order of HEAD. KL in nats per token of held-out responses."""
    sizes = export.get("sizes", {})
    return [
        (
            one["name"],
            f"{sizes[one['name']] / 2**20:,.0f} MiB" if one["name"] in sizes else "–",
            "–" if one.get("margin") is None else margin_text(one["margin"]),
            Rate(one["right"] / one["pairs"], one["pairs"]).cell() if one.get("pairs") else "–",
            f"{one['kl_from_reference']:.2g}",
            f"{one['kl_from_adapter']:.2g}",
        )
        for one in export.get("survival", [])
    ]


def lines(run: Run) -> list[str]:
    """The report's part, as Markdown; empty where nothing was measured."""
    exports = (read_json(run.path / EXPORTS) or {}).get("exports", [])
    found: list[str] = []
    for export in exports:
        if not export.get("survival"):
            continue
        found += [
            f"{export['to']}, {export['rows']} held-out rows, KL in nats per token of their"
            f" responses. {EXPLAINED}",
            "",
            f"| {' | '.join(HEAD)} |",
            f"|{' --- |' * len(HEAD)}",
            *(f"| {' | '.join(row)} |" for row in rows(export)),
            "",
            *(line for warning in export.get("warnings", []) for line in (warning, "")),
        ]
    return ["## Exported", "", *found] if found else []
