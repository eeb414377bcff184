"""How far a run has drifted: its KL, its reward and the length of its answers, a sentence each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from dpo_lite.report.words import counted

SHARE = 5  # a fifth of the updates at each end is compared: single ones are noise
FEW = 5  # updates under which nothing is said
REWARDS = (("reward", "The reward"), ("rewards/margins", "The reward margin"))
LENGTH = "completions/mean_length"

Records = Sequence[Mapping[str, Any]]


def sentences(records: Records, samples: Records, unit: str, kl: str = "kl") -> list[str]:
    """Of lines of metrics.jsonl and samples.jsonl; what was not measured is not spoken of.

    ``kl``: the metric that is the KL to the reference.
    """
    found = [_kl(records, kl), _reward(records, unit), _length(records, samples, unit)]
    return [sentence for sentence in found if sentence]


def ends(records: Records, key: str) -> tuple[float, float] | None:
    """The mean of the first and of the last fifth of what was measured; None of too few."""
    values = [r[key] for r in records if isinstance(r.get(key), int | float)]
    values = [value for value in values if math.isfinite(value)]
    if len(values) < FEW:
        return None
    part = max(1, len(values) // SHARE)
    return fmean(values[:part]), fmean(values[-part:])


def _kl(records: Records, key: str) -> str:
    measured = [r[key] for r in records if isinstance(r.get(key), int | float)]
    if not measured:
        return ""
    last = measured[-1]
    if last < 0.1:
        return f"KL: the policy is where its reference is ({last:.2f} nats an answer)."
    pace = "and still moves away" if _rises(measured) else "and has come to rest"
    return f"KL: the policy is {last:.2f} nats an answer from its reference, {pace}."


def _rises(values: Sequence[float]) -> bool:
    """Whether the last fifth lies above the fifth before it by more than a tenth."""
    part = max(1, len(values) // SHARE)
    if len(values) < 2 * part or len(values) < FEW:
        return True
    return fmean(values[-part:]) > 1.1 * fmean(values[-2 * part : -part])


def _reward(records: Records, unit: str) -> str:
    for key, name in REWARDS:
        if found := ends(records, key):
            first, last = found
            verb = "rose" if last > first else "fell" if last < first else "stayed"
            return f"{name} {verb} from {first:+.2f} to {last:+.2f} (first and last {unit}s)."
    return ""


def _length(records: Records, samples: Records, unit: str) -> str:
    if found := ends(records, LENGTH):
        return _longer(*found, "tokens", f"first and last {unit}s")
    before = {s["prompt"]: s["answer"] for s in samples if s["when"] == "before"}
    now: dict[str, str] = {}
    for sample in samples:  # the latest answer to each prompt
        if sample["when"] in ("during", "after") and sample["prompt"] in before:
            now[sample["prompt"]] = sample["answer"]
    if not now:
        return ""
    first = fmean(len(before[prompt].split()) for prompt in now)
    last = fmean(len(answer.split()) for answer in now.values())
    return _longer(first, last, "words", f"{counted(len(now), 'prompt')}, before and now")


def _longer(first: float, last: float, unit: str, of: str) -> str:
    change = (last - first) / first if first else 0.0
    if abs(change) < 0.1:
        return f"Length: answers stay at about {last:.0f} {unit} ({of})."
    word = "longer" if change > 0 else "shorter"
    return f"Length: answers got {abs(change):.0%} {word}, {first:.0f} to {last:.0f} {unit} ({of})."
