"""The audit of pairs in words and as a picture: which feature orders how many as the labels do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpo_lite.data.doubts import SURE, Doubts, Reason
from dpo_lite.data.shortcuts import TOGETHER, Shortcut
from dpo_lite.rates import EXPLAINED
from dpo_lite.report.data import end_of, start_of
from dpo_lite.report.pictures import panels
from dpo_lite.report.words import counted

HEAD = ("feature", "the better one by it", "labels that follow", "pairs it tells apart")
SHOWN_CHARACTERS = 160
ALARMING = 0.6  # an interval that lies above it is told of in a sentence


def shortcut_rows(found: Sequence[Shortcut]) -> list[tuple[str, ...]]:
    """Cells under HEAD."""
    return [
        (
            shortcut.name,
            shortcut.points if shortcut.rate else "–",
            shortcut.rate.words() if shortcut.rate else "none",
            f"{shortcut.pairs:,}",
        )
        for shortcut in found
    ]


def audit_words(found: Sequence[Shortcut], doubts: Doubts, pairs: int) -> list[str]:
    """What the table means, a sentence each."""
    lines = [
        "Each feature was learned from some prompts and tried on others, so 50 % is chance; n"
        f" counts prompts. {EXPLAINED}"
    ]
    for shortcut in found:
        rate = shortcut.rate
        if rate and rate.above(ALARMING) and shortcut.name != TOGETHER:
            lines.append(
                f"{rate.share:.0%} of the labels follow from the {shortcut.name} alone where it"
                f" differs ({shortcut.pairs:,} of {pairs:,} pairs): a policy may learn that"
                " in place of what is preferred."
            )
    return [*lines, doubts_words(doubts)]


def doubts_words(doubts: Doubts) -> str:
    """What the small model of the words has to say of the labels."""
    if not doubts.told:
        share = f" ({doubts.accuracy.words()} right)" if doubts.accuracy else ""
        return (
            f"A small model of the words cannot tell chosen from rejected{share}, so it doubts no"
            " label."
        )
    words = f"A small model of the words is right in {doubts.accuracy.words()}. "
    if not doubts.sure:
        return f"{words}It is sure of no pair ({SURE:.0%} or more), so it doubts no label."
    return (
        f"{words}Of {counted(doubts.sure, 'pair')} that it is sure of ({doubts.threshold:.0%} or"
        f" more) the label says the other way in {len(doubts.doubtful):,}: wrong labels, or where"
        " words mislead. Look at them before you drop any."
    )


def why_words(other_way: float, reasons: Sequence[Reason]) -> str:
    """Why one label is doubted; ``other_way``: the probability that the other one is right."""
    words = f"By the other prompts' answers it is {other_way:.0%} likely to be the other way round."
    for of_rejected, what in (
        (True, "For the rejected answer speaks"),
        (False, "Against the chosen one speaks"),
    ):
        if told := [reason.what for reason in reasons if reason.of_rejected == of_rejected]:
            words += f" {what} {', '.join(told)}."
    return words


def print_audit(
    found: Sequence[Shortcut],
    doubts: Doubts,
    doubted: Sequence[Mapping[str, Any]],
    pairs: int,
    console: Console,
) -> None:
    """Print the table, what it means, and the most doubted pairs."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in HEAD:
        table.add_column(title)
    for cells in shortcut_rows(found):
        table.add_row(*map(Text, cells))
    console.print()
    console.print(table)
    for line in audit_words(found, doubts, pairs):
        console.print(Text(line))
    for pair in doubted:
        text = Text(f"row {pair['row']}: {pair['other_way']:.0%} the other way\n", style="bold")
        text.append(end_of(pair["prompt"], SHOWN_CHARACTERS), style="dim")
        for label, style in (("chosen", "green"), ("rejected", "red")):
            text.append(f"\n  {label:<9}")
            text.append(start_of(pair[label], SHOWN_CHARACTERS), style=style)
        console.print(text)


def dropped_words(facts: Mapping[str, Any], out: Path) -> str:
    return (
        f"{out}: {facts['kept']:,} of {facts['rows']:,} rows of {facts['parent']};"
        f" {facts['dropped']:,} doubtful ones left out, listed in {out.name}.json."
    )


def decided_words(facts: Mapping[str, Any], out: Path) -> str:
    """What was written after a look; ``facts`` stand beside the file."""
    left = facts.get("doubtful_not_looked_at", 0)
    unseen = (
        f" {counted(left, 'doubtful row')} nobody looked at, kept as they were." if left else ""
    )
    return (
        f"{out}: {facts['kept']:,} of {facts['rows']:,} rows of {facts['parent']};"
        f" {facts['dropped']:,} dropped, {facts['flipped']:,} turned round,"
        f" {len(facts['kept_rows']):,} kept after a look, listed in {out.name}.json.{unseen}"
    )


def draw_shortcuts(found: Sequence[Shortcut], source: str, file: Path) -> None:
    """A bar for each feature, with its interval and the half that is chance."""
    shown = [shortcut for shortcut in found if shortcut.rate]
    with panels(file, 1, 1, (6.4, 0.6 + 0.5 * max(len(shown), 2))) as (_, axes):
        axis = axes.flat[0]
        shares = [s.rate.share for s in shown]
        ends = [s.rate.interval for s in shown]
        below = [max(0.0, share - low) for share, (low, _) in zip(shares, ends, strict=True)]
        above = [max(0.0, high - share) for share, (_, high) in zip(shares, ends, strict=True)]
        places = range(len(shown))
        axis.barh(places, shares, xerr=[below, above], height=0.6, color="#5b8fc7", capsize=3)
        axis.axvline(0.5, color="0.4", linewidth=0.8, linestyle="--")
        names = [f"{s.name}: {s.points}" if s.name != TOGETHER else s.name for s in shown]
        axis.set_yticks(places, names, fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.xaxis.set_major_formatter(lambda share, place: f"{share:.0%}")
        axis.set_xlabel("labels that follow from it, where it differs")
        axis.set_title(source, fontsize=10)
