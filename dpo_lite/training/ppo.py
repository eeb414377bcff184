"""PPO: a policy that earns E[r(x, y)] - beta KL(pi || pi_ref), DPO's Eq. 3, by trying.

One base, four roles on it: the policy and the value function are trained adapters, the reward model
is a frozen one, the reference is the base with adapters off or the adapter that the policy started
from. A rollout is

    draw_answers    y ~ pi_old(. | x) for a batch of prompts, in one generation
    judge_answers   r(x, y), log pi_old, log pi_ref and V of every token, without gradients

and dpo_lite.training.ppo_learning learns from it. The equations are in
dpo_lite.objectives.policy_gradient. Answers are packed behind their prompts as everywhere. A loop
of its own and not transformers' Trainer, because one rollout feeds many steps of the optimiser.

PPO: Schulman et al. 2017, arXiv:1707.06347. On language models: Ziegler et al. 2019,
arXiv:1909.08593; Ouyang et al. 2022 (InstructGPT), arXiv:2203.02155.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from dpo_lite.data.packing import Batch, Encoded
from dpo_lite.model import roles
from dpo_lite.model.generation import answer_ids
from dpo_lite.model.scoring import (
    Way,
    batch_tokens,
    lay_out,
    micro_batches,
    response_token_logps,
    scoring_context,
    token_values,
)
from dpo_lite.recipe import PPOSection, Recipe
from dpo_lite.training.method import Objective

Examples = Sequence[dict[str, Any]]


class Earned(NamedTuple):
    """What A answers earn, on the CPU: the weighted ``total`` (A,), and of several rewards each by
    itself, ``parts`` (A, S) in the order of ``ppo.rewards``; ``unread``: whether a judge's reply
    to an answer held no score (A,), None without a judge."""

    total: torch.Tensor
    parts: torch.Tensor | None = None
    unread: torch.Tensor | None = None


# Examples with their answers, and tokens per packed batch.
Rewarder = Callable[[Examples, int], Earned]


@dataclass(frozen=True)
class Rollout:
    """P prompts with K drawn answers each, A = P K in all, of up to T tokens; on the CPU.

    An answer's numbers are padded on the right; ``mask`` is true on its tokens.
    """

    examples: list[dict[str, Any]]  # P, each with its K answers
    rewards: torch.Tensor  # (A,) that are trained on: of several the weighted sum
    ended: torch.Tensor  # (A,) whether the answer came to its end
    mask: torch.Tensor  # (A, T)
    policy_logps: torch.Tensor  # (A, T) of the policy that drew them
    reference_logps: torch.Tensor  # (A, T)
    values: torch.Tensor  # (A, T) before each token; zeros where no value function is trained
    parts: torch.Tensor | None = None  # (A, S) of each reward, where there are several
    unread: torch.Tensor | None = None  # (A,) whether a judge's reply held no score

    def scores(self, ppo: PPOSection) -> torch.Tensor:
        """The rewards, less what an answer without an end pays: (A,)."""
        return self.rewards - ppo.no_end_penalty * ~self.ended

    @property
    def kl(self) -> torch.Tensor:
        """log pi - log pi_ref of whole answers, (A,): its mean estimates the KL without bias."""
        return ((self.policy_logps - self.reference_logps) * self.mask).sum(-1)


@dataclass(frozen=True)
class Piece:
    """A prompt with so many of its answers as go into one micro-batch; ``rows``: which of the A."""

    example: Encoded
    rows: list[int]


def pieces(examples: Examples, places: Sequence[int], way: Way, budget: int) -> list[Piece]:
    """The prompts at ``places`` with their answers, together unless they are over the budget."""
    parts = []
    for place in places:
        prompt, answers = examples[place]["prompt_ids"], examples[place]["response_ids"]
        together = len(answers)
        if batch_tokens(examples[place], way) > budget:
            longest = max(map(len, answers))
            alone = longest + len(prompt) * (way != "forest")
            room = budget - len(prompt) * (way == "forest")
            together = min(max(room // alone, 1), len(answers))
        for start in range(0, len(answers), together):
            some = answers[start : start + together]
            first = place * len(answers) + start
            rows = list(range(first, first + len(some)))
            parts.append(Piece({"prompt_ids": prompt, "response_ids": some}, rows))
    return parts


def batches_of(parts: Sequence[Piece], way: Way, budget: int) -> Iterator[tuple[Batch, list[int]]]:
    """Pieces in packed batches of at most ``budget`` tokens, with the rows of their answers."""
    examples = [piece.example for piece in parts]
    for group in micro_batches(examples, way, budget):
        yield lay_out([examples[i] for i in group], way), [r for i in group for r in parts[i].rows]


# --- draw and judge ------------------------------------------------------------------------------


@torch.no_grad()
def draw_answers(
    model: torch.nn.Module,
    prompts: Examples,
    ppo: PPOSection,
    ends: Collection[int],
    at_once: int,
    role: Callable = roles.policy,
) -> list[dict[str, Any]]:
    """The prompts with ``ppo.answers`` answers each, drawn at temperature 1 from the whole
    distribution: only then is the policy that answers the one whose probabilities are learned."""
    prompt_ids = [example["prompt_ids"] for example in prompts for _ in range(ppo.answers)]
    model.eval()
    with role(model):
        answers = answer_ids(
            model, prompt_ids, max_new_tokens=ppo.max_new_tokens, ends=ends, at_once=at_once
        )
    each = ppo.answers
    return [
        {**example, "response_ids": answers[place * each : (place + 1) * each]}
        for place, example in enumerate(prompts)
    ]


@torch.no_grad()
def judge_answers(
    model: torch.nn.Module,
    examples: list[dict[str, Any]],
    rewarder: Rewarder,
    ends: Collection[int],
    objective: Objective,
    budget: int,
) -> Rollout:
    """Score drawn answers by every role, in packed rows without gradients."""
    model.eval()
    answers = [ids for example in examples for ids in example["response_ids"]]
    roles_to_ask: dict[str, tuple[Callable, Callable]] = {
        "policy": (roles.policy, response_token_logps),
        "reference": (roles.reference, response_token_logps),
    }
    if roles.VALUE in model.peft_config:
        roles_to_ask["value"] = (roles.value, lambda model, batch, way: token_values(model, batch))
    scores = {name: [torch.empty(0)] * len(answers) for name in roles_to_ask}
    way = objective.way
    for batch, rows in batches_of(pieces(examples, range(len(examples)), way, budget), way, budget):
        batch = batch.to(model.device)
        with scoring_context(model, batch, objective.dtype):
            for name, (role, score) in roles_to_ask.items():
                with role(model):
                    numbers = score(model, batch, way).float().cpu()
                answer_numbers = numbers.split(batch.response_lengths.tolist())
                for row, own in zip(rows, answer_numbers, strict=True):
                    scores[name][row] = own
    padded = {name: pad_sequence(rows, batch_first=True) for name, rows in scores.items()}
    lengths = torch.tensor([len(ids) for ids in answers])
    earned = rewarder(examples, budget)
    return Rollout(
        examples=examples,
        rewards=earned.total,
        ended=torch.tensor([ids[-1] in ends for ids in answers]),
        mask=torch.arange(int(lengths.max())) < lengths[:, None],
        policy_logps=padded["policy"],
        reference_logps=padded["reference"],
        values=padded.get("value", torch.zeros_like(padded["policy"])),
        parts=earned.parts,
        unread=earned.unread,
    )


def rollout_metrics(rollout: Rollout, ppo: PPOSection, beta: float) -> dict[str, float]:
    """What was drawn and earned. ``objective`` is what PPO maximises: reward - beta * KL.

    ``frac_reward_zero_std``: prompts whose answers all earned the same, where they are compared:
    they teach nothing.
    """
    kl, lengths = rollout.kl.mean().item(), rollout.mask.sum(-1).float()
    earned = rollout.scores(ppo).mean().item()
    entropy = -(rollout.policy_logps * rollout.mask).sum() / rollout.mask.sum()
    alike = rollout.rewards.view(-1, ppo.answers).std(1, unbiased=False) == 0
    compared = {"frac_reward_zero_std": alike.float().mean().item()} if ppo.answers > 1 else {}
    return {
        "reward": rollout.rewards.mean().item(),
        "reward_std": rollout.rewards.std(unbiased=False).item(),
        "kl": kl,
        "objective": earned - beta * kl,
        "beta": beta,
        "entropy": entropy.item(),
        "completions/mean_length": lengths.mean().item(),
        "completions/ended": rollout.ended.float().mean().item(),
        **compared,
        **part_metrics(rollout, ppo),
    }


def part_metrics(rollout: Rollout, ppo: PPOSection) -> dict[str, float]:
    """Mean and deviation of each of several rewards under TRL's names, before its weight; and how
    often a judge's reply was not read."""
    found = {}
    for place, one in enumerate(ppo.rewards if rollout.parts is not None else []):
        own = rollout.parts[:, place]
        found[f"rewards/{one.label}/mean"] = own.mean().item()
        found[f"rewards/{one.label}/std"] = own.std(unbiased=False).item()
    if rollout.unread is not None:
        found["judge/unread"] = rollout.unread.float().mean().item()
    return found


def rollouts(recipe: Recipe, prompts: int) -> int:
    """How many a run has: as many as its epochs need, the last one filled up from the next."""
    train = recipe.train
    return train.max_steps or math.ceil(train.epochs * prompts / train.batch_size)


def prompts_of_rollout(step: int, count: int, batch: int, seed: int) -> list[int]:
    """Which prompts the rollout ``step`` (from 0) takes: every epoch in an order of its own, so
    that a resumed run goes on with the same ones without having kept any."""
    first, last = step * batch, (step + 1) * batch - 1
    orders = {
        epoch: torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        for epoch in range(first // count, last // count + 1)
    }
    return [orders[number // count][number % count] for number in range(first, last + 1)]
