"""A rate is so many of so many: how sure its share is, whether two of them differ, its words.

The interval is Wilson's (1927, JASA 22:209-212), which holds near 0 and 1 and for few trials too.
Two rates differ where Newcombe's interval of their difference leaves out 0 (1998, Statistics in
Medicine 17:873-890, method 10), which is made from the two of Wilson.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Z = 1.96  # of a 95 % interval
LEVEL = 0.05  # of a test
FEWEST = 30  # trials: with fewer even a half is known to no better than 17 points either way
COUNTS = "counts"  # where a held-out set of results.json has the successes and trials of its shares
# What a share is of that is logged by itself, under the name that its number is logged by.
LOGGED_OF = {"rewards/accuracies": "pairs", "truthful": "prompts"}
EXPLAINED = "In brackets the 95 % interval (Wilson)."


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in ``count`` trials."""
    spread = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    middle = share + Z**2 / (2 * count)
    scale = 1 + Z**2 / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@dataclass(frozen=True)
class Rate:
    """``share`` of ``n`` trials; n is None where a run of an older version did not keep it."""

    share: float
    n: int | None = None

    @property
    def successes(self) -> int | None:
        known = self.n is not None and math.isfinite(self.share)
        return round(self.share * self.n) if self.n is not None and known else None

    @property
    def interval(self) -> tuple[float, float] | None:
        sound = self.n is not None and self.n > 0 and 0 <= self.share <= 1  # else a damaged file's
        return wilson(self.share, self.n) if self.n is not None and sound else None

    @property
    def few(self) -> bool:
        """Whether it is of too few trials to tell anything; what is not known is not few."""
        return self.n is not None and self.n < FEWEST

    def above(self, share: float) -> bool:
        """Whether all of its interval is; without an interval, whether it is itself."""
        return (self.interval[0] if self.interval else self.share) > share

    def to_json(self) -> dict[str, int | None]:
        return {"successes": self.successes, "n": self.n}

    def cell(self, digits: int = 0) -> str:
        """For a table that says elsewhere of how many: ``86% (49–97%)``."""
        return self._words(digits, "")

    def words(self, digits: int = 0) -> str:
        """``86% (6 of 7, 49–97%)``."""
        known = self.successes
        return self._words(digits, "" if known is None else f"{known:,} of {self.n:,}, ")

    def _words(self, digits: int, of: str) -> str:
        share = f"{self.share:.{digits}%}"
        if self.interval is None:
            return share
        low, high = self.interval
        return f"{share} ({of}{100 * low:.0f}–{high:.0%})"


def rate(successes: int, n: int) -> Rate | None:
    """None of no trials."""
    return Rate(successes / n, n) if n else None


def rate_at(metrics: Mapping[str, Any], *path: str) -> Rate | None:
    """A share of a held-out set of results.json, with its number where that is kept."""
    share, count = _at(metrics, path), _at(metrics, (COUNTS, *path, "n"))
    return None if share is None else Rate(share, count)


def _at(values: Any, path: Sequence[str]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def logged_rate(record: Mapping[str, Any], metric: str, prefix: str = "") -> Rate | None:
    """A share as a line of metrics.jsonl or a drawing's numbers have it: beside what it is of."""
    share = record.get(prefix + metric)
    return None if share is None else Rate(share, record.get(prefix + LOGGED_OF[metric]))


def pooled(rates: Iterable[Rate | None]) -> Rate | None:
    """Rates of several sets as one; None where there is none, or where one's number is unknown."""
    known = [one for one in rates if one is not None]
    counts = [one.n for one in known if one.n]
    if not known or len(counts) < len(known):
        return None
    return Rate(sum(one.share * (one.n or 0) for one in known) / sum(counts), sum(counts))


def differ(one: Rate, other: Rate) -> bool:
    """Whether two rates are told apart; one whose number is unknown is taken for exact."""
    low, high = sorted((one, other), key=lambda rate: rate.share)
    below = high.share - high.interval[0] if high.interval else 0.0
    above = low.interval[1] - low.share if low.interval else 0.0
    return high.share - low.share > math.hypot(below, above)


def of_how_many(rates: Iterable[Rate | None]) -> int | None:
    """The number that all of some rates are of, where they have one."""
    numbers = {one.n for one in rates if one is not None}
    return numbers.pop() if len(numbers) == 1 else None


def explained(texts: Iterable[str]) -> str:
    """What the brackets behind shares are, where some of the texts have any."""
    return EXPLAINED if any(re.search(r"\(.*\d–\d+%\)", text) for text in texts) else ""


def margin_text(margin: float) -> str:
    """Two digits behind the point, and one that says something where the margin is a hair."""
    return f"{margin:.2f}" if abs(margin) >= 0.01 or not margin else f"{margin:.1g}"


def mcnemar(better: int, worse: int) -> float:
    """The exact two-sided p of as uneven a split, were each as likely as the other.

    Of items that were tried twice only those count whose outcome changed (McNemar 1947,
    Psychometrika 12:153-157); with ``better`` + ``worse`` tosses of a fair coin it is the chance
    of a split at least as uneven. 1 where nothing changed.
    """
    tosses, rarer = better + worse, min(better, worse)
    ways = term = 1  # of 0 heads
    for heads in range(1, rarer + 1):
        term = term * (tosses - heads + 1) // heads
        ways += term
    return min(1.0, 2 * ways / 2**tosses)


def paired_words(better: int, worse: int, n: int) -> str:
    """``better on 12, worse on 5 of 200 (p = 0.14): no difference told apart``."""
    p = mcnemar(better, worse)
    verdict = "no difference told apart"
    if p < LEVEL:
        verdict = "better" if better > worse else "worse"
    shown = f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
    return f"better on {better:,}, worse on {worse:,} of {n:,} ({shown}): {verdict}"
