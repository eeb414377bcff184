"""Best of n: draw n answers, rank them by a policy's implicit reward or a reward model's.

What a policy learned is in its reward also where it does not say so: the reference's own answers,
ranked by it, show what it would rather have heard. Far from what the reference may say the reward
means nothing, so answers out there are set aside first (dpo_lite.evaluate.guard).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dpo_lite.evaluate.guard import Aside, Seen, set_aside
from dpo_lite.evaluate.judge import Judge, logps_by_role, reference_logps
from dpo_lite.model import roles
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.generation import all_ends, sample_answers

AT_ONCE = 32  # answers drawn together
TOGETHER = 8  # answers scored behind one prompt
ORDINARY = 16  # answers that tell what is ordinary; with 32 the guard was no better
BUDGET = 4096


@dataclass(frozen=True)
class Ranked:
    """One answer; ``times``: how often it was drawn, ``aside``: why it has no rank."""

    text: str
    reward: float
    tokens: int
    ended: bool  # by itself, before max_new_tokens
    times: int
    aside: Aside | None = None


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
    guard: bool = True,
) -> list[Ranked]:
    """n answers of the ``reference`` or the ``policy``, the highest reward first.

    Equal answers are one. The same seed draws the same answers. With ``guard`` those that are out
    of the ordinary come last; it compares them with answers of the reference at temperature 1,
    draws more of them where these are not such themselves, and takes log pi_ref from the implicit
    reward, or by one more pass from the base that a reward model stands on.
    """
    encoder, model = judge.encoder, judge.model
    ids = encoder.prompt_ids(prompt)
    ends = all_ends(model, encoder)
    model.eval()
    torch.manual_seed(seed)

    def draw(count: int, role: str, **how: float) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        with (roles.policy if role == "policy" else roles.reference)(model):
            for start in range(0, count, AT_ONCE):
                at_once = min(AT_ONCE, count - start)
                how = {"max_new_tokens": max_new_tokens, "ends": ends} | how
                found += map(tuple, sample_answers(model, ids, at_once, **how))
        return found

    drawn = draw(n, role, temperature=temperature, top_p=top_p)
    answers = list(dict.fromkeys(drawn))
    examples = _examples(ids, answers)
    way = choose_way(model, [{**examples[0], "response_ids": [list(answers[0])]}]).way
    objective = judge.objective(way)
    if judge.has_head:
        rewards = np.concatenate(judge.rewards(examples, objective, BUDGET))
    else:
        policy, reference = logps_by_role(model, examples, objective, BUDGET)
        rewards = np.concatenate(judge.implicit_rewards(examples, policy, reference))

    def seen(answers: Sequence[tuple[int, ...]], logps: Sequence[Sequence[float]]) -> list[Seen]:
        flat = [logp for row in logps for logp in row]
        return [Seen(_text(judge, a), a, logp) for a, logp in zip(answers, flat, strict=True)]

    reasons: list[Aside | None] = [None] * len(answers)
    if guard:
        if judge.has_head:
            reference = reference_logps(model, examples, objective, BUDGET)
        group = seen(answers, reference)
        as_ordinary = role == "reference" and temperature == top_p == 1
        ordinary = [group[answers.index(answer)] for answer in drawn] if as_ordinary else []
        more = draw(ORDINARY - len(ordinary), "reference", temperature=1.0, top_p=1.0)
        if more:
            logps = reference_logps(model, _examples(ids, more), objective, BUDGET)
            ordinary += seen(more, logps)
        reasons = set_aside(group, ordinary)
    ranked = [
        Ranked(
            _text(judge, answer),
            float(reward),
            len(answer),
            answer[-1] in ends,
            drawn.count(answer),
            aside,
        )
        for answer, reward, aside in zip(answers, rewards, reasons, strict=True)
    ]
    return sorted(ranked, key=lambda answer: (answer.aside is not None, -answer.reward))


def _examples(ids: Sequence[int], answers: Sequence[tuple[int, ...]]) -> list[dict[str, Any]]:
    """Answers to one prompt, some together."""
    groups = [answers[start : start + TOGETHER] for start in range(0, len(answers), TOGETHER)]
    return [{"prompt_ids": ids, "response_ids": [list(a) for a in group]} for group in groups]


def _text(judge: Judge, answer: Sequence[int]) -> str:
    return judge.tokenizer.decode(answer, skip_special_tokens=True).strip()
