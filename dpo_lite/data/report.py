"""What became of the data, as facts: the data doctor's findings for terminal, page and machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpo_lite.data.examples import KEPT, Reason
from dpo_lite.data.thoughts import thought_notes
from dpo_lite.rates import FEWEST, wilson

LENGTH_BIAS = 0.65  # a share of longer chosen responses beyond which length may be what is learned
ECHOED = 0.5  # a share of rows beyond which it is no chance ("Hello" is answered with "Hello")
SHOWN_DROPS = 3
OWN = "held_out"  # the name of the set that is taken from the training data itself
ENOUGH = 40  # held-out examples that are proposed where there are fewer than a rate needs


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
    """Plain data. ``evals``: rows that are scored of each held-out set, and ``drawn_from`` how many
    it has, where that is more; ``lengths`` are of what is trained on, in ``unit``;
    ``chosen_longer`` is the share of pairs of unequal length in which the chosen response is the
    longer one; ``echoes`` counts rows whose answers repeat the prompt, ``thoughts`` rows by what
    they have of reasoning; ``labels`` answers that are good and bad by themselves, as
    ``findings.labels_of`` counts them."""

    source: str
    format: str
    format_why: str
    unit: str
    rows: int
    kept: int
    dropped: dict[str, Drop]
    evals: dict[str, int]
    drawn_from: dict[str, int]
    max_length: int | None
    responses: dict[str, int]
    lengths: dict[str, dict[str, Any]]
    chosen_longer: float | None
    shared_saving: float
    melted: int
    folded: int
    contradicting: int
    echoes: int
    thoughts: dict[str, int]
    examples: list[dict[str, Any]]
    fingerprint: str
    labels: dict[str, int] = field(default_factory=dict)
    remade: list[str] = field(default_factory=list)  # kept tables that were damaged

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
        notes = list(self.remade)
        share = 0.5 if self.chosen_longer is None else self.chosen_longer
        if max(share, 1 - share) > LENGTH_BIAS:
            longer = "longer" if share > 0.5 else "shorter"
            notes.append(
                f"the chosen response is {longer} in {max(share, 1 - share):.0%} of the pairs: the "
                "model may learn length instead of what you prefer (`dpo-lite score` tells "
                "afterwards how often the longer one wins)"
            )
        if self.labels:
            notes += self._of_labels()
        elif self.contradicting:
            notes.append(
                f"{self.contradicting:,} pairs stand in the data the other way round too, with the "
                "same prompt: they cancel each other"
            )
        if self.melted:
            notes.append(
                f"in {self.melted:,} of {self.kept:,} rows prompt and response share a token; they "
                "were split where the model's answer starts"
            )
        if self.folded:
            notes.append(
                f"in {self.folded:,} of {self.kept:,} rows the system message was put in front of "
                "the user's, since the chat template knows none"
            )
        if self.echoes > ECHOED * self.kept:
            notes.append(
                f"in {self.echoes:,} of {self.kept:,} rows every answer begins with its prompt, "
                "and repeating it would be learned; data.strip_prompt=true takes it off"
            )
        notes += thought_notes(self.thoughts, self.kept)
        if not self.evals:
            notes.append("nothing is held out; name data.eval, or give more prompts")
        few = {name: count for name, count in self.evals.items() if count < FEWEST}
        return notes + [self._too_few(name, count) for name, count in few.items()]

    def _of_labels(self) -> list[str]:
        """What there is to say where answers are good or bad by themselves."""
        notes = []
        if self.labels["of_pairs"]:
            notes.append(
                "the data are pairs, each taken apart: its preferred answer is a good example and "
                "its rejected one a bad one, by themselves"
            )
        for kind in ("good", "bad"):
            if not self.labels[kind]:
                notes.append(
                    f"no answer is labelled {kind}, so only the other kind is learned from"
                )
        if self.contradicting:
            notes.append(
                f"{self.contradicting:,} answers stand in the data as good and as bad, with the "
                "same prompt: they cancel each other"
            )
        return notes

    def _too_few(self, name: str, count: int) -> str:
        """What so few held-out rows are worth, and how there are more."""
        plural = "s" * (count != 1)
        text = (
            f"{count:,} held-out example{plural} of {set_words(name)} {'are' if plural else 'is'} "
            "too few to tell anything: even with every one right the true rate could be "
            f"{wilson(1.0, count)[0]:.0%}"
        )
        if name in self.drawn_from:
            return f"{text}; eval.limit leaves {self.drawn_from[name] - count:,} out"
        whole = self.kept + self.evals.get(OWN, 0)
        share = math.ceil(20 * ENOUGH / whole) / 20
        if share > 0.5:
            return f"{text}; name more held-out data by data.eval"
        return f"{text}; data.eval_share={share:g} holds out about {share * whole:,.0f}"


def set_words(name: str) -> str:
    return "the training prompts" if name == OWN else name


def held_out_words(evals: Mapping[str, int], drawn_from: Mapping[str, int]) -> str:
    """What is held out, a clause for each set."""
    clauses = [
        f"{count:,} of {drawn_from[name]:,} {name}" if name in drawn_from else f"{count:,} {name}"
        for name, count in evals.items()
    ]
    text = ", ".join(clauses).replace(f" {OWN}", " of the training prompts") or "nothing"
    return f"{text} (drawn by train.seed)" if drawn_from else text
