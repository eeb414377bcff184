"""Answers of one role to a list of prompts, from the one loaded base."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dpo_lite.model import roles

BATCH = 64


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    role: str,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Answer every prompt as ``policy`` or ``reference``; greedy at temperature 0.

    Prompts are token ids. Sorted by length and padded on the left in batches, so that the answer
    to a prompt does not depend on what else is asked.
    """
    device = model.device
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    wear = roles.policy if role == "policy" else roles.reference
    sampling = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    answers: dict[int, str] = {}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    was_training = model.training
    model.eval()
    try:
        with wear(model):
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                width = max(len(prompts[i]) for i in part)
                ids = torch.full((len(part), width), pad_id)
                mask = torch.zeros_like(ids)
                for row, i in enumerate(part):
                    ids[row, width - len(prompts[i]) :] = torch.tensor(list(prompts[i]))
                    mask[row, width - len(prompts[i]) :] = 1
                torch.manual_seed(seed)
                out = model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    max_new_tokens=max_new_tokens,
                    pad_token_id=pad_id,
                    use_cache=True,
                    **sampling,
                )
                texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
                answers |= dict(zip(part, (text.strip() for text in texts), strict=True))
                progress(len(part))
    finally:
        model.train(was_training)
    return [answers[i] for i in range(len(prompts))]
