"""Whether rows of one batch are answered as each of them is alone: tried once, not listed.

Shorter prompts are padded on the left, and a mask tells a model so. RWKV's code in transformers
looks at no mask, and where it goes on from its state it mixes the rows. Such a model answers one
prompt at a time.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from transformers import LogitsProcessorList

ROWS = ([3, 4, 5], [6, 7, 8, 9, 10, 11, 12])
MOST = 0.1  # of the logits' spread; rounding costs a hundredth, another row or padding all of it

_known: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def answers_in_batches(lm: torch.nn.Module) -> bool:
    """Whether a transformers model may answer several prompts of unequal length in one batch."""
    if lm not in _known:
        _known[lm] = _off(lm) < MOST
    return _known[lm]


@torch.no_grad()
def _off(lm: torch.nn.Module) -> float:
    """How far the logits behind each row are from those of the row alone, in their spreads."""
    alone = torch.cat([_logits(lm, [row]) for row in ROWS], dim=1)
    spread = alone.std(dim=-1)
    return ((_logits(lm, ROWS) - alone).abs().mean(dim=-1) / spread).max().item()


def _logits(lm: torch.nn.Module, rows) -> torch.Tensor:
    """Of the next token, and of the one after it from what the model has kept: (2, rows, V)."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=lm.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])

    def same(input_ids, scores):
        only = torch.full_like(scores, -torch.inf)
        only[:, ROWS[0][0]] = 0.0
        return only

    found = lm.generate(
        input_ids=ids,
        attention_mask=mask.to(lm.device),
        max_new_tokens=2,
        do_sample=False,
        use_cache=True,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([same]),
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.stack(found.logits).float()
