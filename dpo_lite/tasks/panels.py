"""What is drawn of a run while it trains, on the page and in curves.png: one table of panels.

A task lists the panels that it has; nothing else knows which curves belong to which task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from dpo_lite.advice.preference import HAIR


@dataclass(frozen=True)
class Panel:
    """Curves over each other: of ``keys`` the second is drawn dashed, the third dotted.

    ``where``: on the page, in the picture, or in both. ``legend`` stands for the title on the page,
    where no line is named otherwise; ``empty`` where there is no curve yet; ``note``: what must be
    known to read the curve, from the logged updates and the word for one. ``each``: what gives the
    name of a metric that the panel is of, empty for others: it stands for a panel of each metric
    that was logged and has a name (see ``unfolded``). Panels of several tasks
    that are equal but for where they stand are one, in which runs of all of them are drawn.
    """

    title: str
    keys: tuple[str, ...]
    where: Literal["page", "picture", "both"] = field(default="page", compare=False)
    legend: str = ""
    zero: bool = False  # whether 0 belongs into the picture
    top: float | None = None
    noisy: bool = True  # whether a running mean says more than the measurement
    always: bool = True  # also where nothing was measured, or the same from first to last
    empty: str = field(default="nothing yet", compare=False)
    note: Callable[[Sequence[Mapping[str, Any]], str], str] | None = None
    each: Callable[[str], str] | None = None

    @property
    def on_page(self) -> bool:
        return self.where != "picture"

    @property
    def in_picture(self) -> bool:
        return self.where != "page"


def unfolded(panels: Iterable[Panel], logged: Iterable[str]) -> list[Panel]:
    """The panels, with one for each metric of a panel that stands for many; ``logged``: all
    metrics there are."""
    found: list[Panel] = []
    for panel in panels:
        if panel.each is None:
            found.append(panel)
            continue
        for key in logged:
            if name := panel.each(key):
                title = f"{panel.title} {name}"
                found.append(replace(panel, title=title, keys=(key,), each=None))
    return found


def part_of(key: str) -> str:
    """The name of the reward whose mean over a rollout a metric is; empty for any other metric."""
    name = key.removeprefix("rewards/").removesuffix("/mean")
    return name if key == f"rewards/{name}/mean" else ""


def accuracy_note(records: Sequence[Mapping[str, Any]], unit: str, things: str = "pairs") -> str:
    """Of how many pairs each point is, and up to where they are told apart by a hair alone.

    Right from the first updates on is an accuracy of 100 % where all rewards are next to 0 yet.
    """
    measured = [r for r in records if "rewards/accuracies" in r and "rewards/margins" in r]
    counts = [r["pairs"] for r in measured if "pairs" in r]
    words = []
    if counts:
        few, many = min(counts), max(counts)
        words.append(f"{few if few == many else f'{few} to {many}'} {things} a point")
    if measured:
        wide = (r["step"] for r in measured if abs(r["rewards/margins"]) >= HAIR)
        step = next(wide, None)
        until = "to the end" if step is None else f"before {unit} {step:,}"
        words.append(f"by a hair (margin < {HAIR:g}) {until}")
    return "; ".join(words)


LOSS = Panel("loss", ("loss",), "both")
MARGIN = Panel("reward margin", ("rewards/margins",), zero=True)
ACCURACY = Panel(
    "reward accuracy",
    ("rewards/accuracies",),
    "both",
    legend="accuracy",
    zero=True,
    top=1.0,
    note=accuracy_note,
)
RIGHT_SIDE = replace(
    ACCURACY,
    title="answers on their side of z₀",
    legend="right side",
    note=partial(accuracy_note, things="answers"),
)
REFERENCE_POINT = Panel(
    "reference point z₀, nats",
    ("kl", "kl/sampled"),
    legend="z₀ from mismatched pairs; KL from drawn answers (dashed)",
    zero=True,
)
REWARDS = Panel(
    "rewards",
    ("rewards/chosen", "rewards/rejected"),
    legend="rewards: chosen, rejected (dashed)",
    zero=True,
)
LOGPS = Panel(
    "log-probability of a response",
    ("logps/chosen", "logps/rejected"),
    "both",
    legend="log-prob: chosen, rejected (dashed)",
)
LIKELIHOOD = Panel("log-probability of a demonstration", ("logps/chosen",), "picture")
KL = Panel(
    "KL to the reference, nats",
    ("kl",),
    zero=True,
    noisy=False,
    empty="set eval.sample_steps to measure it",
)
REWARD_PARTS = Panel("reward by", (), "both", always=False, each=part_of)
LEARNING_RATE = Panel("learning rate", ("learning_rate",), "both", zero=True, noisy=False)
MEMORY = Panel("memory, GiB", ("memory",), zero=True, noisy=False)


# What the terminal shows of pairs, each as one line of blocks.
IN_SMALL = (
    "loss",
    "rewards/margins",
    "rewards/accuracies",
    "rewards/chosen",
    "rewards/rejected",
)


def all_rewards(title: str) -> Panel:
    """Chosen, rejected and their margin in one panel of the picture."""
    keys = ("rewards/chosen", "rewards/rejected", "rewards/margins")
    return Panel(title, keys, "picture")
