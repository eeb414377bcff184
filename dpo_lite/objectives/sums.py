"""A sum of registered losses with weights, as `train.loss` names it: 0.8 sigmoid + 0.2 bco_pair.

Mixed preference optimisation is such a sum of a preference, a quality and a generation loss (MPO,
Wang et al. 2024, arXiv:2411.10442, Eq. 1). The generation loss is the SFT term, whose weight has a
key of its own. All parts score the same rewards with the same beta. No torch in this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_lite.objectives.losses import LOSSES, Loss

MOST = 1000.0  # a weight
SFT = "sft"  # what the SFT term is called among the parts


@dataclass(frozen=True)
class Sum(Loss):
    """``parts``: weight and loss of each."""

    parts: tuple[tuple[float, Loss], ...] = ()

    def __call__(self, rewards: Any, **others: Any) -> Any:
        return sum(weight * loss(rewards, **others) for weight, loss in self.parts)


def parts_of(value: Any) -> dict[str, float]:
    """The parts that a recipe's value names: a mapping, or `0.8 sigmoid + 0.2 bco_pair`.

    A part without a weight has 1. Raises ValueError in a clause where it is no such thing.
    """
    if isinstance(value, Mapping):
        parts = [(str(name), weight) for name, weight in value.items()]
    else:
        parts = []
        for part in str(value).split("+"):
            weight, _, name = part.replace("*", " ").strip().rpartition(" ")
            parts.append((name, weight.strip() or 1.0))
    weights: dict[str, float] = {}
    for name, weight in parts:
        if name not in LOSSES and name != SFT:
            known = ", ".join([*LOSSES, SFT])
            raise ValueError(f"train.loss: there is no loss {name[:40]!r}; it may be {known}")
        if name in weights:
            raise ValueError(f"train.loss: {name} stands in the sum more than once")
        weights[name] = _weight(name, weight)
    if not set(weights) - {SFT}:
        raise ValueError("train.loss: a sum needs a loss besides sft; for sft alone: task: sft")
    return weights


def _weight(name: str, weight: Any) -> float:
    try:
        number = float(weight) if not isinstance(weight, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number <= MOST:
        raise ValueError(f"train.loss: the weight of {name} must be above 0 and at most {MOST:g}")
    return number


def written(weights: Mapping[str, float]) -> str:
    """The sum's name without the SFT term; that of one loss of weight 1 is the loss's own."""
    terms = [(name, weight) for name, weight in weights.items() if name != SFT]
    if len(terms) == 1 and terms[0][1] == 1:
        return terms[0][0]
    return " + ".join(f"{weight:g} {name}" for name, weight in terms)


def summands(loss: Loss) -> tuple[tuple[float, Loss], ...]:
    """Weight and loss of each part; one of weight 1 where it is no sum."""
    return loss.parts if isinstance(loss, Sum) else ((1.0, loss),)


def sum_named(name: str) -> Sum:
    """The loss that ``written`` gave that name. Raises ValueError where the parts do not go
    together: they share their rewards, so all are of one kind."""
    weights = parts_of(name)
    weights.pop(SFT, None)
    parts = tuple((weight, LOSSES[part]) for part, weight in weights.items())
    losses = [loss for _, loss in parts]
    first = losses[0]
    for loss in losses:
        for kind, words in (
            ("per_token", "rewards per token"),
            ("reference_free", "no reference"),
            ("listwise", "whole rankings"),
        ):
            if getattr(loss, kind) != getattr(first, kind):
                has, lacks = (loss, first) if getattr(loss, kind) else (first, loss)
                raise ValueError(
                    f"train.loss: {has.name} has {words} and {lacks.name} has not, so they are no"
                    " sum of one reward"
                )
    smoothing = {loss.smoothing for loss in losses}
    return Sum(
        name=name,
        function="",
        formula=" + ".join(f"{weight:g}·[{loss.formula}]" for weight, loss in parts),
        source="; ".join(dict.fromkeys(loss.source for loss in losses)),
        beta=first.beta,
        sft_weight=sum(weight * loss.sft_weight for weight, loss in parts),
        options={key: value for loss in losses for key, value in loss.options.items()},
        per_token=first.per_token,
        listwise=first.listwise,
        reference_free=first.reference_free,
        smoothing=next(s for s in ("required", "optional", "none") if s in smoothing),
        trl=all(loss.trl for loss in losses),
        trl_smooths=all(loss.trl_smooths or loss.smoothing == "none" for loss in losses),
        parts=parts,
    )
