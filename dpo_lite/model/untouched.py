"""Adapters off, the model is its base: it is asked before an adapter is put on it, and after.

A reference named "base, adapters off" is only as good as this. PEFT can change the base while it
puts an adapter on it (PiSSA and its kin do), and then adapters off is no model that anybody knows.
"""

from __future__ import annotations

import torch
from peft import PeftModel

from dpo_lite.data.packing import pad
from dpo_lite.errors import UserError
from dpo_lite.model.scoring import causal_lm, response_token_logps

ASKED = 8  # tokens, from all over the vocabulary
# Twice the same products on the same weights; a base that is another one is apart by whole nats.
NEAR = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}


@torch.no_grad()
def base_says(model: torch.nn.Module) -> torch.Tensor:
    """Log-probabilities of some tokens, (N,), of a model as it is worn."""
    words = causal_lm(model).config.get_text_config().vocab_size
    ids = [(2 * place + 1) * words // (2 * ASKED) for place in range(ASKED)]
    batch = pad([{"prompt_ids": ids[:1], "response_ids": [ids[1:]]}]).to(model.device)
    return response_token_logps(model, batch, "plain")


def check_untouched(model: PeftModel, before: torch.Tensor) -> None:
    """Raise UserError where adapters off is not the base any more that said ``before``."""
    with model.disable_adapter():
        now = base_says(model)
    # A base that fp16 does not hold says nan both times; that is found where its scores are tried.
    if not torch.allclose(now, before, 0, NEAR[causal_lm(model).dtype], equal_nan=True):
        apart = (now - before).abs().max().item()
        raise UserError(
            f"With adapters off the model is not its base any more ({apart:.1e} nats apart on a "
            "token), so the reference would be wrong: putting the adapter on changed the base's "
            "weights; save the adapter again as plain LoRA (docs/adapters.md says how)."
        )
