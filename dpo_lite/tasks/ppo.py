"""PPO, RLOO, GRPO: a policy earns rewards for its own answers and pays for its KL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dpo_lite.advice import ppo as advice
from dpo_lite.advice.rules import Advice, Curves
from dpo_lite.names import last_name
from dpo_lite.objectives.estimators import ESTIMATORS
from dpo_lite.rates import logged_rate
from dpo_lite.tasks import panels
from dpo_lite.tasks.panels import Panel
from dpo_lite.tasks.ppo_card import PPOCard
from dpo_lite.tasks.spec import PROMPTS, Recipe, Row, Task, generated_row, rate_row, refuse_losses


class PPO(Task):
    name = "ppo"
    description = "a policy on the rewards of such a model"
    method = "dpo_lite.training.ppo_method:PPO"
    unit = "rollout"
    examples = "prompts"
    pairs = (PROMPTS,)
    sections = ("ppo",)
    data_alone: Mapping[str, Any] = {"ppo": {"reward": "none"}}
    kept_by = ("reward",)
    panels = (
        Panel(
            "reward and objective",
            ("reward", "objective"),
            "both",
            legend="reward, objective (dashed)",
        ),
        panels.REWARD_PARTS,
        Panel("held out: chosen claim", ("truthful",), zero=True, top=1.0, always=False),
        Panel("KL to the reference, nats per answer", ("kl",), "picture"),
        replace(panels.KL, empty="nothing yet"),
        Panel("beta", ("beta",), zero=True, noisy=False, always=False),
        Panel("entropy of a token, nats", ("entropy",), "both", zero=True),
        Panel(
            "loss",
            ("loss/policy", "loss/value"),
            "both",
            legend="loss: policy, value (dashed)",
            zero=True,
        ),
        Panel("share of clipped ratios", ("clip_fraction",), "both", zero=True),
        Panel(
            "prompts whose answers earn the same",
            ("frac_reward_zero_std",),
            zero=True,
            top=1.0,
            always=False,
        ),
        Panel("tokens per answer", ("completions/mean_length",), "both", zero=True),
        Panel("answers that come to their end", ("completions/ended",), zero=True, top=1.0),
        Panel(
            "seconds to draw, judge, learn",
            ("seconds/drawing", "seconds/judging", "seconds/learning"),
            legend="seconds to draw, judge (- -), learn (··)",
            zero=True,
        ),
        replace(panels.LEARNING_RATE, where="page"),
        panels.MEMORY,
    )
    in_small = ("reward", "objective", "kl", "entropy", "clip_fraction", "completions/ended")
    early = advice.EARLY
    rules = advice.RULES
    card = PPOCard()

    def settle(self, recipe: Recipe) -> None:
        ppo = recipe.ppo
        refuse_losses(self, recipe, ("sigmoid",), ("sft_weight", "label_smoothing"))
        if not ppo.reward:
            raise ValueError("task: ppo needs ppo.reward, a reward run, file.py:function or judge")
        if fault := ppo.rewards_fault:
            raise ValueError(f"ppo.reward {fault}")
        asked, judge = any(one.is_judge for one in ppo.rewards), recipe.judge
        if asked and not (judge.url and judge.model):
            raise ValueError("ppo.reward: judge needs judge.url and judge.model, who judges")
        estimator = ESTIMATORS[ppo.estimator]
        ppo.answers = estimator.answers if ppo.answers is None else ppo.answers
        ppo.kl_in = ppo.kl_in or estimator.kl_in
        if estimator.compared and ppo.answers < 2:
            raise ValueError(
                f"ppo.estimator: {estimator.name} compares answers; set ppo.answers to 2 or more"
            )
        _refuse_others_keys(ppo)

    def objective(self, recipe: Recipe) -> str:
        ppo = recipe.ppo
        held = f"steered to a KL of {ppo.kl_target:g}" if ppo.kl_target else "fixed"
        return f"{ppo.estimator} on {ppo.rewards_words}, beta {recipe.train.beta:g} {held}"

    def facts(self, recipe: Mapping[str, Any]) -> list[str]:
        ppo, beta = recipe["ppo"], f"beta {recipe['train']['beta']:g}"
        held = f" steered to a KL of {ppo['kl_target']:g}" if ppo["kl_target"] else ""
        return [f"{ppo['estimator']} on {_rewarded_by(ppo['reward'])}", beta + held]

    def examples_per_step(self, recipe: Recipe) -> int:
        """A minibatch's answers."""
        return recipe.ppo.minibatch

    def room(self, recipe: Recipe) -> int:
        return recipe.ppo.max_new_tokens

    def result_rows(self, metrics: Mapping[str, Any]) -> list[Row]:
        """What answers drawn at temperature 1 are worth."""
        before, after = (metrics["drawn"][role] for role in ("reference", "policy"))
        rows = generated_row(metrics)
        if "truthful" in after:
            shares = [logged_rate(role, "truthful") for role in (before, after)]
            rows.append(rate_row("chosen claim, drawn", shares))
        rows.append(("reward, drawn", *(f"{role['reward']:+.2f}" for role in (before, after))))
        for name in (key for key in after if panels.part_of(key)):
            parts = (f"{role[name]:+.2f}" for role in (before, after))
            rows.append((f"reward by {panels.part_of(name)}, drawn", *parts))
        kl = f"{after['kl']:.2f} ± {after['kl_error']:.2f}"
        rows.append(("KL, nats per answer", "0", kl))
        return rows

    def well(self, curves: Curves) -> Advice:
        return advice.well(curves)


def _rewarded_by(reward: str | list[Any] | None) -> str:
    """``ppo.reward`` of a recipe as nested dicts, in few words."""
    parts = reward if isinstance(reward, list) else [reward or "?"]
    found = []
    for part in parts:
        one = {"source": part} if isinstance(part, str) else part
        name = one.get("name") or last_name(one["source"]).removesuffix("/adapter")
        weight = one.get("weight", 1.0)
        found.append(name if weight == 1 else f"{weight:g} × {name}")
    return " + ".join(found)


def _refuse_others_keys(ppo: Any) -> None:
    """Keys that another estimator alone reads must not stand there and do nothing."""
    for other in ESTIMATORS.values():
        changed = [key for key, default in other.own.items() if getattr(ppo, key) != default]
        if changed and other.name != ppo.estimator:
            keys = ", ".join(f"ppo.{key}" for key in changed)
            raise ValueError(
                f"ppo.estimator: {ppo.estimator} takes no notice of {keys}, which belong to"
                f" {other.name}; leave them away"
            )
