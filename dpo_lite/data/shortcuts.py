"""How much of the labels follows from what nobody meant to prefer: length, marks, first words.

A policy learns the cheapest thing that tells chosen from rejected. Where the longer answer is the
chosen one in 78 % of the pairs, a reward of length alone is right in 78 % (Singhal et al. 2023,
arXiv:2310.03716). Every trivial feature is asked out of fold: which way it points is learned from
other prompts than those it is tried on, so data without a shortcut come to a half.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dpo_lite.data.linear import dense, folds_of, out_of_fold
from dpo_lite.rates import Rate

TOGETHER = "all of these"
FIRST = "first words"
PENALTY = 1.0

MARKDOWN = re.compile(r"^\s*(?:#{1,6} |[-*+] |\d+[.)] |> |\|)|\*\*|```|`[^`\n]+`", re.MULTILINE)
REFUSAL = re.compile(
    r"\bI(?: am|['’]m) (?:sorry|unable|not able|afraid I)"
    r"|\bI (?:can(?:no|['’])t|won['’]t|will not)\b"
    r"|\bas an AI\b|\bI apologi[sz]e\b|\bunable to (?:help|assist)\b",
    re.IGNORECASE,
)
# A word, a sign, or one character of a script that writes no spaces.
TOKEN = re.compile(r"[⺀-\uffff]|[^\W⺀-\uffff]+|[^\w\s]")


class TextPair(NamedTuple):
    """A pair as text: the prompt's last turn, the two answers, its row, the whole prompt."""

    prompt: str
    chosen: str
    rejected: str
    row: int = 0
    group: Any = None


@dataclass(frozen=True)
class Shortcut:
    """``rate``: of the pairs that the feature tells apart, how many it orders as the labels do;
    ``pairs`` of them. Its n are prompts, for pairs of one prompt hang together. None where it tells
    no pair apart. ``points``: what it takes for the better answer."""

    name: str
    points: str
    rate: Rate | None
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; a rate as its share, successes, trials and interval."""
        facts: dict[str, Any] = {"name": self.name, "points": self.points, "pairs": self.pairs}
        if self.rate is not None:
            facts |= {"share": self.rate.share, "interval": list(self.rate.interval)}
            facts |= self.rate.to_json()
        return facts


def tokens(text: str) -> list[str]:
    """Words in small letters and single signs."""
    return TOKEN.findall(text.lower())


def overlap(prompt: str, answer: str) -> float:
    """The share of the answer's different words that stand in the prompt's last turn."""
    words = set(tokens(answer))
    return len(words & set(tokens(prompt))) / len(words) if words else 0.0


FEATURES: dict[str, tuple[Callable[[str, str], float], str, str]] = {
    "length": (lambda prompt, answer: np.log1p(len(answer)), "the longer", "the shorter"),
    "markdown": (
        lambda prompt, answer: np.log1p(len(MARKDOWN.findall(answer))),
        "more of it",
        "less of it",
    ),
    "refusal": (
        lambda prompt, answer: float(bool(REFUSAL.search(answer))),
        "the refusal",
        "the one that does not refuse",
    ),
    "overlap with the prompt": (overlap, "more of it", "less of it"),
}


def shortcuts(pairs: Sequence[TextPair]) -> list[Shortcut]:
    """Each trivial feature by itself, then all together, for P pairs of at least two prompts."""
    groups = [pair.group if pair.group is not None else pair.prompt for pair in pairs]
    fold = folds_of(groups)
    found, columns = [], []
    for name, (feature, more, less) in FEATURES.items():
        gaps = np.array(
            [feature(p.prompt, p.chosen) - feature(p.prompt, p.rejected) for p in pairs]
        )
        columns.append(gaps)
        points = more if np.sign(gaps).sum() >= 0 else less
        found.append(_shortcut(name, points, _directed(gaps, fold), groups))
    words = first_words(pairs, fold)
    found.append(_shortcut(FIRST, "the opening that is chosen more often", words, groups))
    values = np.stack([*columns, words], axis=1)
    spread = np.sqrt((values**2).mean(0))
    margins = out_of_fold(dense(values / np.where(spread > 0, spread, 1)), fold, PENALTY)
    together = _shortcut(TOGETHER, "what they say together", margins, groups)
    return [*found, together]


def first_words(pairs: Sequence[TextPair], fold: np.ndarray) -> np.ndarray:
    """How much more often the other folds choose the chosen answer's first two words: (P,).

    The difference of log((chosen + 1) / (rejected + 1)), counted of two words and of one.
    """
    chosen = [_openings(pair.chosen) for pair in pairs]
    rejected = [_openings(pair.rejected) for pair in pairs]
    scores = np.zeros(len(pairs))
    for number in np.unique(fold):
        others, own = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        good = Counter(opening for i in others for opening in chosen[i])
        bad = Counter(opening for i in others for opening in rejected[i])

        def score(openings: tuple[str, str], good=good, bad=bad) -> float:
            return sum(float(np.log((good[o] + 1) / (bad[o] + 1))) for o in openings)

        for i in own:
            scores[i] = score(chosen[i]) - score(rejected[i])
    return scores


def _openings(answer: str) -> tuple[str, str]:
    words = tokens(answer[:200])[:2]
    return words[0] if words else "", " ".join(words) + " "  # never equal


def _directed(gaps: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Gaps (P,), turned round where the other folds prefer less of the feature."""
    turned = np.zeros(len(gaps))
    for number in np.unique(fold):
        own = fold == number
        turned[own] = gaps[own] * np.sign(np.sign(gaps[~own]).sum())
    return turned


def _shortcut(name: str, points: str, margins: np.ndarray, groups: Sequence[Any]) -> Shortcut:
    """What margins (P,) out of fold come to; those of 0 tell nothing and are left out."""
    return Shortcut(name, points, share_right(margins, groups), int((margins != 0).sum()))


def share_right(margins: np.ndarray, groups: Sequence[Any]) -> Rate | None:
    """How many of the margins (P,) that are not 0 are above it; as sure as its prompts make it."""
    told = np.flatnonzero(margins)
    if not len(told):
        return None
    prompts = {groups[place] for place in told}
    return Rate(float((margins[told] > 0).mean()), len(prompts))
