"""Texts that end an answer, found in what was answered and never in the prompt.

transformers' own ``stop_strings`` look at the end of the whole row, so that a prompt that ends with
a line break and an answer that begins with one are an empty line to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# What generate() asks after each token: the rows so far (B, T), (B, V) -> which are done (B,).
Stop = Callable[..., torch.Tensor]
BYTES = 4  # of a letter at most, each of which may be a token of its own


def stop_behind(tokenizer: Any, texts: Sequence[str]) -> Callable[[int], Stop]:
    """For rows whose prompts are so wide: whether one of the texts stands at a row's end.

    As many of the last tokens are read as the longest text can have, and some more, since what a
    token says may depend on the one before it.
    """
    reach = BYTES * max((len(text) for text in texts), default=0) + BYTES

    def of_width(width: int) -> Stop:
        def done(input_ids: torch.Tensor, scores: Any = None, **_: Any) -> torch.Tensor:
            tails = input_ids[:, max(width, input_ids.shape[1] - reach) :].tolist()
            said = tokenizer.batch_decode(tails, skip_special_tokens=True)
            found = [any(text in words for text in texts) for words in said]
            return torch.tensor(found, device=input_ids.device)

        return done

    return of_width


def cut_behind(text: str, stops: Sequence[str]) -> str:
    """What stands before the first of them; an empty one is none."""
    for stop in filter(None, stops):
        text = text.partition(stop)[0]
    return text
