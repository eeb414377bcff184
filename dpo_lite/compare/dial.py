"""Reward against KL along the strength dial: what each strength earns, and how far it goes.

The reward is the run's implicit one, beta * log(pi / pi_ref), of answers that the mixture draws;
the KL to the reference is summed over the tokens of an answer, each over the whole vocabulary,
which is the KL of answers without the noise of which token was drawn. All strengths draw from the
same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from dpo_lite.compare.columns import POLICY, REFERENCE, columns, mixture, prompts_of
from dpo_lite.compare.lockstep import Sampling
from dpo_lite.compare.shared_base import ScoredAnswer, SharedBase, ask
from dpo_lite.errors import UserError
from dpo_lite.runs.folder import Run

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
MOST_PROMPTS, DRAWS = 16, 2  # of those that the run was asked, and answers to each


@dataclass(frozen=True)
class Point:
    """Means over the drawn answers, with their standard errors; the KL in nats per answer."""

    strength: float
    reward: float
    reward_error: float
    kl: float
    kl_error: float
    tokens: float
    answers: int

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def dial(
    base: SharedBase,
    run: Run,
    strengths: Sequence[float] = STRENGTHS,
    max_new_tokens: int = 64,
    seed: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Point]:
    """A point for every strength; raises UserError where the run was asked nothing."""
    reference, policy = columns(run, [REFERENCE, POLICY])
    wanted = [mixture(reference, policy, strength) for strength in strengths]
    prompts = asked(run)
    given: list[list[ScoredAnswer]] = [[] for _ in wanted]
    for number, prompt in enumerate(prompts * DRAWS):
        sampling = Sampling(1.0, max_new_tokens=max_new_tokens, seed=seed + number)
        for answers, one in zip(given, ask(base, run, wanted, prompt, sampling), strict=True):
            answers.append(one)
        progress(1)
    return [_point(s, answers) for s, answers in zip(strengths, given, strict=True)]


def asked(run: Run) -> list[str]:
    """Some of the prompts that the run was asked, over all of them."""
    prompts = prompts_of(run)
    if not prompts:
        raise UserError(f"{run.name} was asked nothing, so nothing can be drawn; set eval.prompts.")
    step = max(1, len(prompts) / MOST_PROMPTS)
    return [prompts[int(i * step)] for i in range(min(MOST_PROMPTS, len(prompts)))]


def _point(strength: float, answers: Sequence[ScoredAnswer]) -> Point:
    reward, reward_error = _mean([answer.reward for answer in answers])
    kl, kl_error = _mean([answer.moved or 0.0 for answer in answers])
    tokens, _ = _mean([float(len(answer.tokens)) for answer in answers])
    return Point(strength, reward, reward_error, kl, kl_error, tokens, len(answers))


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / len(values)
    return mean, (spread / len(values)) ** 0.5
