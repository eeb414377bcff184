"""The loop around PPO's rollouts: optimiser, schedule, checkpoints, memory, what is logged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import TrainerControl, TrainerState, get_scheduler

from dpo_lite.data.tokens import Encoder
from dpo_lite.drawn import drawn_metrics
from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.scoring import batch_tokens
from dpo_lite.recipe import Recipe
from dpo_lite.rl import steered_beta
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.ppo import (
    Rewarder,
    Rollout,
    credit,
    draw,
    judge,
    learn,
    minibatch_gradient,
    prompts_of_rollout,
    rollout_metrics,
    rollouts,
)
from dpo_lite.training.ppo_preflight import all_ends
from dpo_lite.training.reward_source import reward_folder, rewarder
from dpo_lite.training.update import Objective

if TYPE_CHECKING:
    from dpo_lite.preflight import Loaded, Report

KEPT = 2  # checkpoints


def policy_trainer(
    loaded: Loaded,
    report: Report,
    objective: Objective,
    folder: Path,
    recorder: RunRecorder,
    held_out: Mapping[str, Sequence[dict[str, Any]]],
) -> PolicyTrainer:
    """The trainer of a run whose preflight is over."""
    encoder = _encoder(loaded)
    budget = report.plan.budget

    def evaluate() -> dict[str, float]:
        metrics = {}
        for name, rows in held_out.items():
            found = earned_held_out(loaded, rows, objective, budget, names=("policy",))
            policy = found["drawn"]["policy"]
            metrics |= {f"eval_{name}_{key}": value for key, value in policy.items()}
        return metrics

    return PolicyTrainer(
        model=loaded.model,
        recipe=loaded.recipe,
        objective=objective,
        budget=budget,
        folder=folder,
        train=loaded.data.train,
        rewarder=rewarder(loaded.model, loaded.recipe, objective, budget, encoder.decode),
        ends=all_ends(loaded.model, encoder),
        at_once=report.drawing.at_once,
        recorder=recorder,
        say=recorder.console.print,
        evaluate=evaluate,
    )


def earned_held_out(
    loaded: Loaded,
    rows: Sequence[dict[str, Any]],
    objective: Objective,
    budget: int,
    progress: Callable[[int], None] = lambda count: None,
    answers: int = 1,
    names: Collection[str] = ("reference", "policy"),
) -> dict[str, Any]:
    """What drawn answers to held-out prompts earn, by role: ``drawn`` of results.json."""
    model, recipe, encoder = loaded.model, loaded.recipe, _encoder(loaded)
    if (adapter := reward_folder(recipe)) and roles.REWARD not in model.peft_config:
        roles.add_reward(model, adapter)
    judged_by = rewarder(model, recipe, objective, budget, encoder.decode)
    found = {
        name: drawn_metrics(
            model,
            loaded.tokenizer,
            rows,
            {"reference": roles.reference, "policy": roles.policy}[name],
            judged_by,
            recipe.ppo,
            all_ends(model, encoder),
            objective,
            budget,
            answers=answers,
        )
        for name in names
    }
    progress(len(rows))
    return {"drawn": found}


def _encoder(loaded: Loaded) -> Encoder:
    data = loaded.recipe.data
    return Encoder(loaded.tokenizer, data.raw, data.template)


class PolicyTrainer:
    """Trains the policy and the value function of a model that has them, rollout by rollout.

    ``state`` and ``optimizer`` as transformers' Trainer has them.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        recipe: Recipe,
        objective: Objective,
        budget: int,
        folder: Path,
        train: Dataset,
        rewarder: Rewarder,
        ends: Collection[int],
        at_once: int,
        recorder: RunRecorder,
        say: Callable[[str], None],
        evaluate: Callable[[], dict[str, float]] = dict,
    ):
        self.model, self.recipe, self.objective = model, recipe, objective
        self.budget, self.at_once = budget, at_once
        self.folder, self.prompts = folder, train
        self.rewarder, self.ends = rewarder, ends
        self.recorder, self.say, self.evaluate = recorder, say, evaluate
        self.beta = recipe.train.beta
        self.state = TrainerState(max_steps=rollouts(recipe, len(train)))
        self.control = TrainerControl()
        self.optimizer = _optimizer(model, recipe)
        minibatches = -(-recipe.train.batch_size // recipe.examples_per_step)
        steps = self.state.max_steps * recipe.ppo.passes * minibatches
        self.scheduler = get_scheduler(
            recipe.train.scheduler, self.optimizer, int(recipe.train.warmup * steps), steps
        )

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        if resume_from_checkpoint:
            self.load(Path(resume_from_checkpoint))
        state, control, recorder = self.state, self.control, self.recorder
        train = self.recipe.train
        recorder.on_train_begin(None, state, control)
        while state.global_step < state.max_steps and not control.should_training_stop:
            metrics = self.step(state.global_step)
            state.global_step += 1
            recorder.on_log(None, state, control, logs=metrics)
            if train.eval_steps and state.global_step % train.eval_steps == 0:
                recorder.on_log(None, state, control, logs=self.evaluate())
            recorder.on_step_end(None, state, control)
            last = state.global_step == state.max_steps
            if control.should_save or last or state.global_step % train.save_steps == 0:
                self.save(self.folder / f"checkpoint-{state.global_step}")
                recorder.on_save(None, state, control)

    def step(self, number: int) -> dict[str, float]:
        """Rollout ``number`` from drawing to learning; returns its metrics.

        Its random numbers follow from the seed and its number alone: resuming changes nothing.
        """
        train, ppo = self.recipe.train, self.recipe.ppo
        torch.manual_seed(train.seed * 1_000_003 + number)
        places = prompts_of_rollout(number, len(self.prompts), train.batch_size, train.seed)
        clock = [time.perf_counter()]
        drawn = self._in_memory(lambda: self._draw([self.prompts[place] for place in places]))
        clock.append(time.perf_counter())
        rollout = self._in_memory(
            lambda: judge(self.model, drawn, self.rewarder, self.ends, self.objective, self.budget),
            drawn,
        )
        clock.append(time.perf_counter())
        metrics = rollout_metrics(rollout, ppo, self.beta)
        metrics |= self._learn(rollout)
        clock.append(time.perf_counter())
        if ppo.kl_target:
            self.beta = steered_beta(self.beta, metrics["kl"], ppo.kl_target)
        names = ("drawing", "judging", "learning")
        spent = {
            f"seconds/{name}": end - begin
            for name, begin, end in zip(names, clock[:-1], clock[1:], strict=True)
        }
        return metrics | spent | {"learning_rate": self.scheduler.get_last_lr()[0]}

    def _draw(self, prompts: list[dict]) -> list[dict]:
        return draw(self.model, prompts, self.recipe.ppo, self.ends, self.at_once)

    def _learn(self, rollout: Rollout) -> dict[str, float]:
        ppo = self.recipe.ppo
        earned = credit(rollout, ppo, self.beta)

        def gradient(places):
            examples = [rollout.examples[place] for place in places]

            def whole():
                self.optimizer.zero_grad(set_to_none=True)  # of an attempt that broke off
                return minibatch_gradient(
                    self.model, rollout, places, earned, ppo, self.objective, self.budget
                )

            return self._in_memory(whole, examples)

        return learn(
            len(rollout.examples),
            self.recipe.examples_per_step,
            ppo.passes,
            gradient,
            self.optimizer,
            self.recipe.train.max_grad_norm,
            self.scheduler.step,
        )

    def _in_memory(self, work: Callable, examples: list[dict] | None = None):
        """Do the work; where memory runs out, in smaller parts: of answers drawn at once, else of
        tokens in a micro-batch. Neither changes a gradient."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError as error:
                self._give_up_more(examples, error)
            torch.cuda.empty_cache()

    def _give_up_more(self, examples: list[dict] | None, error: Exception) -> None:
        if examples is None and self.at_once > 1:
            self.at_once //= 2
            self.say(f"out of memory: drawing {self.at_once} answers at once from now on")
            return
        longest = max((batch_tokens(e, self.objective.way) for e in examples or []), default=0)
        if examples is None or self.budget <= longest:
            raise UserError(
                "One prompt with its answers does not fit in the memory of the GPU; lower "
                "data.max_length, ppo.max_new_tokens or ppo.answers."
            ) from error
        self.budget //= 2
        self.say(f"out of memory: going on with {self.budget} tokens per micro-batch")

    def save(self, folder: Path) -> None:
        """Adapters, optimiser and place; the place is written last, so a torn one is not met."""
        self.model.save_pretrained(
            str(folder), selected_adapters=[roles.POLICY], save_embedding_layers=False
        )
        if roles.VALUE in self.model.peft_config:
            tensors = get_peft_model_state_dict(
                self.model, adapter_name=roles.VALUE, save_embedding_layers=False
            )
            save_file(
                {k: v.contiguous() for k, v in tensors.items()}, str(folder / "value.safetensors")
            )
        torch.save(
            {
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "beta": self.beta,
            },
            folder / "optimizer.pt",
        )
        self.state.save_to_json(str(folder / "trainer_state.json"))
        saved = sorted(folder.parent.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
        for old in saved[:-KEPT]:
            shutil.rmtree(old)

    def load(self, folder: Path) -> None:
        self.state.global_step = TrainerState.load_from_json(
            str(folder / "trainer_state.json")
        ).global_step
        files = {roles.POLICY: "adapter_model.safetensors"}
        if roles.VALUE in self.model.peft_config:
            files[roles.VALUE] = "value.safetensors"
        for name, file in files.items():
            set_peft_model_state_dict(self.model, load_file(folder / file), adapter_name=name)
        kept = torch.load(folder / "optimizer.pt", weights_only=True)
        self.optimizer.load_state_dict(kept["optimizer"])
        self.scheduler.load_state_dict(kept["scheduler"])
        self.beta = kept["beta"]


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW over the policy's parameters and, in a second group, those of the value function."""
    train = recipe.train
    trained = [roles.parameters(model, roles.POLICY)]
    if roles.VALUE in model.peft_config:
        trained.append(roles.parameters(model, roles.VALUE))
    groups = [{"params": parameters} for parameters in trained]
    if train.optimizer == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, lr=train.lr, weight_decay=train.weight_decay)
    return torch.optim.AdamW(groups, lr=train.lr, weight_decay=train.weight_decay, fused=True)
