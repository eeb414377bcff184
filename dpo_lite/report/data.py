"""The data report on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpo_lite.data.report import DataReport, held_out_words
from dpo_lite.report.words import bars, counted, label_words

SHOWN_CHARACTERS = 400
SHOWN_ROWS = 8
LABELS = {True: "good", False: "bad"}


def print_report(report: DataReport, console: Console) -> None:
    """Print the format, the lengths, what was lost, and examples with the trained part coloured."""
    facts = Table.grid(padding=(0, 1, 0, 0))
    facts.add_column(width=10)
    facts.add_column()
    for name, text in _facts(report):
        facts.add_row(name, Text(text))
    for note in report.notes:
        facts.add_row("note", Text(note), style="yellow")
    console.print(facts)
    if report.dropped:
        console.print()
        console.print(_dropped(report))
    for example in report.examples:
        console.print()
        console.print(_example(example))
    if not report.prompts_alone:
        console.print(f"(coloured: the {report.unit} that are trained on)", style="dim")


def print_brief(report: DataReport, console: Console) -> None:
    """The same for one who waits for the training: what is trained, what is lost, one example."""
    facts = Table.grid(padding=(0, 1, 0, 0))
    facts.add_column(width=10)
    facts.add_column()
    lines = dict(_facts(report))
    middle = ", ".join(f"{name} {f['median']:,.0f}" for name, f in report.lengths.items())
    limit = f", at most {report.max_length:,}" if report.max_length is not None else ""
    facts.add_row("data", Text(lines["data"]))
    facts.add_row("", Text(f"{report.format}; held out {lines['held out']}"))
    facts.add_row("lengths", Text(f"median {middle} {report.unit}{limit}"))
    for note in report.notes:
        facts.add_row("note", Text(note), style="yellow")
    for reason, drop in report.dropped.items():
        facts.add_row("dropped", Text(f"{drop.count:,}: {reason}"))
    console.print(facts)
    for example in report.examples[:1]:
        console.print()
        console.print(_example(example))


def _facts(report: DataReport) -> list[tuple[str, str]]:
    things = counted(report.kept, "prompt" if report.prompts_alone else "example")
    lines = [
        ("data", f"{report.source}: {counted(report.rows, 'row')}, {things} to train on"),
        ("format", f"{report.format} ({report.format_why})"),
        ("held out", held_out_words(report.evals, report.drawn_from)),
        ("responses", _responses(report)),
    ]
    for place, (name, facts) in enumerate(report.lengths.items()):
        lines.append(
            (
                "lengths" if place == 0 else "",
                f"{name:<9} {bars(facts['histogram']['counts'])}  median {facts['median']:,.0f}, "
                f"90 % under {facts['p90'] + 1:,}, longest {facts['max']:,} {report.unit}",
            )
        )
    if report.max_length is not None:
        of = " of a prompt" if report.prompts_alone else ""
        lines.append(("limit", f"{report.max_length:,} {report.unit}{of} (data.max_length)"))
    if report.chosen_longer is not None:
        lines.append(("longer", f"the chosen response in {report.chosen_longer:.0%} of the pairs"))
    return lines


def _responses(report: DataReport) -> str:
    if report.labels:
        return label_words(report.labels)
    if report.prompts_alone:
        return "none: the policy answers by itself"
    few, many = report.responses["fewest"], report.responses["most"]
    return (
        f"{few if few == many else f'{few} to {many}'} per prompt; sharing prompts saves "
        f"{report.shared_saving:.0%} of the {report.unit}"
    )


def _dropped(report: DataReport) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("dropped", justify="right")
    table.add_column("why", ratio=3)
    table.add_column("rows (0 is the first)", style="dim", ratio=3, overflow="fold")
    for reason, drop in report.dropped.items():
        some = ", ".join(map(str, drop.rows[:SHOWN_ROWS]))
        some += ", …" if drop.count > SHOWN_ROWS else ""
        style = None if report.lost(reason) else "dim"
        why = Text(reason)
        for example in drop.examples[:1]:
            why.append(f"\n  {example['row']}: {start_of(example['detail'], 90)}", style="dim")
        table.add_row(f"{drop.count:,}", why, some, style=style)
    return table


def _example(example: dict[str, Any]) -> Text:
    text = Text()
    text.append(f"row {example['row']}\n", style="bold")
    text.append(end_of(example["prompt"]), style="dim")
    for place, answer in enumerate(example["responses"]):
        good = example.get("desirable")
        label = _label(place, len(example["responses"])) if good is None else LABELS[good]
        text.append(f"\n  {label:<10}")
        text.append(start_of(answer), style="red" if place or good is False else "green")
    return text


def _label(place: int, count: int) -> str:
    if count == 1:
        return "response"
    return ("preferred", "rejected")[place] if count == 2 else f"rank {place + 1}"


def start_of(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """The beginning of a long response."""
    text = _printable(text)
    return text if len(text) <= most else text[:most] + " …"


def end_of(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """The end of a long prompt, where the response begins."""
    text = _printable(text)
    return text if len(text) <= most else "… " + text[-most:]


def _printable(text: str) -> str:
    """Newlines visible, and nothing that moves a terminal's cursor or turns its text around."""
    shown = text.replace("\n", "⏎").replace("\t", " ")
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)
