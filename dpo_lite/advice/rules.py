"""What the rules of the advice look at, and what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lite.objectives.losses import LOSSES
from dpo_lite.rates import LOGGED_OF, Rate, logged_rate, pooled


@dataclass(frozen=True)
class Advice:
    """A sentence or two, and how good the news is: info, good, warn or bad."""

    kind: str
    text: str


@dataclass(frozen=True)
class Curves:
    """What the rules look at."""

    recipe: Mapping[str, Any]
    status: Mapping[str, Any]
    steps: Sequence[Mapping[str, float]]  # one per logged update
    evals: Mapping[str, Mapping[str, list[tuple[int, float]]]]  # set -> metric -> points
    sets: Mapping[str, Mapping[str, Any]]  # what results.json says of each held-out set

    def train(self, key: str) -> Any:
        return self.recipe["train"][key]

    def ppo(self, key: str) -> Any:
        return self.recipe["ppo"][key]

    def end(self, key: str) -> float | None:
        """Mean over the last tenth of the updates, at least five."""
        values = [s[key] for s in self.steps if s.get(key) is not None]
        tail = values[-max(5, len(values) // 10) :]
        return sum(tail) / len(tail) if tail else None

    def end_rate(self, key: str) -> Rate | None:
        """A share over the same updates, of all that it is of in them where that is logged."""
        measured = [s for s in self.steps if s.get(key) is not None]
        tail = [logged_rate(s, key) for s in measured[-max(5, len(measured) // 10) :]]
        share = self.end(key)
        return None if share is None else pooled(tail) or Rate(share)

    def held_out(self, key: str) -> dict[str, Rate]:
        """The last measurement of a share on each held-out set."""
        rates = {}
        for name, points in self.evals.items():
            if points.get(key):
                of = [n for step, n in points.get(LOGGED_OF[key], []) if step == points[key][-1][0]]
                known = of and math.isfinite(of[-1])
                rates[name] = Rate(points[key][-1][1], int(of[-1]) if known else None)
        return rates

    def start(self, key: str) -> float | None:
        values = [s[key] for s in self.steps if s.get(key) is not None]
        return sum(values[:3]) / len(values[:3]) if values else None

    @property
    def loss(self) -> float:
        """At the end: every update that is logged has one."""
        loss = self.end("loss")
        assert loss is not None
        return loss

    @property
    def share(self) -> float:
        """How much of the run is behind it, 0 to 1."""
        if self.status.get("state") == "finished":  # it may have ended before its last update
            return 1.0
        last = self.steps[-1]["step"] if self.steps else 0
        return last / max(self.status.get("max_steps") or last or 1, 1)

    @property
    def is_logistic(self) -> bool:
        """Whether ln 2 is the loss of a model that cannot tell a pair apart."""
        return LOSSES[self.train("loss")].logistic


Rule = Callable[[Curves], Advice | None]
