"""The parts of the kit: what each shows, and how long it may take.

In the order in which they run: what would make all else worthless first, what takes long last. The
seconds are guesses for a card of 60 TFLOP/s until somebody has measured: a fixed part, and one that
goes with the card's speed. Without torch, as the page is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SHAPES = ("0.5b", "1.5b", "8b")
TINY = "tiny"  # the one shape of the small form
ASSUMED = 60.0  # TFLOP/s of the card that the seconds are for
SMALL_SECONDS = 20.0
Seconds = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """``look`` is ``module:function``, which yields figures; ``seconds`` by shape, "" for all."""

    letter: str
    name: str
    what: str
    look: str
    seconds: Mapping[str, Seconds] = field(default_factory=dict)

    @property
    def by_shape(self) -> bool:
        return "" not in self.seconds


@dataclass(frozen=True)
class Unit:
    """A part for one shape, or for all: what is run, kept and told on its own."""

    part: Part
    shape: str | None

    @property
    def name(self) -> str:
        return f"{self.part.name} {self.shape}" if self.shape else self.part.name

    def seconds(self, teraflops: float | None, small: bool) -> float:
        """How long it will take on a card of that speed."""
        if small:
            return SMALL_SECONDS
        fixed, scaled = self.part.seconds[self.shape or ""]
        return fixed + scaled * ASSUMED / (teraflops or ASSUMED)


def _in(module: str, function: str = "look") -> str:
    return f"benchmarks.gpu.{module}:{function}"


def _race(small: Seconds, middle: Seconds, large: Seconds) -> dict[str, Seconds]:
    return dict(zip(SHAPES, (small, middle, large), strict=True))


RACE = "against TRL's DPOTrainer, default and best setting,"
PARTS = (
    Part(
        "a",
        "environment",
        "what the card, its driver and the libraries are",
        _in("environment"),
        {"": (20, 0)},
    ),
    Part(
        "b",
        "attention",
        "fused attention says what the exact one says, and is faster",
        _in("attention"),
        {"": (30, 10)},
    ),
    Part(
        "c",
        "packing",
        "packed rows score as single ones, and no other branch moves a bit",
        _in("packing"),
        {"": (50, 10)},
    ),
    Part(
        "d",
        "four-bits",
        "gradients over NF4 are those over the numbers that it stands for",
        _in("four_bits"),
        {"": (35, 10)},
    ),
    Part(
        "e",
        "identity",
        "before the first update the policy is the reference",
        _in("identity"),
        {"": (35, 5)},
    ),
    Part(
        "f",
        "resume",
        "a run that is stopped and resumed ends where one does that is not",
        _in("resuming"),
        {"": (60, 0)},
    ),
    Part(
        "g",
        "out-of-memory",
        "where memory runs out the update is repeated rightly, and all memory comes back",
        _in("out_of_memory"),
        {"": (50, 10)},
    ),
    Part(
        "h",
        "peaks",
        "the peak of an update is the plan's, part by part",
        _in("peaks"),
        _race((35, 5), (35, 10), (45, 40)),
    ),
    Part(
        "i",
        "race-hh",
        f"{RACE} lengths like HH-RLHF's",
        _in("race", "hh"),
        _race((45, 25), (50, 30), (60, 130)),
    ),
    Part("k", "answers", "tokens per second of answers", _in("answers"), {"": (65, 20)}),
    Part("l", "rlhf", "an update of PPO and one of RLOO", _in("rlhf"), {"": (50, 20)}),
    Part("j", "longest", "the longest context that trains", _in("longest"), {"": (40, 110)}),
    Part(
        "i",
        "race-ultra",
        f"{RACE} lengths like UltraFeedback's",
        _in("race", "ultra"),
        _race((45, 10), (50, 20), (60, 80)),
    ),
    Part(
        "i",
        "race-long",
        f"{RACE} long prompts",
        _in("race", "long_prompts"),
        _race((45, 20), (50, 50), (60, 250)),
    ),
)


def units(shapes: Iterable[str], parts: Iterable[Part] | None = None) -> list[Unit]:
    """All that there is to run, in its order: the smaller shapes of a part first."""
    return [
        Unit(part, shape)
        for part in (PARTS if parts is None else parts)
        for shape in (shapes if part.by_shape else [None])
    ]


def named(words: Iterable[str], every: Iterable[Unit]) -> set[str]:
    """Names of the units that are asked for: by a part's letter, its name or the begin of it, or by
    the unit's own name. Raises ValueError where a word means none."""
    found: set[str] = set()
    for word in words:
        own = {
            unit.name
            for unit in every
            if word in (unit.part.letter, unit.name)
            or (len(word) > 1 and unit.part.name.startswith(word))
        }
        if not own:
            known = dict.fromkeys(f"{u.part.letter} {u.part.name}" for u in every)
            raise ValueError(f"there is no part {word}; the parts are {', '.join(known)}")
        found |= own
    return found
