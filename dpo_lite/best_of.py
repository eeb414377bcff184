"""Best of n: draw n answers, rank them by the implicit reward.

What a policy learned is in its reward also where it does not say so: the reference's own answers,
ranked by it, show what it would rather have heard.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dpo_lite.implicit_reward import Judge, log_ratios
from dpo_lite.model import roles
from dpo_lite.model.base import compute_dtype
from dpo_lite.model.scoring import choose_way
from dpo_lite.training.update import Objective

AT_ONCE = 32  # answers drawn together
TOGETHER = 8  # answers scored behind one prompt
BUDGET = 4096


@dataclass(frozen=True)
class Ranked:
    """One answer; ``times``: how often it was drawn."""

    text: str
    reward: float
    tokens: int
    ended: bool  # by itself, before max_new_tokens
    times: int


def best_of(
    judge: Judge,
    prompt: str,
    n: int,
    *,
    role: str = "reference",
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 64,
    seed: int = 0,
) -> list[Ranked]:
    """n answers of the ``reference`` or the ``policy``, the highest implicit reward first.

    Equal answers are one. The same seed draws the same answers.
    """
    encoder, tokenizer = judge.encoder, judge.tokenizer
    ids = encoder.prompt_ids(prompt)
    ends = {encoder.end_id, tokenizer.eos_token_id, *_ends(judge.model)}
    drawn = draw(judge.model, ids, n, role, temperature, top_p, max_new_tokens, ends, seed)
    answers = list(dict.fromkeys(map(tuple, drawn)))
    groups = [answers[start : start + TOGETHER] for start in range(0, len(answers), TOGETHER)]
    examples = [{"prompt_ids": ids, "response_ids": [list(a) for a in group]} for group in groups]
    way = choose_way(judge.model, [{**examples[0], "response_ids": [list(answers[0])]}]).way
    objective = Objective.of(judge.recipe, way, compute_dtype(judge.model.device))
    found = log_ratios(judge.model, examples, objective, BUDGET)
    ratios = np.array([value for group in found for value in group])
    rewards = judge.rewards(ratios, np.array([len(answer) for answer in answers]))
    ranked = [
        Ranked(
            tokenizer.decode(answer, skip_special_tokens=True).strip(),
            float(reward),
            len(answer),
            answer[-1] in ends,
            drawn.count(list(answer)),
        )
        for answer, reward in zip(answers, rewards, strict=True)
    ]
    return sorted(ranked, key=lambda answer: -answer.reward)


@torch.no_grad()
def draw(
    model,
    prompt_ids: Sequence[int],
    n: int,
    role: str,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    ends: Collection[int],
    seed: int,
) -> list[list[int]]:
    """n sampled answers as ids, each with its end of turn where it came to one."""
    device = next(model.parameters()).device
    ids = torch.tensor([list(prompt_ids)], device=device)
    wear = roles.policy if role == "policy" else roles.reference
    model.eval()
    torch.manual_seed(seed)
    answers = []
    with wear(model):
        for start in range(0, n, AT_ONCE):
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=temperature,
                top_p=top_p,
                top_k=0,
                repetition_penalty=1.0,
                num_return_sequences=min(AT_ONCE, n - start),
                max_new_tokens=max_new_tokens,
                eos_token_id=sorted(ends),
                pad_token_id=0,
                use_cache=True,
            )
            answers += [_until_end(row, ends) for row in out[:, ids.shape[1] :].tolist()]
    return answers


def _until_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """Behind the first end a row is padding."""
    stop = next((place for place, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]


def _ends(model) -> list[int]:
    found = model.generation_config.eos_token_id
    return [] if found is None else list(found) if isinstance(found, (list, tuple)) else [found]
