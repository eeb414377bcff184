"""What became of the data, as facts: the data doctor's findings for terminal, page and machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from dpo_lite.data.examples import KEPT, Reason

LENGTH_BIAS = 0.65  # a share of longer chosen responses beyond which length may be what is learned
SHOWN_DROPS = 3


@dataclass
class Drop:
    """Rows that share a reason: all their numbers (0 is the first), and some to look at.

    With several sources a row is written ``source:number``.
    """

    count: int = 0
    rows: list[int | str] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)


class Ledger:
    """Count and list what is left out, by reason; ``names`` are the sources' names by number."""

    def __init__(self, names: list[str], prefix: str = ""):
        self.names = names
        self.prefix = prefix
        self.entries: dict[str, Drop] = {}

    def add(self, reason: Reason, source: int, row: int, detail: str = "") -> None:
        drop = self.entries.setdefault(self.prefix + reason.value, Drop())
        label = row if len(self.names) == 1 else f"{self.names[source]}:{row}"
        drop.count += 1
        drop.rows.append(label)
        if len(drop.examples) < SHOWN_DROPS and detail:
            drop.examples.append({"row": label, "detail": detail[:200]})

    def wants_details(self, reason: Reason) -> bool:
        known = self.entries.get(self.prefix + reason.value)
        return known is None or len(known.examples) < SHOWN_DROPS

    def merged(self, others: Iterable[Ledger]) -> dict[str, Drop]:
        """The entries of this one and the others, the most frequent reason first."""
        every = dict(self.entries)
        for other in others:
            every |= other.entries
        return dict(sorted(every.items(), key=lambda item: -item[1].count))


@dataclass
class DataReport:
    """Plain data. ``lengths`` are of what is trained on, in ``unit``; ``chosen_longer`` is the
    share of pairs of unequal length in which the chosen response is the longer one."""

    source: str
    format: str
    format_why: str
    unit: str
    rows: int
    kept: int
    dropped: dict[str, Drop]
    evals: dict[str, int]
    max_length: int | None
    responses: dict[str, int]
    lengths: dict[str, dict[str, Any]]
    chosen_longer: float | None
    shared_saving: float
    melted: int
    folded: int
    contradicting: int
    examples: list[dict[str, Any]]
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lost(self, reason: str) -> bool:
        """Whether an entry of ``dropped`` tells of rows lost, not of rows kept but changed."""
        return not reason.endswith(tuple(kept.value for kept in KEPT))

    @property
    def prompts_alone(self) -> bool:
        """Whether no example has a response: the policy is to answer by itself."""
        return self.responses["most"] == 0

    @property
    def notes(self) -> list[str]:
        """What the user should know before training, one sentence each."""
        notes = []
        share = 0.5 if self.chosen_longer is None else self.chosen_longer
        if max(share, 1 - share) > LENGTH_BIAS:
            longer = "longer" if share > 0.5 else "shorter"
            notes.append(
                f"the chosen response is {longer} in {max(share, 1 - share):.0%} of the pairs: the "
                "model may learn length instead of what you prefer (`dpo-lite score` tells "
                "afterwards how often the longer one wins)"
            )
        if self.contradicting:
            notes.append(
                f"{self.contradicting:,} pairs stand in the data the other way round too, with the "
                "same prompt: they cancel each other"
            )
        if self.melted:
            notes.append(
                f"in {self.melted:,} rows prompt and response share a token; they were split where "
                "the model's answer starts"
            )
        if self.folded:
            notes.append(
                f"in {self.folded:,} rows the system message was put in front of the user's, since "
                "the chat template knows none"
            )
        if not self.evals:
            notes.append("nothing is held out; name data.eval, or give more prompts")
        return notes
