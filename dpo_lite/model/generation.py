"""Answers from the one loaded base: of one role to a list of prompts, or many to one prompt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import GenerationConfig, StoppingCriteriaList

from dpo_lite.data.tokens import Encoder
from dpo_lite.model import roles
from dpo_lite.model.batching import answers_in_batches
from dpo_lite.model.device_memory import halving
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.step_graph import steps_recorded
from dpo_lite.model.stop_strings import Stop

BATCH = 64


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    role: str,
    max_new_tokens: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """The greedy answer to every prompt as ``policy`` or ``reference``. Prompts are token ids."""
    was_training = model.training
    model.eval()
    kept: dict[int, list[int]] = {}
    try:
        with (roles.policy if role == "policy" else roles.reference)(model):
            answers, _ = halving(
                lambda at_once: answer_ids(
                    model,
                    prompts,
                    max_new_tokens=max_new_tokens,
                    temperature=0.0,
                    at_once=at_once,
                    progress=progress,
                    kept=kept,
                ),
                BATCH,
            )
    finally:
        model.train(was_training)
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in answers]


@torch.no_grad()
def answer_ids(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    ends: Collection[int] = (),
    at_once: int = BATCH,
    progress: Callable[[int], None] = lambda count: None,
    kept: dict[int, list[int]] | None = None,
    stops: Callable[[int], Stop] | None = None,
) -> list[list[int]]:
    """An answer to every prompt as ids, each with its end of turn where it came to one.

    Greedy at temperature 0. Drawn by whatever role the model wears, in its present mode and with
    the random numbers that are next: roles, ``eval`` and the seed are the caller's. ``ends``:
    tokens that end an answer, beside the model's own. Prompts are sorted by length and padded on
    the left in batches of ``at_once`` (one at a time where the model mixes them), so that a greedy
    answer does not depend on what else is asked. Of the model's own generation_config (penalties,
    cut-offs) only its ends count: what is drawn is the distribution whose probabilities are scored.

    The longest come first: where memory runs out, it does before much is drawn. ``kept``: answers
    by the places of their prompts; those in it are not asked for again, and new ones go into it.
    ``stops``: what else ends an answer, of a batch whose prompts are so wide
    (dpo_lite.model.stop_strings); behind it such an answer is filled up with token 0.
    """
    ends = {*ends, *end_ids(model)}
    lm = causal_lm(model)
    sampling: dict[str, bool | float] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    answers = {} if kept is None else kept
    order = [i for i in range(len(prompts)) if i not in answers]
    order.sort(key=lambda i: -len(prompts[i]))
    if at_once > 1 and len(order) > 1 and not may_share_a_batch(model):
        at_once = 1
    for start in range(0, len(order), at_once):
        part = order[start : start + at_once]
        width = max(len(prompts[i]) for i in part)
        ids = torch.zeros(len(part), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(part):
            ids[row, width - len(prompts[i]) :] = torch.tensor(list(prompts[i]))
            mask[row, width - len(prompts[i]) :] = 1
        more = {"stopping_criteria": StoppingCriteriaList([stops(width)])} if stops else {}
        with plain_generation(lm), steps_recorded(lm, width, max_new_tokens) as steps:
            out = lm.generate(
                input_ids=ids.to(lm.device),
                attention_mask=mask.to(lm.device),
                max_new_tokens=max_new_tokens,
                eos_token_id=sorted(ends) or None,
                pad_token_id=0,
                use_cache=True,
                **sampling,
                **steps,
                **more,
            )
        for i, row in zip(part, out[:, width:].tolist(), strict=True):
            answers[i] = _until_end(row, ends)
        progress(len(part))
    return [answers[i] for i in range(len(prompts))]


def sample_answers(
    model: torch.nn.Module, prompt_ids: Sequence[int], count: int, **sampling
) -> list[list[int]]:
    """So many answers to one prompt, drawn together, fewer at a time where memory runs out.

    The rest as in ``answer_ids``. Raises UserError where there is no room for a single one.
    """
    kept: dict[int, list[int]] = {}
    answers, _ = halving(
        lambda at_once: answer_ids(
            model, [prompt_ids] * count, at_once=at_once, kept=kept, **sampling
        ),
        max(count, 1),
    )
    return answers


def may_share_a_batch(model: torch.nn.Module) -> bool:
    """Whether prompts of unequal length are answered together as each is alone."""
    lm = causal_lm(model)
    with plain_generation(lm):
        return answers_in_batches(lm)


@contextmanager
def plain_generation(lm: torch.nn.Module) -> Iterator[None]:
    """Set the model's own settings aside: generate() takes from them all that it is not told."""
    before = lm.generation_config
    lm.generation_config = GenerationConfig()
    try:
        yield
    finally:
        lm.generation_config = before


def all_ends(model: torch.nn.Module, encoder: Encoder) -> set[int]:
    """Every token that ends an answer: of the chat template, the tokenizer and the model."""
    return {encoder.end_id, encoder.tokenizer.eos_token_id, *end_ids(model)} - {None}


def end_ids(model: torch.nn.Module) -> list[int]:
    """The tokens that end an answer by the model's own account: one, several or none."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [ends]


def _until_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """Behind the first end a row is padding."""
    stop = next((place for place, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]
