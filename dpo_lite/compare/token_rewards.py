"""What every token of an answer earns: its share of the implicit reward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel

from dpo_lite.compare.adapter_rows import adapter_rows, together
from dpo_lite.data.packing import pad
from dpo_lite.model.precision import dtype_of
from dpo_lite.model.scoring import response_token_logps, scoring_context


@torch.no_grad()
def token_rewards(
    model: PeftModel,
    prompt_ids: Sequence[int],
    answers: Sequence[Sequence[int]],
    policy: str,
    reference: str,
    beta: float,
) -> list[list[float]]:
    """beta * (log pi - log pi_ref) of every token of every answer; their sum is the reward.

    ``policy`` and ``reference`` are adapter names; both score in the same forward pass if they can.
    """
    scored = [list(ids) for ids in answers if len(ids)]
    if not scored:
        return [[] for _ in answers]
    if together(model, [policy, reference]):
        names = [policy] * len(scored) + [reference] * len(scored)
        own, held_to = _logps(model, prompt_ids, scored + scored, names).chunk(2)
    else:
        own, held_to = (
            _logps(model, prompt_ids, scored, [name] * len(scored)) for name in (policy, reference)
        )
    rewards = iter((beta * (own - held_to)).split([len(ids) for ids in scored]))
    return [next(rewards).tolist() if len(ids) else [] for ids in answers]


def _logps(
    model: PeftModel, prompt_ids: Sequence[int], answers: list[list[int]], names: Sequence[str]
) -> torch.Tensor:
    """Log-probabilities of all tokens of the answers in a row, answer i by adapter ``names[i]``."""
    batch = pad([{"prompt_ids": list(prompt_ids), "response_ids": answers}]).to(model.device)
    was_training = model.training
    model.eval()
    try:
        with adapter_rows(model, names), scoring_context(model, batch, dtype_of(model)):
            return response_token_logps(model, batch, "plain").cpu()
    finally:
        model.train(was_training)


def token_texts(tokenizer, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; a character of several tokens belongs to the last of them."""
    texts, before = [], ""
    for count in range(1, len(ids) + 1):
        now = tokenizer.decode(ids[:count])
        if now.endswith("\ufffd") and count < len(ids):
            texts.append("")
            continue
        texts.append(now[len(before) :])
        before = now
    return texts
