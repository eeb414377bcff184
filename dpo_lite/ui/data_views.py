"""The data doctor's report as HTML, from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpo_lite.data.report import held_out_words
from dpo_lite.report.words import counted, label_words
from dpo_lite.ui.parts import esc, note, table

Report = Mapping[str, Any]
SHOWN_ROWS = 12
WIDTH, HEIGHT = 300, 84  # of one histogram


def doctor_report(report: Report) -> str:
    """Everything but the examples: facts, notes, lengths, what was dropped."""
    notes = "".join(note(text, "warn") for text in report.get("notes", []))
    return (
        f'<div class="dl-card dl-outcome"><dl class="dl-lines">{_facts(report)}</dl>{notes}</div>'
        f'<h2 class="dl-title">Lengths in {esc(report["unit"])}</h2>{histograms(report)}'
        f'<h2 class="dl-title">What was left out</h2>{_dropped(report)}'
    )


def _facts(report: Report) -> str:
    few, many = report["responses"]["fewest"], report["responses"]["most"]
    rows = counted(report["rows"], "row")
    facts = {
        "data": f"{report['source']}: {rows}, {report['kept']:,} to train on",
        "format": f"{report['format']} ({report['format_why']})",
        "responses": f"{few if few == many else f'{few} to {many}'} per prompt"
        if many
        else "none: the policy answers by itself",
        "held out": held_out_words(report["evals"], report["drawn_from"]),
    }
    if labels := report.get("labels"):
        facts["responses"] = label_words(labels)
    if report["max_length"] is not None:
        facts["limit"] = f"{report['max_length']:,} {report['unit']} (data.max_length)"
    if report["chosen_longer"] is not None:
        facts["longer"] = f"the preferred response in {report['chosen_longer']:.0%} of the pairs"
    return "".join(f"<dt>{esc(name)}</dt><dd>{esc(text)}</dd>" for name, text in facts.items())


def histograms(report: Report) -> str:
    """One small chart per part, on one scale of lengths and one of counts."""
    parts = report["lengths"]
    most = max(max(facts["histogram"]["counts"]) for facts in parts.values()) or 1
    charts = (
        _histogram(place, name.replace("chosen", "preferred"), facts, most, report["unit"])
        for place, (name, facts) in enumerate(parts.items(), 1)
    )
    return f'<div class="dl-histograms">{"".join(charts)}</div>'


def _histogram(place: int, name: str, facts: Mapping[str, Any], most: int, unit: str) -> str:
    edges, counts = facts["histogram"]["edges"], facts["histogram"]["counts"]
    top = edges[-1] - edges[0] or 1
    bars = []
    for start, end, count in zip(edges, edges[1:], counts, strict=False):
        last = end == edges[-1]
        label = (
            f"{start:,} {'and more' if last else f'to {end - 1:,}'} {unit}: {counted(count, 'row')}"
        )
        left, width = WIDTH * (start - edges[0]) / top, WIDTH * (end - start) / top
        tall = HEIGHT * count / most
        bars.append(
            f'<rect x="{left:.1f}" y="{HEIGHT - tall:.1f}" width="{max(width - 1, 1):.1f}"'
            f' height="{tall:.1f}"><title>{esc(label)}</title></rect>'
        )
    words = (
        f"median {facts['median']:,.0f}, 90 % under {facts['p90'] + 1:,}, longest {facts['max']:,}"
    )
    return (
        f"<figure><figcaption><b>{esc(name)}</b> {esc(words)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 14}" role="img"'
        f' aria-label="{esc(name)}: {esc(words)}"'
        f' style="--dl-bar-color: var(--dl-series-{place})">{"".join(bars)}'
        f'<line x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
        f'<text x="0" y="{HEIGHT + 12}">{edges[0]:,}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 12}" text-anchor="end">{edges[-1]:,}+</text>'
        "</svg></figure>"
    )


def _dropped(report: Report) -> str:
    if not report["dropped"]:
        return '<p class="dl-muted dl-small">Nothing: every row is used.</p>'
    rows = []
    for reason, drop in report["dropped"].items():
        numbers = ", ".join(map(str, drop["rows"][:SHOWN_ROWS]))
        more = f" and {drop['count'] - SHOWN_ROWS:,} more" if drop["count"] > SHOWN_ROWS else ""
        example = drop["examples"][0]["detail"] if drop["examples"] else ""
        rows.append((f"{drop['count']:,}", reason, numbers + more, example))
    return table(("rows", "why", "which (0 is the first)", "for example"), rows)


def example(report: Report, place: int) -> str:
    """One example as the model reads it; what is trained on is coloured and underlined."""
    shown = report["examples"][place]
    count, label = len(shown["responses"]), shown.get("desirable")
    hint = "Underlined is what the model is trained on; the prompt is only read."
    if not count:
        hint = "The prompt alone: the policy answers it by itself."
    responses = "".join(
        f'<section class="dl-response dl-{"bad" if rank or label is False else "good"}">'
        f"<h3>{_label(rank, count, label)}</h3>"
        f'<div class="dl-text"><mark>{esc(text)}</mark></div></section>'
        for rank, text in enumerate(shown["responses"])
    )
    return (
        f'<div class="dl-example"><p class="dl-muted dl-small">Row {esc(shown["row"])}. {hint}</p>'
        f'<section><h3>prompt</h3><div class="dl-text">{esc(shown["prompt"])}</div></section>'
        f'<div class="dl-responses">{responses}</div></div>'
    )


def _label(rank: int, count: int, desirable: bool | None = None) -> str:
    if desirable is not None:
        return "good" if desirable else "bad"
    if count == 1:
        return "response"
    return (
        ("preferred", "rejected")[rank]
        if count == 2
        else f"rank {rank + 1}" + (" (preferred)" if rank == 0 else "")
    )
