"""Pushing while a run trains: whatever goes wrong, the run is whole and told how to repeat."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.hub.while_training import TrainingPush, check_push
from dpo_lite.recipe import load_recipe, validate_recipe
from tests.fake_hub import READ
from tests.hub.conftest import write_adapter


@pytest.fixture
def pushed(make_run):
    run = make_run(hub={"repo": "me/demo", "push": "checkpoints"})
    for step in (1, 2):
        write_adapter(run.checkpoints / f"checkpoint-{step}", "x")
        (run.checkpoints / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    said = []
    return run, TrainingPush(run, load_recipe(run.recipe_file), said.append), said


@pytest.mark.slow
def test_checkpoints_and_the_end(pushed, hub, client):
    run, pusher, said = pushed
    pusher.checkpoint(1)
    pusher.under_way.result()
    pusher.checkpoint(2)
    pusher.end()
    expected = ["Adapter of demo-1, update 1", "Adapter of demo-1, update 2", "Adapter of demo-1"]
    assert hub.repos["me/demo"].commits[1:] == expected
    assert said == [f"published  {hub.url}/me/demo  (private)"]
    assert run.status()["published"] == f"{hub.url}/me/demo"


def test_only_the_end(make_run, hub, client):
    run = make_run(hub={"repo": "me/demo", "push": "end"})
    pusher = TrainingPush(run, load_recipe(run.recipe_file), print)
    pusher.checkpoint(1)
    pusher.end()
    assert hub.repos["me/demo"].commits[1:] == ["Adapter of demo-1"]


def test_a_failed_push_harms_nothing(pushed, hub, client, monkeypatch):
    run, pusher, said = pushed
    client(READ)
    pusher.checkpoint(1)
    pusher.under_way.result()
    pusher.checkpoint(7)  # was deleted meanwhile
    monkeypatch.setattr("dpo_lite.hub.push.push", lambda *a, **k: 1 / 0)
    pusher.end()
    assert len(said) == 3
    assert any("can only read" in s and "--checkpoint 1" in s for s in said)
    assert f"The run is unharmed. Repeat:  dpo-lite push {run.path}" in said[-1]
    assert run.status()["state"] == "finished"
    assert "ZeroDivisionError" in run.status()["push_error"]


def test_what_could_not_work_is_said_before_the_training(client):
    def recipe(base, **hub):
        values = {"model": {"base": base}, "data": {"train": "x"}, "hub": hub}
        return validate_recipe(values, "test")

    said = []
    check_push(recipe("builtin:myths"), said.append)
    with pytest.raises(UserError, match="not on the Hub"):
        check_push(recipe("builtin:myths", push="end", repo="me/x"), said.append)
    with pytest.raises(UserError, match=r"hub.push needs hub.repo"):
        recipe("some/base", push="end")
    named = recipe("builtin:myths", push="end", repo="me/x", base_id="some/base")
    check_push(named, said.append)
    assert said == []
    client(None)
    check_push(named, said.append)
    assert "nobody is logged in yet" in said[0]
