"""One loaded base that wears the adapters of any runs trained on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peft import PeftModel

from dpo_lite.compare.columns import POLICY, REFERENCE, Column, columns
from dpo_lite.compare.lockstep import Answer, Sampling, answer
from dpo_lite.compare.mixing import Mix
from dpo_lite.compare.stopping import stopping
from dpo_lite.compare.token_rewards import token_rewards, token_texts
from dpo_lite.data.tokens import encoder_of
from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.base import load_base, load_tokenizer, position_limit
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.saved_adapter import add_saved
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.recipe import ModelSection, Recipe, load_recipe
from dpo_lite.runs.folder import Run

MOST_ADAPTERS = 6


@dataclass
class SharedBase:
    """``worn``: fingerprint → PEFT's name of the adapter; the one last used stands last."""

    section: ModelSection
    tokenizer: Any
    model: PeftModel
    worn: dict[str, str] = field(default_factory=dict)
    made: int = 0

    def fits(self, section: ModelSection) -> bool:
        """Whether the base and the tokenizer of another recipe are those that are loaded."""
        ours, theirs = self.section, section
        if bool(ours.adapter) != bool(theirs.adapter) and not self.tokenizer.chat_template:
            return False  # an adapter may bring the chat template
        keys = ("base", "revision", "quantization", "trust_remote_code")
        return all(getattr(ours, key) == getattr(theirs, key) for key in keys)

    def names(self, wanted: Sequence[Column]) -> list[str | Mix]:
        """PEFT's names for the columns; adapters that are not there yet are loaded."""
        needed = [part for column in wanted for part in column.parts]
        for column in needed:
            if column.adapter is None:
                continue
            name = self.worn.pop(column.fingerprint, None) or self._load(column)
            self.worn[column.fingerprint] = name
        self._forget({column.fingerprint for column in needed})
        return [self._name(column) for column in wanted]

    def _name(self, column: Column) -> str | Mix:
        if column.between is None:
            return self.adapter(column)
        reference, policy = column.between
        return Mix(self.adapter(policy), self.adapter(reference), column.strength)

    def adapter(self, column: Column) -> str:
        """PEFT's name of what a column that is no mixture wears."""
        return BASE if column.adapter is None else self.worn[column.fingerprint]

    def _load(self, column: Column) -> str:
        self.made += 1
        name = f"column{self.made}"
        try:
            add_saved(self.model, column.adapter, name, head=False, trained=False)
        except (ValueError, OSError, RuntimeError) as error:
            raise UserError(
                f"{column.label}: {column.adapter} does not load on this base: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return name

    def _forget(self, needed: set[str]) -> None:
        """Adapters take memory too: the ones not used for longest go first."""
        spare = [f for f in self.worn if f not in needed and self.worn[f] != roles.POLICY]
        for old in spare[: max(0, len(self.worn) - MOST_ADAPTERS)]:
            self.model.delete_adapter(self.worn.pop(old))


def load_shared_base(run: Run) -> SharedBase:
    """The run's base with the run's adapter on it, nothing trainable."""
    recipe = load_recipe(run.recipe_file)
    (column,) = columns(run, [POLICY])
    tokenizer = load_tokenizer(recipe.model)
    model = roles.load_policy(load_base(recipe.model), column.adapter)
    model.requires_grad_(False)
    model.eval()
    return SharedBase(recipe.model, tokenizer, model, {column.fingerprint: roles.POLICY})


@dataclass(frozen=True)
class ScoredAnswer:
    """One column's answer; ``tokens`` are (text, implicit reward) and sum up to ``reward``.

    ``moved``: of a mixture the nats of KL along its answer.
    """

    label: str
    fingerprint: str
    text: str
    ended: bool
    tokens: list[tuple[str, float]]
    moved: float | None = None

    @property
    def reward(self) -> float:
        return sum(reward for _, reward in self.tokens)


def ask(
    base: SharedBase,
    run: Run,
    wanted: Sequence[Column],
    prompt: str | list[dict[str, str]],
    sampling: Sampling,
    show: Callable[[list[str]], None] = lambda texts: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[ScoredAnswer]:
    """Answers of the columns to a prompt (a user turn, or the messages before the answer), each
    with its implicit reward under the *run*'s policy. When ``stop`` says so there are none.

    The reward beta * log(pi / pi_ref) is always the one run's, whoever answered: how much more
    likely its training made this text.
    """
    recipe: Recipe = load_recipe(run.recipe_file)
    encoder = encoder_of(base.tokenizer, recipe.data)
    ids = encoder.prompt_ids(prompt)
    most = position_limit(base.model.config)
    if most and len(ids) >= most:
        raise UserError(
            f"The prompt has {len(ids):,} tokens, and {recipe.model.base} takes {most:,} with its "
            "answer; shorten it."
        )
    if most:
        sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, most - len(ids)))
    judges = columns(run, [POLICY, REFERENCE])
    names = base.names([*wanted, *judges])[: len(wanted)]
    policy, reference = map(base.adapter, judges)
    ends = {encoder.end_id, base.tokenizer.eos_token_id}
    answers: list[Answer] = []
    rewards: list[list[float]] = []
    with stopping(base.model, stop):  # a long prompt is read for longer than its answer takes
        answers = answer(base.model, base.tokenizer, ids, names, ends, sampling, show, stop)
        rewards = token_rewards(
            base.model, ids, [a.ids for a in answers], policy, reference, recipe.train.beta
        )
    if stop():
        return []
    if LOSSES[recipe.train.loss].per_token:  # the mean is the reward, so each token adds its share
        rewards = [[value / len(values) for value in values] for values in rewards]
    return [
        ScoredAnswer(
            column.label,
            column.fingerprint,
            given.text,
            given.ended,
            list(zip(token_texts(base.tokenizer, given.ids), values, strict=True)),
            given.moved,
        )
        for column, given, values in zip(wanted, answers, rewards, strict=True)
    ]
