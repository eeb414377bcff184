"""Run folders: names, status of dead processes, half-written lines."""

import errno
import subprocess
import sys

import pytest

from dpo_lite.errors import UserError
from dpo_lite.files import write_text
from dpo_lite.runs.folder import Run, create_run, list_runs, open_run
from dpo_lite.runs.room import check_output
from dpo_lite.runs.watched import recorded


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
    sample = {"when": "after", "set": "prompts", "prompt": "a"}
    records = [sample | {"answer": f"a{mark}b"} for mark in "\u2028\u2029\x85\x0b\x0c\x1c\r"]
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


def test_a_folder_that_cannot_be_written_is_found_before_a_run_is_made(tmp_path, monkeypatch):
    check_output(tmp_path / "new" / "runs", "mine")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/runs cannot be written \(Not a directory\): .*file"):
        check_output(tmp_path / "file" / "runs")
    with pytest.raises(UserError, match="cannot be written"):
        create_run(tmp_path / "file" / "runs", None, "demo")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="exists; choose another name"):
        check_output(tmp_path, "mine")

    def full(**options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dpo_lite.runs.room.tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match=r"\(No space left on device\): make room"):
        check_output(tmp_path)


def test_a_run_whose_disk_is_full_says_so(tmp_path):
    run = create_run(tmp_path, None, "demo")

    def fill():
        raise OSError(errno.ENOSPC, "full", "adapter.safetensors")

    with pytest.raises(OSError, match="full"):
        recorded(run, fill)
    assert run.status()["error"].startswith("adapter.safetensors cannot be written or read")
