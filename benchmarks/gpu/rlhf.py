"""Part l: an update of PPO (value function) and of RLOO: where its time goes, and its peak."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from rich.console import Console

from benchmarks.gpu.bench import PACKED, Bench, loaded, move
from benchmarks.gpu.figures import MIB, Figure, at_most, near, told
from dpo_lite.data.expected import expected_answers, expected_lengths
from dpo_lite.memory.of_model import apply_plan, plan_run
from dpo_lite.model import roles
from dpo_lite.recipe import Recipe
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo_trainer import PolicyTrainer
from dpo_lite.training.ppo_trial import TOLERANCE, answers_at_once
from dpo_lite.training.reward_source import rewarder

PROMPTS, ANSWER, ENDS = 32, 64, {2}
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
    rows = bench.pairs("hh", 2 * count, config)
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
        ends=ENDS,
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
    if bench.on_card:
        what, planned = f"{estimator}: peak", plan.total / MIB
        yield near(what, bench.peak() / MIB, planned, SHARE, "MiB")


def _with_roles(bench: Bench, size: str, recipe: Recipe, reward: Path) -> torch.nn.Module:
    """The roles as PPO's own loader makes them (dpo_lite/training/ppo_method.py)."""
    base = bench.base(bench.config(size), PACKED[size])
    model = roles.add_policy(base, recipe.adapter, seed=0)
    roles.add_reward(model, reward)
    if recipe.ppo.estimator == "ppo":
        roles.add_value(model, recipe.adapter, reward)
    return model
