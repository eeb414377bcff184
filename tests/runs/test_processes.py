"""Runs as processes of their own, from launch to delete, on the builtin base."""

import os
import sys
import time

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.runs import processes
from dpo_lite.runs.device_lock import device_lock
from dpo_lite.runs.folder import ACTIVE, create_run, list_runs, named_run


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def recipe(tmp_path):
    changes = ["data.limit=64", "eval.limit=2", "eval.max_new_tokens=4", "train.max_steps=400"]
    return load_recipe("quickstart", [*changes, f"run.folder={tmp_path / 'runs'}"])


@pytest.fixture
def resting(tmp_path):
    """A run that is not at work."""
    run = create_run(tmp_path, "one", "x")
    run.recipe_file.write_text("model: {base: b}\ndata: {train: d}\n")
    run.update_status(state="stopped")
    return run


def wait_for(run, true, seconds=120):
    deadline = time.time() + seconds
    while not true(run.status()):
        assert time.time() < deadline, (run.status(), run.log_tail(30))
        assert run.status()["state"] not in ("failed", "interrupted"), run.log_tail(30)
        time.sleep(0.1)
    return run.status()


@pytest.mark.slow
def test_launch_stop_resume_delete(recipe):
    run = processes.launch(recipe, "demo")
    assert run.status()["state"] in ACTIVE
    for refused in (processes.delete, processes.resume, lambda r: processes.rename(r, "other")):
        with pytest.raises(UserError, match=r"stop it before|nothing to resume"):
            refused(run)
    wait_for(run, lambda s: s.get("step", 0) >= 2)
    assert "saves and stops" in processes.stop(run)
    stopped = wait_for(run, lambda s: s["state"] == "stopped")
    done = run.last_checkpoint()
    assert done.name == f"checkpoint-{stopped['step']}"
    processes.resume(run)
    wait_for(run, lambda s: s["state"] == "running" and s["step"] > stopped["step"])
    processes.stop(run)
    wait_for(run, lambda s: s["state"] == "stopped")
    steps = [m["step"] for m in run.records("metrics.jsonl") if "loss" in m]
    assert steps == list(range(1, steps[-1] + 1))
    log = (run.path / "log.txt").read_text()
    assert log.count("dpo-lite train --resume") >= 2
    assert "policy equals reference" in log
    processes.delete(run)
    assert list_runs(run.path.parent) == []
    assert os.listdir(run.path.parent) == []


@pytest.mark.slow
def test_a_run_that_waits_can_be_stopped(recipe):
    with device_lock("the test"):
        run = processes.launch(recipe, "demo")
        status = wait_for(run, lambda s: "the test has it" in (s.get("doing") or ""))
        assert status["state"] == "queued"
        assert "before its first update" in processes.stop(run)
        wait_for(run, lambda s: s["state"] == "stopped")
    assert run.records("metrics.jsonl") == []


@pytest.mark.slow
def test_a_failed_preflight_is_one_sentence_in_the_status(recipe):
    recipe.model.base = "./nowhere"
    run = processes.launch(recipe, "demo")
    deadline = time.time() + 60
    while run.status()["state"] in ACTIVE and time.time() < deadline:
        time.sleep(0.1)
    assert run.status()["state"] == "failed"
    assert "there is no folder ./nowhere" in run.status()["error"]
    assert "Traceback" not in (run.path / "log.txt").read_text()


def test_no_process_came_of_it(resting):
    resting.update_status(state="queued", launched=time.time() - 1000, pid=None)
    assert resting.status()["state"] == "interrupted"
    with pytest.raises(UserError, match="nothing to stop"):
        processes.stop(resting)


def test_a_run_that_cannot_be_reached_is_one_sentence(resting, monkeypatch):
    def refuse(pid):
        raise PermissionError

    resting.begin()
    monkeypatch.setattr(processes, "interrupt", refuse)
    with pytest.raises(UserError, match="cannot be reached from here"):
        processes.stop(resting)
    assert "stopping" not in resting.status()


def test_secrets_of_the_page_are_not_handed_on(resting, monkeypatch):
    started = {}

    class Process:
        def __init__(self, arguments, **options):
            started.update(options, arguments=arguments)

        def wait(self):
            pass

    monkeypatch.setattr(processes.subprocess, "Popen", Process)
    monkeypatch.setenv("DPO_LITE_PASSWORD", "page's own")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    processes.resume(resting)
    assert "DPO_LITE_PASSWORD" not in started["env"]
    assert "hf_secret" not in str(started["arguments"])
    assert "hf_secret" not in "".join(resting.log_tail(9))
    assert started["arguments"][0] == sys.executable
    assert started["start_new_session"]


def test_renaming(resting):
    made = resting.recipe_file.stat().st_mtime
    renamed = processes.rename(resting, "two")
    assert [r.name for r in list_runs(resting.path.parent)] == ["two"]
    assert load_recipe(renamed.recipe_file).run.name == "two"
    assert renamed.recipe_file.stat().st_mtime == made
    with pytest.raises(UserError, match="exists"):
        processes.rename(renamed, "two")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-rf", "con", "NUL.txt", "a\n"])
def test_names_that_could_lead_elsewhere(name, resting):
    with pytest.raises(UserError, match="cannot name a run"):
        processes.rename(resting, name)
    with pytest.raises(UserError, match="cannot name a run"):
        named_run(name, resting.path.parent)


def test_a_link_out_of_the_folder_is_no_run(resting, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(resting.path)
    with pytest.raises(UserError, match="no run link"):
        named_run("link", inside)
