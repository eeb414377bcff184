"""On-policy rounds: each draws from the policy of the one before; what is whole is passed over."""

import pytest
from rich.console import Console

from dpo_lite.compare.ballots import read_ballots
from dpo_lite.compare.votes import add_vote
from dpo_lite.jobs import train as job
from dpo_lite.recipe import load_recipe
from dpo_lite.report.rounds import held_out_words
from dpo_lite.runs.folder import Run, list_runs
from dpo_lite.studies import rounds
from dpo_lite.studies.rounds import Asked, WaitsForVotes, go, last_drawing
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

    last = folder / f"{last_drawing(trained, 2)}.jsonl"
    assert last.is_file()
    assert not (folder / f"{trained.name}-round-3.jsonl").exists()
    kept = last.read_bytes()
    more = Asked(3, SECTION, 16, 0.0, 0, CHANGES)
    assert len(go(trained, more, lambda text: None, no_bar)) == 4
    assert (folder / f"{trained.name}-round-3.jsonl").read_bytes() == kept  # taken over, not drawn
    assert not last.exists()


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


@pytest.mark.slow
def test_a_round_waits_for_votes_and_goes_on_from_them(trained, here):  # noqa: F811
    asked = Asked(1, SECTION | {"reward": "none"}, 6, 0.0, 3, CHANGES, "votes")
    first = Run(trained.path.with_name("voted-1"))
    trained.path.rename(first.path)
    folder = first.path.parent
    ballots = folder / "voted-1-round-1.ballot.jsonl"
    try:
        with pytest.raises(WaitsForVotes, match="wait for your vote: start `dpo-lite ui --runs "):
            go(first, asked, lambda text: None, no_bar)
        pairs, drawn = read_ballots(ballots), ballots.read_bytes()
        assert len(pairs) > 2
        assert {pair.policy for pair in pairs} == {"voted-1"}
        for number, pair in enumerate(pairs):
            shown = [{"label": "x", "fingerprint": "f", "answer": a} for a in pair.answers]
            verdict = "tie" if number == 0 else "B"
            add_vote(
                folder, run="voted-1", prompt=pair.prompt, shown=shown, sampling={},
                verdict=verdict, blind=True,
            )  # fmt: skip
            if number == 0:
                with pytest.raises(WaitsForVotes, match=f"and {len(pairs) - 1} of them"):
                    go(first, asked, lambda text: None, no_bar)
        (only,) = go(first, asked, lambda text: None, no_bar)
        assert (only.run.name, only.run.status()["state"]) == ("voted-1-round-1", "finished")
        assert (only.drawn.pairs, only.drawn.alike) == (len(pairs) - 1, 1)
        rows = lines(folder / "voted-1-round-1.jsonl")
        assert [row["chosen"][0]["content"] for row in rows] == [p.answers[1] for p in pairs[1:]]
        assert ballots.read_bytes() == drawn
        assert go(first, asked, lambda text: None, no_bar)[0].drawn == only.drawn
    finally:
        first.path.rename(trained.path)
