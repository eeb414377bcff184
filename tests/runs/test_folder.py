"""Run folders: names, status of dead processes, half-written lines."""

import subprocess
import sys

import pytest

from dpo_lite.errors import UserError
from dpo_lite.files import write_text
from dpo_lite.runs.folder import Run, create_run, list_runs, open_run


def test_names_count_up(tmp_path):
    assert create_run(tmp_path, None, "demo").name == "demo-1"
    assert create_run(tmp_path, None, "demo").name == "demo-2"
    assert create_run(tmp_path, None, "../a b").name == "-a-b-1".lstrip("-")
    assert create_run(tmp_path, "mine", "demo").name == "mine"
    with pytest.raises(UserError, match="exists; choose another name"):
        create_run(tmp_path, "mine", "demo")


def test_a_dead_process_reads_as_interrupted(tmp_path):
    run = create_run(tmp_path, None, "demo")
    run.begin()
    assert run.status()["state"] == "running"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run.update_status(pid=gone.pid)
    assert run.status()["state"] == "interrupted"
    run.begin()
    run.update_status(pid_started="1")  # the number was given to another process since
    assert run.status()["state"] == "interrupted"


def test_half_a_line_is_left_out(tmp_path):
    run = Run(tmp_path)
    run.append("metrics.jsonl", {"step": 1})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 2, "lo')
    assert run.records("metrics.jsonl") == [{"step": 1}]


def test_only_a_line_break_ends_a_line(tmp_path):
    """Text may hold what str.splitlines takes for one, in a prompt as in an answer."""
    run = Run(tmp_path)
    records = [{"answer": f"a{mark}b"} for mark in "\u2028\u2029\x85\x0b\x0c\x1c\r"]
    for record in records:
        run.append("samples.jsonl", record)
        run.log(record["answer"])
    assert run.records("samples.jsonl") == records
    assert "a\u2028b" in run.log_tail(20)


def test_finding_runs(tmp_path):
    run = create_run(tmp_path, "one", "demo")
    write_text(run.recipe_file, "x: 1\n")
    assert [r.name for r in list_runs(tmp_path)] == ["one"]
    assert open_run("one", tmp_path).path == run.path
    assert open_run(run.path).path == run.path
    with pytest.raises(UserError, match=r"There is no run two in .*there are one"):
        open_run("two", tmp_path)


def test_an_unfinished_checkpoint_is_passed_over(tmp_path):
    run = create_run(tmp_path, "one", "demo")
    for step, name in ((2, "trainer_state.json"), (10, "trainer_state.json"), (12, "half")):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / name).write_text("{}")
    assert run.last_checkpoint().name == "checkpoint-10"
