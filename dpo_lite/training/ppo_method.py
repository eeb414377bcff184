"""PPO, RLOO, GRPO in the flow of a run: the roles they wear, what is tried, what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel

from dpo_lite.data.expected import expected_answers, expected_lengths
from dpo_lite.data.lengths import Lengths
from dpo_lite.data.packing import Encoded
from dpo_lite.data.prepare import PreparedData
from dpo_lite.data.tokens import encoder_of
from dpo_lite.judge.verdicts import Places
from dpo_lite.memory.plan import MemoryPlan
from dpo_lite.memory.trial import Trial
from dpo_lite.model import roles
from dpo_lite.objectives.estimators import ESTIMATORS
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run
from dpo_lite.training import ranks
from dpo_lite.training.judge_reward import keep_tried, try_judge
from dpo_lite.training.method import STARTS_APART, Loaded, Method, Objective, Sets
from dpo_lite.training.ppo import rollouts
from dpo_lite.training.ppo_evaluation import ROLES, measure, ruler_of
from dpo_lite.training.ppo_trainer import VALUE_FILE, PolicyTrainer
from dpo_lite.training.ppo_trial import Drawing, rollout_seconds, try_rollout
from dpo_lite.training.reward_source import (
    add_rewards,
    keep_reward,
    replies_of_run,
    reward_folders,
    reward_print,
)


class PPO(Method):
    untimed = "drawing answers takes most of it, and it was not tried"
    undivided = "its processes would have to draw every answer alike"

    def load(self, recipe: Recipe) -> PeftModel:
        folders = reward_folders(recipe)  # all looked for before the base is loaded
        try_judge(recipe, replies_of_run(recipe))
        model = super().load(recipe)
        add_rewards(model, folders)
        if ESTIMATORS[recipe.ppo.estimator].valued:
            roles.add_value(model, recipe.adapter, next(iter(folders), None))
        return model

    def compares(self, recipe: Recipe) -> bool:
        return True

    def caches_reference(self, recipe: Recipe) -> bool:
        return False  # answers are drawn anew each time

    def expected(self, recipe: Recipe, data: PreparedData) -> tuple[list[dict[str, Any]], Lengths]:
        longest = recipe.ppo.max_new_tokens
        return expected_answers(data.few, longest), expected_lengths(data.lengths, longest)

    def answered(self, recipe: Recipe, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return expected_answers(examples, recipe.ppo.max_new_tokens)

    def assumed(self, recipe: Recipe, length: int) -> list[Encoded]:
        return self.answered(recipe, [{"prompt_ids": [0] * length}])

    def updates(self, recipe: Recipe, examples: int) -> int:
        return rollouts(recipe, examples)

    def measured(self, objective: Objective) -> Objective:
        """The gradient of drawn answers' likelihood: as large as its own."""
        return replace(objective, task="sft")

    def rehearse(
        self,
        loaded: Loaded,
        objective: Objective,
        plan: MemoryPlan,
        trial: Trial,
        longest: int,
        say: Callable[[str], None],
    ) -> tuple[float, Drawing]:
        say("drawing answers for one rollout")
        recipe, model, train = loaded.recipe, loaded.model, loaded.data.train
        most = math.ceil(recipe.train.batch_size / ranks.count())
        prompts = list(train.select(range(min(most, len(train)))))
        encoder = encoder_of(loaded.tokenizer, recipe.data)
        drawing = ranks.each(
            lambda: try_rollout(model, recipe, prompts, encoder, objective, plan, longest)
        )
        gradient = trial.seconds * drawing.tokens / trial.tokens
        return rollout_seconds(model, recipe, gradient, drawing), drawing

    def before(self, recipe: Recipe, model: PeftModel, loss: float) -> tuple[str, str]:
        reference = roles.reference_name(model)
        if recipe.starts_apart:
            return reference, STARTS_APART
        return reference, "the KL of drawn answers is 0: policy equals reference"

    def keep(self, run: Run, recipe: Recipe) -> None:
        keep_reward(run, recipe)
        keep_tried(recipe, Places(run.path).rewards)

    def manifest(self, recipe: Recipe) -> dict[str, Any]:
        return {"reward_print": reward_print(recipe)}

    def checkpoint_files(self, recipe: Recipe) -> list[str]:
        apart = ("scheduler.pt", "rng_state.pth")  # one lies in optimizer.pt, of the other none is
        shared = [name for name in super().checkpoint_files(recipe) if name not in apart]
        return shared + [VALUE_FILE] * (recipe.ppo.estimator == "ppo")

    def trainer(
        self,
        loaded: Loaded,
        objective: Objective,
        budget: int,
        folder: Path,
        recorder: Any,
        references: Any,
        held_out: Sets,
        rehearsal: Drawing | None,
    ) -> PolicyTrainer:
        ruler = ruler_of(loaded, objective, budget, say=recorder.console.print)

        def evaluate() -> dict[str, float]:
            return {
                f"eval_{name}_{key}": value
                for name, rows in held_out.items()
                for key, value in measure(ruler, rows, "policy").items()
            }

        return PolicyTrainer(
            model=loaded.model,
            recipe=loaded.recipe,
            objective=objective,
            budget=budget,
            folder=folder,
            train=loaded.data.train,
            rewarder=ruler.rewarder,
            ends=ruler.ends,
            at_once=min(ranks.gathered(rehearsal.at_once)),
            recorder=recorder,
            evaluate=evaluate,
        )

    def evaluate(
        self,
        loaded: Loaded,
        held_out: Sets,
        objective: Objective,
        budget: int,
        references: Any,
        progress: Callable[[int], None],
    ) -> dict[str, dict[str, Any]]:
        """What drawn answers are worth, of the reference and of the policy."""
        ruler, sets = ruler_of(loaded, objective, budget), {}
        for name, rows in held_out.items():
            sets[name] = {"drawn": {role: measure(ruler, rows, role) for role in ROLES}}
            progress(len(rows))
        return sets

    def beside(self, recipe: Recipe) -> tuple[int, int]:
        """The value function is trained, reward model and start adapter lie frozen."""
        adapters = sum(one.is_adapter for one in recipe.ppo.rewards)
        start = recipe.reference == "start"
        return int(ESTIMATORS[recipe.ppo.estimator].valued), adapters + start
