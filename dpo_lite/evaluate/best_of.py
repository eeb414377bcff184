"""Best of n: draw n answers, rank them by a policy's implicit reward or a reward model's.

What a policy learned is in its reward also where it does not say so: the reference's own answers,
ranked by it, show what it would rather have heard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dpo_lite.evaluate.judge import Judge
from dpo_lite.model import roles
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.generation import all_ends, sample_answers

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
    """n answers of the ``reference`` or the ``policy``, the highest reward first.

    Equal answers are one. The same seed draws the same answers.
    """
    encoder, tokenizer = judge.encoder, judge.tokenizer
    ids = encoder.prompt_ids(prompt)
    ends = all_ends(judge.model, encoder)
    judge.model.eval()
    torch.manual_seed(seed)
    drawn = []
    with (roles.policy if role == "policy" else roles.reference)(judge.model):
        for start in range(0, n, AT_ONCE):
            drawn += sample_answers(
                judge.model,
                ids,
                min(AT_ONCE, n - start),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                ends=ends,
            )
    answers = list(dict.fromkeys(map(tuple, drawn)))
    groups = [answers[start : start + TOGETHER] for start in range(0, len(answers), TOGETHER)]
    examples = [{"prompt_ids": ids, "response_ids": [list(a) for a in group]} for group in groups]
    way = choose_way(judge.model, [{**examples[0], "response_ids": [list(answers[0])]}]).way
    rewards = np.concatenate(judge.rewards(examples, judge.objective(way), BUDGET))
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
