"""A trained adapter as a judge: the reward of any response, whoever wrote it.

DPO's policy is its own reward model (arXiv:2305.18290, Section 4): its reward is implicit, beta *
log(pi / pi_ref). A reward model's is what its head says, less the mean over its training data. Both
rank responses, find pairs whose label they doubt, and are measured on data of another kind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from dpo_lite.data.encoding import EncodedSource, Options, encode_source
from dpo_lite.data.lengths import lengths_of
from dpo_lite.data.packing import Encoded
from dpo_lite.data.sources import read_source
from dpo_lite.data.tokens import Encoder, encoder_of
from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.memory.of_model import plan_run
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import (
    CONFIG,
    adapter_folder,
    check_adapter,
    is_reward,
    start_adapter,
    trained_adapter,
)
from dpo_lite.model.base import compute_dtype, load_base, load_tokenizer, position_limit
from dpo_lite.model.heads import read_mean
from dpo_lite.model.scoring import (
    Way,
    causal_lm,
    choose_way,
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
from dpo_lite.training.reference_cache import ReferenceCache, open_cache
from dpo_lite.training.reward_model import rewards_of

AT_ONCE = 1024  # rows whose ids are in memory
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
        return Objective.of(self.recipe, way, compute_dtype(self.model.device))

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
        ratios = log_ratios(self.model, examples, objective, budget, references, progress)
        rewards = [self.recipe.train.beta * np.array(row) for row in ratios]
        if not LOSSES[self.recipe.train.loss].per_token:
            return rewards
        lengths = [np.array([len(ids) for ids in row["response_ids"]]) for row in examples]
        return [row / count for row, count in zip(rewards, lengths, strict=True)]


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
        base = (read_json(adapter / CONFIG) or {}).get("base_model_name_or_path")
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
def log_ratios(
    model: PeftModel,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    references: ReferenceCache | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> list[list[float]]:
    """log pi - log pi_ref of every response of every example, in nats, in their order.

    ``budget``: tokens per packed batch. Call it with the model in eval mode.
    """
    ratios_by_example: list[list[float]] = [[] for _ in examples]
    for places in micro_batches(examples, objective.way, budget):
        part = [examples[place] for place in places]
        batch = lay_out(part, objective.way).to(model.device)

        def reference_logps(batch=batch) -> torch.Tensor:
            with roles.reference(model):
                return response_logps(model, batch, objective.way)

        with scoring_context(model, batch, objective.dtype):
            known = references.logps(part, reference_logps) if references else reference_logps()
            with roles.policy(model):
                ratios = response_logps(model, batch, objective.way).cpu() - known.cpu()
        for place, values in zip(places, ratios.split(batch.group_sizes), strict=True):
            ratios_by_example[place] = values.tolist()
        progress(len(places))
    return ratios_by_example


@dataclass(frozen=True)
class Scores:
    """Rewards of a source's rows: ``rewards`` and ``lengths`` hold an array of (K,) per row."""

    judge: Judge
    source: EncodedSource
    fitting: np.ndarray  # places in the source's table
    rewards: list[np.ndarray]
    lengths: list[np.ndarray]
    too_long: int

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that were not scored, by reason."""
        reasons = Counter(drop.reason.value for drop in self.source.dropped)
        return dict(reasons) | ({"longer than the limit": self.too_long} if self.too_long else {})

    def margins(self) -> np.ndarray:
        """Reward of the better minus the worse response, of every two of a row: (P,)."""
        pairs = [a - b for row in self.rewards for a, b in combinations(row.tolist(), 2)]
        return np.array(pairs, dtype=np.float64)

    def accuracy(self) -> float | None:
        """Share of pairs that are ranked as the data rank them; ties are left out."""
        margins = self.margins()
        decided = margins[margins != 0]
        return float((decided > 0).mean()) if len(decided) else None

    def longer_wins(self) -> float | None:
        """Share of pairs of unequal length whose longer response has the higher reward."""
        wins = [
            (length_a > length_b) == (a > b)
            for rewards, lengths in zip(self.rewards, self.lengths, strict=True)
            for (a, length_a), (b, length_b) in combinations(zip(rewards, lengths, strict=True), 2)
            if length_a != length_b and a != b
        ]
        return sum(wins) / len(wins) if wins else None

    def records(self, places: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
        """Rows as data that can be trained on: the last turn of the prompt, responses, scores."""
        decode = self.judge.tokenizer.decode
        for place in range(len(self.fitting)) if places is None else places:
            row = self.source.table[int(self.fitting[place])]
            yield {
                "row": row["row"],
                "prompt": row["prompt"],
                "responses": [
                    decode(ids, skip_special_tokens=True).strip() for ids in row["response_ids"]
                ],
                "scores": [round(reward, 5) for reward in self.rewards[place].tolist()],
                "tokens": self.lengths[place].tolist(),
            }

    def doubted(self, most: int) -> list[dict[str, Any]]:
        """Pairs whose label the judge doubts most: its margin is the most negative."""
        gaps = np.array([row[0] - row[-1] for row in self.rewards])
        worst = [int(i) for i in np.argsort(gaps, kind="stable")[:most] if gaps[i] < 0]
        return list(self.records(worst))

    def write(self, path: Path) -> None:
        """One JSON object a line, in the order of the source."""
        try:
            with open(path, "w", encoding="utf-8") as file:
                for record in self.records():
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"--out: {path} cannot be written ({error.strerror}).") from error


def encode_rows(recipe: Recipe, encoder: Encoder, say: Say) -> EncodedSource:
    """The recipe's one source as ids, every response of a row, nothing held out or thinned."""
    (part,) = recipe.data.sources
    section = recipe.data
    options = Options(part.format, part.columns, section.where, "keep", section.limit)
    return encode_source(read_source(part.source, section.revision), options, encoder, say)


def score_source(
    judge: Judge,
    source: EncodedSource,
    say: Say = lambda text: None,
    progress: Callable[[int], None] = lambda count: None,
) -> Scores:
    """The reward of every response, by packed rows and the kept reference numbers."""
    recipe, model = judge.recipe, judge.model
    lengths = lengths_of(source.table.data)
    limit = position_limit(causal_lm(model).config) or np.iinfo(np.int64).max
    if recipe.data.max_length != "auto":
        limit = min(limit, recipe.data.max_length)
    fitting = np.flatnonzero(lengths.whole <= limit)
    if not len(fitting):
        reasons = Counter(drop.reason.value for drop in source.dropped).most_common(1)
        why = reasons[0][0] if reasons else f"all are longer than {limit:,} tokens"
        raise UserError(f"No row of {source.name} can be scored: {why}.")
    few = [source.table[int(place)] for place in fitting[:3]]
    way = choose_way(model, few).way
    objective = judge.objective(way)
    tokens = lengths.select(fitting).of_batch(shared=way == "forest")
    budget = plan_run(model, recipe, few, way, tokens).budget
    references = open_cache(recipe, model, objective, say)
    model.eval()
    rewards, counts = [], []
    for start in range(0, len(fitting), AT_ONCE):
        rows = source.table.select(fitting[start : start + AT_ONCE]).to_list()
        rewards += judge.rewards(rows, objective, budget, references, progress)
        counts += [np.array([len(ids) for ids in row["response_ids"]]) for row in rows]
    return Scores(judge, source, fitting, rewards, counts, len(lengths.whole) - len(fitting))
