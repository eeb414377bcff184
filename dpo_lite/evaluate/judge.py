"""A trained adapter as a judge: the reward of any response, whoever wrote it.

DPO's policy is its own reward model (arXiv:2305.18290, Section 4): its reward is implicit, beta *
log(pi / pi_ref). A reward model's is what its head says, less the mean over its training data. Both
rank responses, find pairs whose label they doubt, and are measured on data of another kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from dpo_lite.data.packing import Encoded
from dpo_lite.data.tokens import Encoder, encoder_of
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import (
    adapter_folder,
    check_adapter,
    config_of,
    is_reward,
    start_adapter,
    trained_adapter,
)
from dpo_lite.model.base import load_base, load_tokenizer
from dpo_lite.model.heads import read_mean
from dpo_lite.model.precision import dtype_of
from dpo_lite.model.scoring import (
    Way,
    lay_out,
    micro_batches,
    response_logps,
    scoring_context,
)
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.recipe import Recipe, apply_override, load_recipe, validate_recipe
from dpo_lite.runs.folder import Run, open_run
from dpo_lite.tasks import TASKS
from dpo_lite.training.method import Objective
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.reward_model import rewards_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Judge:
    """``recipe`` says the base, what the reference is, beta, and whether rewards are per token.

    ``mean``: what the rewards of a reward model (task: reward) are centred by.
    """

    recipe: Recipe
    tokenizer: Any
    model: PeftModel
    mean: float = 0.0

    @property
    def encoder(self) -> Encoder:
        return encoder_of(self.tokenizer, self.recipe.data)

    @property
    def has_head(self) -> bool:
        """Whether it is a reward model; else its rewards are implicit."""
        return TASKS[self.recipe.task].head

    @property
    def words(self) -> str:
        """What its rewards are."""
        if self.has_head:
            return f"reward model, centred by {self.mean:+.3f}"
        return f"implicit reward, {self.recipe.train.objective}"

    def objective(self, way: Way) -> Objective:
        return Objective.of(self.recipe, way, dtype_of(self.model))

    def rewards(
        self,
        examples: Sequence[Encoded],
        objective: Objective,
        budget: int,
        references: ReferenceCache | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> list[np.ndarray]:
        """The rewards of every example's K responses, (K,) each, by packed rows.

        ``budget``: tokens per row. Call it with the model in eval mode.
        """
        if self.has_head:
            way, dtype = objective.way, objective.dtype
            rewards = rewards_of(self.model, examples, way, dtype, budget, progress)
            return [np.array(values) - self.mean for values in rewards]
        policy, reference = logps_by_role(
            self.model, examples, objective, budget, references, progress
        )
        return self.implicit_rewards(examples, policy, reference)

    def implicit_rewards(
        self,
        examples: Sequence[Encoded],
        policy: Sequence[Sequence[float]],
        reference: Sequence[Sequence[float]],
    ) -> list[np.ndarray]:
        """The same from log pi and log pi_ref of every example's responses, (K,) each."""
        beta, loss = self.recipe.train.beta, LOSSES[self.recipe.train.loss]
        rewards = []
        for row, ours, theirs in zip(examples, policy, reference, strict=True):
            lengths = np.array([len(ids) for ids in row["response_ids"]]) if loss.per_token else 1
            compared = 0.0 if loss.reference_free else np.array(theirs)
            rewards.append(beta * (np.array(ours) - compared) / lengths)
        return rewards


def judge_recipe(
    name: str, data: str | None = None, overrides: Sequence[str] = (), runs: str | Path = "runs"
) -> tuple[Recipe, Path]:
    """What to load for a run, or for an adapter by folder or Hub id; and the adapter's folder.

    A run is taken with its own base, beta and reference, another adapter with the base that it
    names, which is then the reference too. ``overrides`` are recipe keys that say it otherwise.
    """
    is_adapter = "/" in name or Path(name).is_dir()
    if run := _run(name, runs) if is_adapter else open_run(name, runs):
        recipe = load_recipe(run.recipe_file)
        adapter = trained_adapter(run)
        values = recipe.model_dump()
        values["model"]["adapter"] = start_adapter(run, recipe)
        if data:
            raw = "raw" if recipe.data.raw else "auto"
            values["data"] = {"train": data, "format": raw, "template": recipe.data.template}
    else:
        adapter = adapter_folder(name)
        base = config_of(adapter).get("base_model_name_or_path")
        values = {"model": {"base": base or ""}, "data": {"train": data or "-"}}
        if is_reward(adapter):
            values["task"] = "reward"
    for override in overrides:
        apply_override(values, override)
    recipe = validate_recipe(values, name)
    check_adapter(adapter, recipe.model.base, name, head=TASKS[recipe.task].head)
    return recipe, adapter


def load_judge(recipe: Recipe, adapter: Path) -> Judge:
    """The base with the adapter as its policy, and with the start adapter where it is reference.

    A reward model stands beside what it started from too, which answers in `best-of`.
    """
    head = TASKS[recipe.task].head
    model = roles.load_policy(load_base(recipe.model), adapter, head)
    start = adapter_folder(recipe.model.adapter) if recipe.reference == "start" else None
    if start and not is_reward(start):
        roles.add_start(model, start)
    section = recipe.model.model_copy(update={"adapter": str(adapter)})
    mean = read_mean(adapter) if head else 0.0
    return Judge(recipe, load_tokenizer(section), model.eval(), mean)


def _run(name: str, runs: str | Path) -> Run | None:
    paths = (Path(name), Path(runs) / name)
    return next((Run(path) for path in paths if (path / "recipe.yaml").is_file()), None)


@torch.no_grad()
def logps_by_role(
    model: PeftModel,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    references: ReferenceCache | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[list[list[float]], list[list[float]]]:
    """log pi and log pi_ref of every response of every example, in nats, in their order.

    ``budget``: tokens per packed batch. Call it with the model in eval mode.
    """
    policy: list[list[float]] = [[] for _ in examples]
    reference: list[list[float]] = [[] for _ in examples]
    for places in micro_batches(examples, objective.way, budget):
        part = [examples[place] for place in places]
        batch = lay_out(part, objective.way).to(model.device)

        def asked(batch=batch) -> torch.Tensor:
            with roles.reference(model):
                return response_logps(model, batch, objective.way)

        with scoring_context(model, batch, objective.dtype):
            known = references.logps(part, asked) if references else asked()
            with roles.policy(model):
                logps = response_logps(model, batch, objective.way)
        _put(policy, places, logps, batch.group_sizes)
        _put(reference, places, known, batch.group_sizes)
        progress(len(places))
    return policy, reference


@torch.no_grad()
def reference_logps(
    model: PeftModel, examples: Sequence[Encoded], objective: Objective, budget: int
) -> list[list[float]]:
    """log pi_ref alone, as above, of the base or the start adapter: a reward model has it too."""
    found: list[list[float]] = [[] for _ in examples]
    for places in micro_batches(examples, objective.way, budget):
        batch = lay_out([examples[place] for place in places], objective.way).to(model.device)
        with scoring_context(model, batch, objective.dtype), roles.reference(model):
            _put(found, places, response_logps(model, batch, objective.way), batch.group_sizes)
    return found


def _put(
    rows: list[list[float]], places: Sequence[int], values: torch.Tensor, sizes: Sequence[int]
) -> None:
    """The values (R,) of a batch's responses at the places of their examples."""
    for place, own in zip(places, values.cpu().split(list(sizes)), strict=True):
        rows[place] = own.tolist()
