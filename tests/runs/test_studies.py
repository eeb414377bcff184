"""A study says how it stands from its folder alone, whoever began it."""

import os
import time

import pytest

from dpo_lite.errors import UserError
from dpo_lite.files import write_json
from dpo_lite.runs import studies
from dpo_lite.runs.studies import FILE, Study, named_study

NOBODY = 2**22 + 1  # above every process number


@pytest.fixture
def study(tmp_path):
    study = Study(tmp_path / "demo.sweep")
    study.path.mkdir()
    return study


def test_work_is_written_down_with_its_end(study):
    with study.at_work(["dpo-lite", "sweep"], first="demo") as notes:
        assert study.status()["state"] == "running"
        assert study.status()["pid"] == os.getpid()
        notes.doing("drawing")
        notes.doing("too soon after")  # not told
        assert study.status()["doing"] == "drawing"
    status = study.status()
    assert (status["state"], status["doing"], status["first"]) == ("finished", None, "demo")
    with study.at_work(["dpo-lite", "sweep"]) as notes:
        notes.state = "stopped"
    assert study.status()["state"] == "stopped"


@pytest.mark.parametrize(
    ("fault", "state", "told"),
    [
        (UserError("Which run?"), "failed", "Which run?"),
        (ValueError("x"), "failed", "ValueError: x"),
        (KeyboardInterrupt(), "stopped", None),
    ],
)
def test_work_that_breaks_off(study, fault, state, told):
    with pytest.raises(type(fault)), study.at_work(["dpo-lite"]):
        raise fault
    assert (study.status()["state"], study.status()["error"]) == (state, told)


def test_a_process_that_vanished_is_told_and_another_one_is_waited_for(study):
    write_json(study.file, {"state": "running", "pid": NOBODY, "process_started": "1"})
    assert study.status()["state"] == "interrupted"
    study.note(stopping=True)  # it was asked to
    assert study.status()["state"] == "stopped"
    with study.at_work(["dpo-lite"]):
        pass  # nobody is at work on it
    write_json(study.file, {"state": "running", "pid": os.getppid(), "process_started": None})
    with pytest.raises(UserError, match="at work in another process"), study.at_work(["dpo-lite"]):
        pass
    for away in (-3600, 3600):  # the clock may have been set back since
        write_json(study.file, {"state": "starting", "launched": time.time() + away})
        assert study.status()["state"] == "interrupted"


def test_the_one_that_was_begun_last_is_first(tmp_path):
    for name, begun in (("a.sweep", 5), ("b.rounds", 9), ("c.sweep", 7)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / FILE, {"state": "finished", "launched": begun})
    (tmp_path / "d.sweep").touch()  # a file is none
    assert [study.name for study in studies.studies(tmp_path)] == ["b.rounds", "c.sweep", "a.sweep"]
    assert named_study("a.sweep", tmp_path).kind == "sweep"
    with pytest.raises(UserError, match="no study"):
        named_study("../a.sweep", tmp_path)


def test_what_is_not_at_work_cannot_be_stopped(study):
    assert study.status()["state"] == "ended"  # of an older version
    with pytest.raises(UserError, match="nothing to stop"):
        studies.stop(study)
    with pytest.raises(UserError, match="older version"):
        studies.resume(study)


@pytest.mark.slow
def test_a_command_that_never_comes_to_work_says_why(study):
    words = ["dpo-lite", "sweep", "no-such-recipe", "train.beta=1,2"]
    studies.launch(study, words)
    with pytest.raises(UserError, match="at work already"):
        studies.launch(study, words)
    patience = time.monotonic() + 60
    while study.status()["state"] == "starting" and time.monotonic() < patience:
        time.sleep(0.1)
    status = study.status()
    assert (status["state"], status["command"]) == ("failed", words)
    assert "no-such-recipe" in " ".join(studies.log_tail(study, 9))


@pytest.mark.parametrize(
    "odd",
    [
        *({"state": "running", "pid": pid} for pid in (-1, "x", [], 2**63)),
        {"state": [], "launched": "now", "started": float("nan")},
        {"state": "starting", "launched": None},
        {"state": "running", "pid": os.getppid(), "process_started": "x"},
        {"rounds": 10**9, "command": [1], "doing": 3},
    ],
)
def test_a_damaged_note_stops_nobody(study, odd):
    write_json(study.file, odd)
    assert study.status()["state"] in ("interrupted", "ended")
    assert [found.name for found in studies.studies(study.path.parent)] == ["demo.sweep"]
    assert {"rounds", "command", "doing"}.isdisjoint(study.status())
    with study.at_work(["dpo-lite"]):
        assert study.status()["state"] == "running"
