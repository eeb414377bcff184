"""Ratings beside the answers: what they say must be what the columns say."""

from __future__ import annotations

from dpo_lite.data.cells import is_number
from dpo_lite.data.examples import BadRow, DataRow, Reason
from dpo_lite.data.fields import mapping

RATINGS = (  # of the chosen and the rejected response
    ("score_chosen", "score_rejected"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)


def refuse_tie(row: DataRow) -> None:
    """Ratings beside the columns must say the same as the columns."""
    for pair in RATINGS:
        ratings = [row[key] for key in pair if key in row]
        if len(ratings) == len(pair) and all(map(is_number, ratings)):
            chosen, rejected = map(float, ratings)
            if chosen <= rejected:
                raise BadRow(Reason.TIE if chosen == rejected else Reason.OPPOSITE)


def mean_rating(completion: DataRow) -> float:
    """The mean over the aspects that were rated."""
    aspects = mapping(completion.get("annotations"), "annotations").values()
    ratings = [mapping(aspect, "annotations").get("Rating") for aspect in aspects if aspect]
    given = [rating for rating in ratings if rating not in (None, "", "N/A")]
    if not given or not all(map(is_number, given)):
        raise BadRow(Reason.MALFORMED, "a completion without ratings")
    return sum(map(float, given)) / len(given)
