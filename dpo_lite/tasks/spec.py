"""What a task is, said once: its words, its data, its numbers, what is shown and published of it.

``Task`` holds the defaults, which are DPO's kin: pairs of responses, updates over examples, answers
before and after. A file beside this one says what a task has of its own; dpo_lite.tasks has them by
name. Whoever shows, checks or publishes something asks the task and never which one it is.

No torch in this package: page and command line read it. How an update is computed, which only a
training process needs, is the task's *method*, a class in dpo_lite.training that is imported when
it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from dpo_lite.advice.rules import Advice, Curves, Rule
from dpo_lite.imports import quick_imports
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.rates import COUNTS, Rate, of_how_many, rate_at
from dpo_lite.tasks.card import Card
from dpo_lite.tasks.panels import Panel

# dpo_lite.recipe.Recipe: it stands above, since the schema asks the tasks what is valid.
Recipe = Any

PAIRWISE = ("best_worst", "adjacent", "all", "keep")
DEMONSTRATIONS = ("best", "turns")  # what SFT is shown of the data
PROMPTS = "prompts"  # what a task takes that answers by itself
UNPAIRED = "unpaired"  # what KTO is shown of the data: answers one by one, good or bad

Row = tuple[str, ...]
GENERATED = "chosen claim, generated"
START = "start"  # the policy before its first update, where that is not its reference


class Task:
    """The defaults of all tasks. Attributes are facts, methods take recipes and results."""

    name: str
    description: str  # a clause behind its name, in the recipe's documentation
    # The class of its mechanics as `module:name`, or the class itself: training.method.Method.
    method: str | type = ""
    runner = "dpo_lite.jobs.train"  # the module whose start() and resume() take a run through

    unit = "update"  # what a run goes through one by one, and what it takes of the data each time
    examples = "examples"
    pairs: tuple[str, ...] = PAIRWISE  # values of data.pairs; the first is its own default
    sections: tuple[str, ...] = ()  # of the recipe, that are for it
    data_alone: Mapping[str, Any] = {}  # keys that it needs and that say nothing of the data

    weighs_labels = False  # whether good and bad answers weigh by themselves (train.*desirable_…)
    sampled_kl = "kl"  # the name of the KL estimated from drawn answers (eval.sample_steps)
    head = False  # whether it trains a scalar head, which judges answers and gives none
    composed = False  # whether its run is made of runs, and has no adapter of its own
    not_swept = ""  # why its runs are not points of a sweep
    engines: tuple[str, ...] = ("dpo_lite",)

    kept_by: tuple[str, ...] = ("loss",)  # values of train.keep_by; the first is its own default

    panels: tuple[Panel, ...] = ()
    in_small: tuple[str, ...] = ()  # metrics that the terminal shows as one line of blocks
    columns: tuple[str, ...] = ("reference", "policy")  # over the rows of a held-out set
    # Pictures of what was measured: file's name and the function that draws results' sets into it.
    pictures: Mapping[str, str] = {}
    early = 10  # updates before which curves say nothing
    rules: Sequence[Rule] = ()
    card: Card = Card()
    # What stands where answers would be, a title and a sentence.
    no_answers = ("No answers yet", "The run answers its prompts before it trains.")

    # --- the recipe ------------------------------------------------------------------------------

    def settle(self, recipe: Recipe) -> None:
        """Put in what it takes by itself; raise ValueError where keys do not suit it."""

    def weigh(self, recipe: Recipe, labels: Mapping[str, int]) -> None:
        """Put in what follows from the data: ``labels`` of the data report."""

    def objective(self, recipe: Recipe) -> str:
        """What is trained, in words."""
        return recipe.train.objective

    def facts(self, recipe: Mapping[str, Any]) -> list[str]:
        """The numbers that tell its runs apart, for a line; of a recipe as nested dicts."""
        return [f"beta {recipe['train']['beta']:g}"]

    def examples_per_step(self, recipe: Recipe) -> int:
        """What a step of the optimiser learns from."""
        return recipe.train.batch_size

    def room(self, recipe: Recipe) -> int:
        """Tokens that a prompt of the data must leave free."""
        return 0

    # --- what came of it -------------------------------------------------------------------------

    def result_rows(self, metrics: Mapping[str, Any]) -> list[Row]:
        """(measure, a cell for each of ``columns``) of one held-out set of results.json."""
        raise NotImplementedError

    def table(self, sets: Mapping[str, Any]) -> tuple[Row, list[Row]]:
        """Head and rows over all held-out sets of results.json.

        Where a policy started apart from its reference, what it said then stands between the two.
        """
        columns = self.columns
        apart = any(rate_at(metrics, "generation", START) for metrics in sets.values())
        if apart:
            columns = (columns[0], START, *columns[1:])
        rows = []
        for name, metrics in sets.items():
            for measure, *cells in self.result_rows(metrics):
                if apart:
                    start = rate_at(metrics, "generation", START)
                    cells.insert(1, rate_cell(start if measure.startswith(GENERATED) else None))
                rows.append((name, measure, *cells))
        return ("set", "measure", *columns), rows

    def remarks(self, results: Mapping[str, Any]) -> list[str]:
        """What else its report says, a sentence each."""
        return []

    def well(self, curves: Curves) -> Advice:
        """What to say of a run of which no rule warns."""
        raise NotImplementedError

    def next_steps(self, run: str) -> list[tuple[str, str]]:
        """Commands to go on with, and what they do; ``run``: its path."""
        return [(f'dpo-lite compare {run} --prompt "..."', "both models side by side")]

    # --- what it is by other facts ---------------------------------------------------------------

    @property
    def answers(self) -> bool:
        """Whether what it trains can be asked something."""
        return not (self.head or self.composed)

    @property
    def mechanics(self) -> Any:
        """An instance of its method; loads torch."""
        method = resolve_name(self.method) if isinstance(self.method, str) else self.method
        return method()

    @property
    def run(self) -> Any:
        """The module with ``start(recipe, stem, console)`` and ``resume(run, console)``."""
        with quick_imports():
            return import_module(self.runner)

    def draw_pictures(self, sets: Mapping[str, Any], folder: Path) -> None:
        """Draw what stands beside the curves, from results.json's sets."""
        for file, function in self.pictures.items():
            resolve_name(function)(sets, folder / file)


OF_PAIRS = ("ld_alpha", "dynamic_beta")  # keys of train that change what two answers compare


def refuse_losses(task: Task, recipe: Recipe, losses: Sequence[str], others: Sequence[str]) -> None:
    """Keys of another task's loss must not stand there and do nothing."""
    train = recipe.train
    wrong = ["loss"] * (train.loss not in losses) + [key for key in others if getattr(train, key)]
    wrong += [key for key in OF_PAIRS if getattr(train, key) is not None]
    if wrong:
        keys = ", ".join(f"train.{key}" for key in wrong)
        raise ValueError(f"task: {task.name} has a loss of its own; leave {keys} away")


def smoothable(losses: Sequence[str] = ()) -> str:
    """The losses that take smoothed labels, of those or of all, as a clause."""
    return " or ".join(n for n in losses or LOSSES if LOSSES[n].smoothing != "none")


def rate_cell(rate: Rate | None, digits: int = 0) -> str:
    return "–" if rate is None else rate.cell(digits)


def rate_row(measure: str, rates: Sequence[Rate | None], digits: int = 0, ties: int = 0) -> Row:
    """A measure and a cell for each rate, with its interval.

    Of how many they are stands once, behind the measure; in the cells where that differs.
    """
    count = of_how_many(rates)
    if count is None:
        return (measure, *("–" if rate is None else rate.words(digits) for rate in rates))
    left_out = f" ({ties:,} tie{'s' * (ties != 1)} left out)" if ties else ""
    return (f"{measure}, of {count:,}{left_out}", *(rate_cell(rate, digits) for rate in rates))


def by_role(metrics: Mapping[str, Any], measure: str) -> tuple[Rate | None, Rate | None]:
    """A share of a held-out set: of the reference and of the policy."""
    return rate_at(metrics, measure, "reference"), rate_at(metrics, measure, "policy")


def accuracy_row(measure: str, metrics: Mapping[str, Any], digits: int, *before: None) -> Row:
    """How many pairs are ranked right, behind cells of those that rank nothing."""
    counts = (metrics.get(COUNTS) or {}).get("rewards/accuracies") or {}
    rates = (*before, rate_at(metrics, "rewards/accuracies"))
    return rate_row(measure, rates, digits, counts.get("ties", 0))


def generated_row(metrics: Mapping[str, Any]) -> list[Row]:
    """How many of the greedy answers make the chosen claim, where the data can tell."""
    rates = by_role(metrics, "generation")
    return [] if rates[1] is None else [rate_row(GENERATED, rates)]
