"""What became of the data: facts for machines, and the same facts for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

LENGTH_BIAS = 0.65
SHOWN_CHARACTERS = 400


@dataclass
class DataReport:
    """Plain data; ``dropped`` maps a reason to the numbers of the rows (0 is the first)."""

    source: str
    format: str
    rows: int
    kept: int
    dropped: dict[str, list[int]]
    evals: dict[str, int]
    max_length: int
    lengths: dict[str, dict[str, float]]
    chosen_longer: float
    shared_saving: float
    melted: int
    examples: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def render(self, console: Console) -> None:
        """Print the format, three examples with the trained tokens coloured, and what was lost."""
        held = ", ".join(f"{name} {count:,}" for name, count in self.evals.items())
        console.print(
            f"data       {self.source}: format {self.format}, {self.kept:,} of {self.rows:,} rows "
            f"kept; held out: {held}",
            highlight=False,
            markup=False,
        )
        p, c, r = (self.lengths[key] for key in ("prompt", "chosen", "rejected"))
        console.print(
            f"lengths    median tokens: prompt {p['median']:.0f}, chosen {c['median']:.0f}, "
            f"rejected {r['median']:.0f}; limit {self.max_length}; sharing prompts saves "
            f"{self.shared_saving:.0%} of the tokens",
            highlight=False,
            markup=False,
        )
        if self.dropped:
            table = Table(box=None, pad_edge=False, padding=(0, 2))
            table.add_column("dropped", justify="right")
            table.add_column("why")
            table.add_column("rows", style="dim")
            for reason, rows in sorted(self.dropped.items(), key=lambda item: -len(item[1])):
                some = ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")
                table.add_row(f"{len(rows):,}", reason, some)
            console.print(table)
        if not 1 - LENGTH_BIAS <= self.chosen_longer <= LENGTH_BIAS:
            console.print(
                f"note       the chosen response is longer in {self.chosen_longer:.0%} of the "
                "pairs: the policy may learn length",
                style="yellow",
                highlight=False,
            )
        if self.melted:
            console.print(
                f"note       in {self.melted:,} rows prompt and response share a token; they were "
                "split where the model's answer starts",
                highlight=False,
            )
        console.print()
        for example in self.examples:
            console.print(_rendered(example))
        console.print("(coloured: the tokens that are trained)", style="dim")


def _rendered(example: dict[str, Any]) -> Text:
    text = Text()
    text.append(_short(example["prompt"]) + "\n", style="dim")
    names = ["preferred", "rejected"]
    for place, answer in enumerate(example["responses"]):
        name = names[place] if len(example["responses"]) == 2 else f"rank {place + 1}"
        text.append(f"  {name:<10}")
        text.append(_short(answer) + "\n", style="green" if place == 0 else "red")
    return text


def _short(text: str) -> str:
    """Keep the end of a long text, where prompt and response meet; newlines visible."""
    text = text.replace("\n", "⏎")
    return text if len(text) <= SHOWN_CHARACTERS else "… " + text[-SHOWN_CHARACTERS:]
