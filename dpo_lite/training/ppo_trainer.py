"""The loop around PPO's rollouts: optimiser, schedule, checkpoints, memory, what is logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import torch
from datasets import Dataset
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import TrainerControl, TrainerState

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.checkpoints import load_adapter, load_checkpoint, save_checkpoint
from dpo_lite.model.device_memory import halving, until_it_fits
from dpo_lite.objectives.policy_gradient import steered_beta
from dpo_lite.recipe import Recipe
from dpo_lite.runs.checkpoints import rotate
from dpo_lite.runs.whole import remove
from dpo_lite.training import ranks
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.checkpoints import checkpoint_written
from dpo_lite.training.loss_scale import LossScale
from dpo_lite.training.method import Objective
from dpo_lite.training.parameter_groups import groups
from dpo_lite.training.ppo import (
    Rewarder,
    Rollout,
    draw_answers,
    judge_answers,
    prompts_of_rollout,
    rollout_metrics,
    rollouts,
)
from dpo_lite.training.ppo_learning import credit, learn, minibatch_gradient
from dpo_lite.training.ppo_split import own_prompts, own_seed, rolled_together
from dpo_lite.training.schedule import rates_as_asked, schedule

VALUE_FILE, OPTIMIZER_FILE = "value.safetensors", "optimizer.pt"
T = TypeVar("T")


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
        evaluate: Callable[[], dict[str, float]] = dict,
    ):
        self.model, self.recipe, self.objective = model, recipe, objective
        self.budget, self.at_once = budget, at_once
        self.folder, self.prompts = folder, train
        self.rewarder, self.ends = rewarder, ends
        self.recorder, self.evaluate, self.say = recorder, evaluate, recorder.console.print
        self.beta = recipe.train.beta
        self.scale = LossScale.of(objective.dtype)
        self.state = TrainerState(max_steps=rollouts(recipe, len(train)))
        self.control = TrainerControl()
        self.optimizer = _optimizer(model, recipe)
        self.minibatch = max(1, recipe.ppo.minibatch // recipe.ppo.answers)  # prompts
        minibatches = -(-recipe.train.batch_size // self.minibatch)
        steps = self.state.max_steps * recipe.ppo.passes * minibatches
        self.scheduler = schedule(
            self.optimizer, recipe.train.scheduler, recipe.train.warmup, steps
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
            last = state.global_step == state.max_steps
            recorder.on_step_end(None, state, control)
            control.should_save |= last or state.global_step % train.save_steps == 0
            if train.eval_steps and (state.global_step % train.eval_steps == 0 or last):
                measured = self.evaluate()
                recorder.on_log(None, state, control, logs=measured)
                recorder.on_evaluate(None, state, control, measured)
            if control.should_save:
                control.should_save = False
                self.save(self.folder / f"checkpoint-{state.global_step}")
                recorder.on_save(None, state, control)

    def step(self, number: int) -> dict[str, float]:
        """Rollout ``number`` from drawing to learning; returns its metrics.

        Its random numbers follow from the seed and its number, and from how many answers are drawn
        at once, which a checkpoint keeps: resuming changes nothing. Processes that train together
        draw a share of the answers each, and learn from all of them.
        """
        train, ppo = self.recipe.train, self.recipe.ppo
        places = prompts_of_rollout(number, len(self.prompts), train.batch_size, train.seed)
        clock = [time.perf_counter()]
        prompts = [self.prompts[place] for place in places]
        seed = train.seed * 1_000_003 + number
        own, drawing_seed = own_prompts(prompts), own_seed(seed)

        def drawing(at_once: int) -> list[dict]:
            torch.manual_seed(drawing_seed)  # also where it has to start again
            return draw_answers(self.model, own, ppo, self.ends, at_once)

        drawn, at_once = ranks.each(lambda: halving(drawing, self.at_once))
        at_once = min(ranks.gathered(at_once))
        if at_once < self.at_once:
            self.say(f"out of memory: drawing {at_once} answers at once from now on")
            self.at_once = at_once
        clock.append(time.perf_counter())
        lengths = [len(e["prompt_ids"]) + len(a) for e in drawn for a in e["response_ids"]]
        longest = max(ranks.gathered(max(lengths, default=0)))
        rollout = self._in_memory(
            lambda: rolled_together(
                prompts,
                lambda: judge_answers(
                    self.model, drawn, self.rewarder, self.ends, self.objective, self.budget
                ),
            ),
            longest,
        )
        if not ranks.alone():
            torch.manual_seed(seed)  # the order of what is learned is the same in all processes
        clock.append(time.perf_counter())
        metrics = rollout_metrics(rollout, ppo, self.beta)
        metrics |= self._learn(rollout, longest)
        clock.append(time.perf_counter())
        if ppo.kl_target:
            self.beta = steered_beta(self.beta, metrics["kl"], ppo.kl_target)
        names = ("drawing", "judging", "learning")
        spent = {
            f"seconds/{name}": end - begin
            for name, begin, end in zip(names, clock[:-1], clock[1:], strict=True)
        }
        metrics |= self.scale.metrics() if self.scale else {}
        return metrics | spent | {"learning_rate": self.scheduler.get_last_lr()[0]}

    def _learn(self, rollout: Rollout, longest: int) -> dict[str, float]:
        ppo = self.recipe.ppo
        earned = credit(rollout, ppo, self.beta)

        def gradient(places):
            def whole():
                self.optimizer.zero_grad(set_to_none=True)  # of an attempt that broke off
                return minibatch_gradient(
                    self.model,
                    rollout,
                    places,
                    earned,
                    ppo,
                    self.objective,
                    self.budget,
                    self.scale.scale if self.scale else 1.0,
                )

            return self._in_memory(whole, longest)

        return learn(
            len(rollout.examples),
            self.minibatch,
            ppo.passes,
            gradient,
            self.optimizer,
            self.recipe.train.max_grad_norm,
            self.scheduler.step,
            self.scale,
        )

    def _in_memory(self, work: Callable[[], T], longest: int) -> T:
        """Do the work; where memory runs out, with half the tokens per micro-batch. It changes no
        gradient. ``longest``: tokens of the longest prompt with one answer."""

        def halve_budget(error: torch.OutOfMemoryError) -> None:
            if self.budget <= longest:
                raise UserError(
                    f"A prompt with its answer, {longest} tokens, does not fit in the memory of"
                    " the GPU; lower data.max_length or ppo.max_new_tokens."
                ) from error
            self.budget //= 2
            self.say(f"out of memory: going on with {self.budget} tokens per micro-batch")

        return until_it_fits(work, halve_budget)

    def save(self, folder: Path) -> None:
        """Adapters, optimiser and place, written aside and then put in place as a whole.

        Of processes that train together one writes: all of them are in the same state.
        """
        if not ranks.first():
            return
        aside = folder.with_name(f".{folder.name}")
        with checkpoint_written(aside):
            self._write(aside)
        remove(folder)
        aside.rename(folder)
        rotate(folder, self.state.best_global_step)

    def _write(self, folder: Path) -> None:
        save_checkpoint(self.model, folder)
        if roles.VALUE in self.model.peft_config:
            tensors = get_peft_model_state_dict(
                self.model, adapter_name=roles.VALUE, save_embedding_layers=False
            )
            save_file({k: v.contiguous() for k, v in tensors.items()}, str(folder / VALUE_FILE))
        resumable = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "beta": self.beta,
            "at_once": self.at_once,
            "loss_scale": self.scale.state() if self.scale else None,
        }
        torch.save(resumable, folder / OPTIMIZER_FILE)
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def load(self, folder: Path) -> None:
        state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
        for key in ("global_step", "best_global_step", "best_metric"):
            setattr(self.state, key, getattr(state, key))
        load_checkpoint(self.model, folder)
        if roles.VALUE in self.model.peft_config:
            load_adapter(self.model, folder / VALUE_FILE, roles.VALUE)
        resumable = torch.load(folder / OPTIMIZER_FILE, weights_only=True)
        with rates_as_asked(self.optimizer, self.scheduler):
            self.optimizer.load_state_dict(resumable["optimizer"])
            self.scheduler.load_state_dict(resumable["scheduler"])
        self.beta, self.at_once = resumable["beta"], resumable["at_once"]
        if self.scale and resumable.get("loss_scale"):
            self.scale.load(resumable["loss_scale"])


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW over the policy's parameters and, behind them, those of the value function."""
    train, ratio = recipe.train, recipe.adapter.lora_plus
    moved = groups(roles.named_parameters(model, roles.POLICY), train.lr, ratio)
    if roles.VALUE in model.peft_config:
        lr = recipe.ppo.value_lr or train.lr
        moved += groups(roles.named_parameters(model, roles.VALUE), lr, ratio)
    if train.optimizer == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(moved, lr=train.lr, weight_decay=train.weight_decay)
    return torch.optim.AdamW(moved, lr=train.lr, weight_decay=train.weight_decay, fused=True)
