"""Which update's adapter a run keeps, and when it ends before its last update.

Every evaluation while training is a look at the policy: what ``train.keep_by`` names, over all
held-out sets, and with ``train.kl_budget`` its KL to the reference. What a look decides is written
into the trainer's state and thus into every checkpoint, and a look that finds something to keep
asks for a checkpoint. So what is kept is always a whole checkpoint, which rotation spares, and a
run that goes on knows of it. A look that ends the run leaves no checkpoint behind: whoever goes on
comes from an earlier one and is ended by the same look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.checkpoints import load_checkpoint
from dpo_lite.rates import LOGGED_OF
from dpo_lite.recipe import Recipe
from dpo_lite.recipe.train_section import TrainSection
from dpo_lite.runs import whole
from dpo_lite.training import ranks

# What train.keep_by names: the metric of a held-out set, and whether more of it is better.
MEASURES = {
    "loss": ("loss", False),
    "accuracy": ("rewards/accuracies", True),
    "margin": ("rewards/margins", True),
    "reward": ("reward", True),
}
PATIENCE, BUDGET = "patience", "kl_budget"  # why a run ended before its last update


@dataclass(frozen=True)
class Look:
    """One evaluation while training."""

    step: int
    value: float | None  # of train.keep_by; None where it is not asked for or could not be told
    kl: float | None  # nats per answer; None without a budget


def look_at(
    step: int,
    metrics: Mapping[str, Any],
    sets: Mapping[str, int],
    train: TrainSection,
    kl_name: str = "kl",
) -> Look:
    """An evaluation's metrics, named ``eval_<set>_<metric>``, as one look.

    ``sets``: how many rows each held-out set has. ``kl_name``: of the KL, which is measured over
    all prompts or over those of a set.
    """
    value = kl = None
    if train.keep == "best":
        value = pooled(metrics, sets, MEASURES[train.keep_by or "loss"][0])
    if train.kl_budget is not None:
        kl = metrics[kl_name] if kl_name in metrics else pooled(metrics, sets, kl_name)
    return Look(step, value, kl)


def pooled(metrics: Mapping[str, Any], sets: Mapping[str, int], metric: str) -> float | None:
    """A metric's mean over all held-out sets, each counting by its rows, an accuracy's by the pairs
    that it is of; None where no set has the metric."""
    found = []
    for name, rows in sets.items():
        value = metrics.get(f"eval_{name}_{metric}")
        if value is not None:
            of = LOGGED_OF.get(metric, "prompts")  # a task that draws logs how many it answered
            found.append((metrics.get(f"eval_{name}_{of}", rows), value))
    weight = sum(count for count, _ in found)
    return sum(count * value for count, value in found) / weight if weight else None


def judged(
    look: Look, best_step: int, best_value: float | None, train: TrainSection
) -> tuple[bool, str | None]:
    """Whether this look's adapter is the one to keep as yet, and why the run ends here, if it does.

    ``best_step``: of what is kept so far, 0 where there is nothing yet.
    """
    if train.kl_budget is not None and not (look.kl is not None and look.kl <= train.kl_budget):
        return False, BUDGET
    if train.keep == "last":
        return True, None  # the newest within the budget
    if _is_better(look.value, best_value, MEASURES[train.keep_by or "loss"][1]):
        return True, None
    waited = (look.step - best_step) // (train.eval_steps or 1)
    return False, PATIENCE if train.patience and waited >= train.patience else None


def _is_better(value: float | None, best: float | None, more: bool) -> bool:
    if value is None or not math.isfinite(value):
        return False
    return best is None or (value > best if more else value < best)


class Keeper:
    """Told of every evaluation. ``state`` and ``control`` are transformers', of either trainer.

    ``measure_kl(step)`` gives the policy's KL in nats per answer, for tasks whose evaluation does
    not measure it by itself, which is then logged as ``kl_name``.
    """

    def __init__(
        self,
        train: TrainSection,
        sets: Mapping[str, int],
        say: Callable[[str], None],
        measure_kl: Callable[[int], float],
        kl_name: str = "kl",
    ):
        self.train, self.sets, self.say = train, sets, say
        self.measure_kl, self.kl_name = measure_kl, kl_name
        self.ended: str | None = None

    def beside(self, step: int) -> dict[str, float]:
        """What an evaluation measures besides the held-out sets."""
        return {} if self.train.kl_budget is None else {self.kl_name: self.measure_kl(step)}

    def look(self, step: int, metrics: Mapping[str, Any]) -> Look:
        return look_at(step, metrics, self.sets, self.train, self.kl_name)

    def evaluated(self, state: Any, control: Any, metrics: Mapping[str, Any]) -> None:
        look = self.look(state.global_step, metrics)
        kept = state.best_global_step or 0
        better, self.ended = ranks.gathered(judged(look, kept, state.best_metric, self.train))[0]
        if better:
            state.best_global_step, state.best_metric = look.step, look.value
            control.should_save = True
        if self.ended is None:
            return
        if self.ended == BUDGET and not kept:
            raise UserError(
                f"At update {look.step} the policy is {look.kl:.2f} nats per answer from its"
                f" reference, beyond train.kl_budget: {self.train.kl_budget:g}, and no evaluation"
                " before has left an adapter to keep; lower train.lr or train.eval_steps, or allow"
                " more."
            )
        control.should_training_stop = True
        control.should_save = False
        self.say(ending_words(self.train, self.ended, look))


def ending_words(train: TrainSection, ended: str, look: Look) -> str:
    """Why the run ends before its last update, for the terminal."""
    if ended == BUDGET:
        return f"the KL is {look.kl:.2f} nats per answer, beyond the budget: ending here"
    return f"no better {train.keep_by} in {train.patience} evaluations: ending here"


def check_held_out(recipe: Recipe, sets: Mapping[str, Sized]) -> None:
    """Raise UserError where evaluations are to decide and there is nothing to evaluate on."""
    if recipe.train.looks and not any(map(len, sets.values())):
        raise UserError(
            "train.keep: best and train.kl_budget look at held-out data, and there are none; name"
            " some by data.eval, or hold out a share by data.eval_share."
        )


def wear_kept(model: torch.nn.Module, checkpoints: Path, state: Any) -> None:
    """Put the kept update's adapter into the model, where that is not the last one."""
    step = state.best_global_step
    if not step or step == state.global_step:
        return
    folder = checkpoints / f"checkpoint-{step}"

    def load() -> None:
        if why := whole.fault(folder) if folder.is_dir() else "it is gone":
            raise UserError(
                f"{folder} has the adapter to keep, and {why}; start a new run, and leave the"
                " checkpoints of a run alone until it is finished."
            )
        load_checkpoint(model, folder)

    ranks.of_first(load)
    ranks.copy_from_first(roles.adapter_tensors(model))


def outcome(keeper: Keeper, state: Any, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What was kept and why, for results.json; ``records``: the lines of metrics.jsonl."""
    train, last_step = keeper.train, state.global_step
    looks = {
        record["step"]: keeper.look(record["step"], record)
        for record in records
        if record["step"] <= last_step and any(key.startswith("eval_") for key in record)
    }
    step = state.best_global_step or last_step
    kept, last = looks.get(step), looks.get(max(looks, default=0))
    return {
        "step": step,
        "trained": last_step,
        "planned": state.max_steps,
        "by": train.keep_by,
        "kl_budget": train.kl_budget,
        "patience": train.patience,
        "evaluations": len(looks),
        "ended": keeper.ended,
        "kept": vars(kept) if kept else None,
        "last": vars(last) if last else None,
    }
