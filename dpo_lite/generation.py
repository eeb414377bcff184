"""Answers from the one loaded base: of one role to a list of prompts, or many to one prompt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

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


@torch.no_grad()
def draw(
    model: torch.nn.Module,
    prompt_ids: Sequence[int],
    count: int,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    ends: Collection[int] = (),
) -> list[list[int]]:
    """Sampled answers to one prompt as ids, each with its end of turn where it came to one.

    Drawn together, by whatever role the model wears, in its present mode and with the numbers that
    are next: roles, ``eval`` and the seed are the caller's. ``ends``: tokens that end an answer,
    beside the model's own.
    """
    ends = {*ends, *end_ids(model)}
    ids = torch.tensor([list(prompt_ids)], device=model.device)
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=temperature,
        top_p=top_p,
        top_k=0,
        repetition_penalty=1.0,
        num_return_sequences=count,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=0,
        use_cache=True,
    )
    return [_until_end(row, ends) for row in out[:, ids.shape[1] :].tolist()]


def end_ids(model: torch.nn.Module) -> list[int]:
    """The tokens that end an answer by the model's own account: one, several or none."""
    found = model.generation_config.eos_token_id
    return [] if found is None else list(found) if isinstance(found, (list, tuple)) else [found]


def _until_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """Behind the first end a row is padding."""
    stop = next((place for place, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]
