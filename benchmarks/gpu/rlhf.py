"""Part l: an update of PPO (value function) and of RLOO: where its time goes, and its peak."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from rich.console import Console

from benchmarks.gpu.bench import PACKED, Bench, loaded, move
from benchmarks.gpu.figures import MIB, Figure, at_most, near, needs_card, so, told
from dpo_lite.data.expected import expected_answers, expected_lengths
from dpo_lite.memory.of_model import apply_plan, costs_here, plan_run
from dpo_lite.memory.plan import predict
from dpo_lite.model import roles
from dpo_lite.model.scoring import laid_out_tokens, micro_batches
from dpo_lite.recipe import Recipe
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import pieces
from dpo_lite.training.ppo_trainer import PolicyTrainer
from dpo_lite.training.ppo_trial import TOLERANCE, answers_at_once
from dpo_lite.training.reward_source import rewarder

PROMPTS, ANSWER = 32, 64
SHARE = 0.15  # drawing takes memory of its own, which the plan only bounds


def look(bench: Bench) -> Iterator[Figure]:
    size = bench.shapes[min(1, len(bench.shapes) - 1)]
    yield told("model", f"{size}, {PACKED[size]}")
    reward = _save_reward(bench, size)
    for estimator in ("ppo", "rloo"):
        yield from _update(bench, size, estimator, reward)


def _save_reward(bench: Bench, size: str) -> Path:
    """A reward model that says something, as a run leaves it."""
    recipe, folder = bench.recipe("reward", PACKED[size]), bench.folder / "reward"
    base = bench.base(bench.config(size), PACKED[size])
    model = roles.add_policy(base, recipe.adapter, seed=0, head=True)
    move(model)
    roles.save_policy(model, folder, recipe.model.base, None)
    return folder


def _update(bench: Bench, size: str, estimator: str, reward: Path) -> Iterator[Figure]:
    config, small = bench.config(size), bench.small
    section = {
        "reward": str(reward),
        "estimator": estimator,
        "max_new_tokens": 8 if small else ANSWER,
        "minibatch": 8 if small else PROMPTS,
    }
    count = 4 if small else PROMPTS
    recipe = bench.recipe("ppo", PACKED[size], ppo=section, train={"batch_size": count})
    model = _with_roles(bench, size, recipe, reward)
    # All of one length, and no answer comes to its end: every micro-batch is the largest one.
    rows, never = bench.pairs("ultra", 2 * count, config), config.vocab_size
    model.generation_config.eos_token_id = None
    prompts = [{"prompt_ids": row["prompt_ids"], "prompt": ""} for row in rows]
    longest = recipe.ppo.max_new_tokens
    few = expected_answers(prompts[:3], longest)
    lengths = expected_lengths(loaded(recipe, model, rows).data.lengths, longest)
    plan = plan_run(model, recipe, few, "forest", lengths.of_batch(shared=True))
    apply_plan(model, plan)
    objective = Objective.of(recipe, "forest", bench.dtype)
    trainer = PolicyTrainer(
        model=model,
        recipe=recipe,
        objective=objective,
        budget=plan.budget,
        folder=bench.folder,
        train=prompts,
        rewarder=rewarder(model, recipe, objective, None),
        ends={never},
        at_once=answers_at_once(model, plan, int(lengths.whole.max())),
        recorder=SimpleNamespace(console=Console(quiet=True)),
    )
    first = trainer.step(0)
    per_token = abs(first["kl"]) / first["completions/mean_length"]
    what = f"{estimator}: KL to the reference before any step, per token"
    yield at_most(what, per_token, TOLERANCE[bench.dtype], "nats")
    bench.forget_peak()
    metrics = trainer.step(1)
    phases = [f"seconds/{phase}" for phase in ("drawing", "judging", "learning")]
    for phase in phases:
        yield told(f"{estimator}: {phase.removeprefix('seconds/')}", metrics[phase], "s")
    drawn = count * recipe.ppo.answers * metrics["completions/mean_length"]
    all_of_it = sum(metrics[phase] for phase in phases)
    yield told(f"{estimator}: drawn and learned from", drawn / all_of_it, "tokens/s")
    yield told(f"{estimator}: split", plan.words())
    whole = metrics["completions/mean_length"] == recipe.ppo.max_new_tokens
    yield so(f"{estimator}: every answer is as long as it may be", whole)
    tokens = _largest(trainer, prompts[0], plan.budget)
    yield told(f"{estimator}: tokens of the largest micro-batch", tokens)
    planned = predict(costs_here(model, few, "forest"), plan.choice, tokens).total / MIB
    if bench.on_card:
        yield near(f"{estimator}: peak", bench.peak() / MIB, planned, SHARE, "MiB")
    else:
        yield told(f"{estimator}: peak, planned", planned, "MiB")
        yield needs_card(f"{estimator}: peak")


def _largest(trainer: PolicyTrainer, prompt: dict, budget: int) -> int:
    """Tokens of the largest micro-batch of a step of the optimiser."""
    ppo = trainer.recipe.ppo
    drawn = {**prompt, "response_ids": [[5] * ppo.max_new_tokens] * ppo.answers}
    examples = [drawn] * trainer.minibatch
    parts = [p.example for p in pieces(examples, range(len(examples)), "forest", budget)]
    groups = micro_batches(parts, "forest", budget)
    return max(laid_out_tokens([parts[i] for i in group], "forest") for group in groups)


def _with_roles(bench: Bench, size: str, recipe: Recipe, reward: Path) -> torch.nn.Module:
    """The roles as PPO's own loader makes them (dpo_lite/training/ppo_method.py)."""
    base = bench.base(bench.config(size), PACKED[size])
    model = roles.add_policy(base, recipe.adapter, seed=0)
    roles.add_reward(model, reward)
    if recipe.ppo.estimator == "ppo":
        roles.add_value(model, recipe.adapter, reward)
    return model
