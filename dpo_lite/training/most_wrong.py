"""The held-out pair that a trained model gets most wrong: the first thing to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

MOST_CHARACTERS = 2000  # of a text as it is kept


def most_wrong(
    rows: Sequence[Any], margins: torch.Tensor, decode: Callable[[Sequence[int]], str]
) -> dict[str, Any] | None:
    """The pair with the smallest margin (E,), if the model prefers its rejected response.

    ``rows``: the examples, with ``prompt`` and ``response_ids``, best first; ``decode``: ids to
    text. Ties and what is no number are not wrong. None where no pair is.
    """
    margins = margins.nan_to_num(nan=0.0, posinf=0.0)
    if not len(margins) or not bool((margins < 0).any()):
        return None
    place = int(margins.argmin())
    ids = rows[place]["response_ids"]
    texts = {"prompt": rows[place]["prompt"], "chosen": decode(ids[0]), "rejected": decode(ids[-1])}
    cut = {name: text[:MOST_CHARACTERS] for name, text in texts.items()}
    return {**cut, "margin": float(margins[place])}
