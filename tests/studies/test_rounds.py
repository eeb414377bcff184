"""On-policy rounds: each draws from the policy of the one before; what is whole is passed over."""

import pytest
from rich.console import Console

from dpo_lite.jobs import train as job
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import Run, list_runs
from dpo_lite.studies import rounds
from dpo_lite.studies.rounds import Asked, go, held_out_words
from tests.evaluate.test_own_pairs import (  # noqa: F401
    beside_the_judge,
    ended_everywhere,
    lines,
    trained,
)

SECTION = {"reward": "judge.py:letters", "answers": 4, "max_new_tokens": 8}
CHANGES = ("train.max_steps=2", "eval.generate=0")


def no_bar(what, count):
    return lambda done: None


@pytest.fixture
def here(monkeypatch):
    """Steps in this process: what a process of its own would do is tried with the road."""
    taken = []

    def take(run, recipe):
        taken.append(run.name)
        if not run.path.exists():
            job.start(recipe, run.name, Console(quiet=True))
        return True

    monkeypatch.setattr(rounds, "take", take)
    ended_everywhere(monkeypatch)
    return taken


@pytest.mark.slow
def test_each_round_draws_from_the_policy_before(trained, here):  # noqa: F811
    asked = Asked(2, SECTION, 16, 0.0, 0, CHANGES)
    done = go(trained, asked, lambda text: None, no_bar)
    names = [f"{trained.name}-round-{number}" for number in (1, 2)]
    assert [each.policy for each in done] == [trained.name, *names]
    assert [each.run.name for each in done[:2]] == here == names
    assert done[2].run is None
    folder = trained.path.parent
    first, second = (lines(folder / f"{name}.jsonl") for name in names)
    assert {row["prompt"][0]["content"] for row in first}.isdisjoint(
        row["prompt"][0]["content"] for row in second
    )  # 16 of 40 prompts each
    recipe = load_recipe(Run(folder / names[1]).recipe_file)
    assert recipe.model.adapter.endswith(f"{names[0]}/adapter")
    assert (recipe.reference, recipe.train.max_steps, recipe.train.loss) == ("start", 2, "ipo")
    assert held_out_words(done[0].run).startswith("test ")

    before = {run.name: run.status() for run in list_runs(folder)}
    again = go(trained, asked, lambda text: None, no_bar)  # all is there
    assert [each.drawn for each in again] == [each.drawn for each in done]
    assert {run.name: run.status() for run in list_runs(folder)} == before


@pytest.mark.slow
def test_a_round_that_was_stopped_ends_the_rounds(trained, here, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Run, "status", lambda run: {"state": "stopped"})
    asked = Asked(2, SECTION | {"answers": 3}, 8, 0.0, 7, CHANGES)
    run = Run(trained.path)
    run.path.rename(run.path.with_name("other-1"))
    try:
        (only,) = go(Run(run.path.with_name("other-1")), asked, lambda text: None, no_bar)
        assert only.number == 1
    finally:
        run.path.with_name("other-1").rename(run.path)
