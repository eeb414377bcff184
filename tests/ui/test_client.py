"""The worker process and the page's side of it: protocol, line, cancelling, crashes."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dpo_lite.errors import UserError
from dpo_lite.runs.device_lock import device_lock
from dpo_lite.ui.client import Worker

ODD_TASKS = Path(__file__).parent.parent / "worker" / "odd_tasks.py"


@pytest.fixture
def worker(tmp_path):
    worker = Worker(tmp_path / "runs")
    worker.command = [sys.executable, str(ODD_TASKS)]
    yield worker
    worker.close()


def wait_until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_what_libraries_print_does_not_reach_the_protocol(worker):
    events = list(worker.run("chatter"))
    assert [e["event"] for e in events if e.get("text") != "starting the worker"] == [
        "progress",
        "result",
    ]
    assert events[-1]["result"] == ""  # its standard input is empty


def test_a_user_error_comes_back_as_its_sentence(worker):
    with pytest.raises(UserError, match=r"^The file has no rows; give one that has\.$"):
        worker.call("fail", user=True)
    with pytest.raises(UserError, match=r"fault of the program \(ValueError: odd\)"):
        worker.call("fail", user=False)
    with pytest.raises(UserError, match="knows no task nonsense"):
        worker.call("nonsense")


@pytest.mark.slow
def test_closing_the_iterator_cancels_a_task_that_sleeps(worker, tmp_path):
    events = worker.run("sleep", seconds=60, mark=str(tmp_path / "left"))
    next(events)
    wait_until(lambda: worker.state()["task"] == "sleep" and worker._line[0].begun)
    events.close()
    wait_until(lambda: worker.state()["task"] is None)  # long before it has slept enough
    assert (tmp_path / "left").exists()  # its finally blocks ran
    assert worker.call("spell", word="ab") == "ab"  # and the process goes on


@pytest.mark.slow
def test_an_import_is_not_broken_off(worker, tmp_path):
    """A module that was left half-way would be half a module ever after."""
    lines = ["import pathlib, time", f"pathlib.Path({str(tmp_path / 'begun')!r}).touch()"]
    lines += ["time.sleep(0.5)", "WHOLE = 'whole'"]
    (tmp_path / "slow_module.py").write_text("\n".join(lines))
    events = worker.run("slow_import", folder=str(tmp_path))
    next(event for event in events if event.get("text") == "importing")
    wait_until((tmp_path / "begun").exists)
    events.close()
    wait_until(lambda: worker.state()["task"] is None)
    pid = worker._process.pid
    assert worker.call("slow_import", folder=str(tmp_path)) == "whole"
    assert worker._process.pid == pid


def test_closing_the_iterator_stops_a_task_that_polls(worker):
    events = worker.run("spell", word="x" * 5000)
    next(event for event in events if event["event"] == "token")
    events.close()
    wait_until(lambda: worker.state()["task"] is None)


def test_a_crash_is_told_and_the_next_task_starts_a_new_process(worker):
    first = worker.call("keep")
    assert worker.state()["loaded"] == "a model"
    with pytest.raises(UserError, match=r"signal 9, most likely.*memory.*during crash"):
        worker.call("crash")
    assert worker.state() == {"task": None, "queue": [], "loaded": None, "holds_device": False}
    assert worker.call("keep") != first


@pytest.mark.slow
def test_two_at_once_wait_in_line_and_both_get_their_own(worker):
    results, texts = {}, []

    def ask(word):
        for event in worker.run("spell", word=word):
            texts.append(event.get("text"))
            if event["event"] == "result":
                results[word] = event["result"]

    first, second = (threading.Thread(target=ask, args=[w]) for w in ("ab" * 20, "cd" * 20))
    first.start()
    wait_until(lambda: "a" in texts)  # it is at work, for most of a second
    second.start()
    for thread in (first, second):
        thread.join(60)
    assert results == {word: word for word in ("ab" * 20, "cd" * 20)}
    assert "waiting for spell" in texts


def test_leaving_the_line_lets_the_others_on(worker):
    first, second = worker.run("sleep", seconds=60), worker.run("sleep", seconds=60)
    next(first)
    assert next(second)["event"] == "queued"
    second.close()
    assert worker.state()["queue"] == []
    first.close()
    assert worker.call("spell", word="a") == "a"


@pytest.mark.slow
def test_a_task_that_does_not_stop_is_ended_for_those_who_wait(worker, monkeypatch):
    monkeypatch.setattr("dpo_lite.ui.client.STUCK", 0.5)
    monkeypatch.setattr("dpo_lite.ui.client.BEAT", 0.2)
    worker.call("keep")
    deaf = worker.run("sleep", seconds=60)
    next(deaf)
    wait_until(lambda: worker._line[0].begun)
    worker._process.send_signal(19)  # SIGSTOP: as deaf as a process can be
    deaf.close()
    assert worker.call("spell", word="a") == "a"


def test_a_task_that_does_not_stop_is_ended_where_nobody_waits(worker, monkeypatch):
    monkeypatch.setattr("dpo_lite.ui.client.STUCK", 0.3)
    worker.call("keep")
    deaf = worker.run("sleep", seconds=60)
    next(deaf)
    wait_until(lambda: worker._line[0].begun)
    worker._process.send_signal(19)
    deaf.close()
    wait_until(lambda: worker.state()["task"] is None)


def test_who_waits_is_told_for_how_long(worker, monkeypatch):
    monkeypatch.setattr("dpo_lite.ui.client.BEAT", 0.05)
    first, second = worker.run("sleep", seconds=60), worker.run("sleep", seconds=60)
    next(first)
    waited = [next(second)["seconds"] for _ in range(3)]
    assert waited == sorted(set(waited))
    second.close()
    first.close()


@pytest.mark.slow
def test_free_ends_the_process_and_the_next_task_starts_one(worker):
    first = worker.call("keep")
    worker.free()
    assert worker.state()["loaded"] is None
    assert worker.call("keep") != first


@pytest.mark.slow
def test_a_worker_that_was_on_the_card_leaves_it_to_a_run(worker):
    """Nothing is loaded, but its context is there: it ends when a run takes the device."""
    number = worker.call("use")
    time.sleep(1.2)
    assert worker.call("use") == number  # nobody needs the device: it stays
    fresh = worker._process
    with device_lock("run a"):
        wait_until(lambda: worker._process is None)
        assert fresh.returncode == 0
        assert worker.call("spell", word="ab") == "ab"  # which needs no device, and takes none
        time.sleep(1.2)
        assert worker._process is not None
    assert worker.call("use") != number


def test_progress_is_said_again_while_nothing_comes(worker, monkeypatch):
    monkeypatch.setattr("dpo_lite.ui.client.BEAT", 0.1)
    events = list(worker.run("sleep", seconds=0.5))
    assert len(events) > 3
    assert events[-2]["seconds"] > events[0]["seconds"]


@pytest.mark.slow
def test_the_worker_ends_with_the_page():
    code = (
        "import time; from dpo_lite.ui.client import Worker\n"
        f"w = Worker(); w.command = [{sys.executable!r}, {str(ODD_TASKS)!r}]\n"
        "print(w.call('keep'), flush=True); it = w.run('sleep', seconds=60); next(it)\n"
        "time.sleep(0.5); import os; os._exit(1)"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    pid = int(done.stdout)
    wait_until(lambda: not Path(f"/proc/{pid}/cmdline").is_file() or not _command(pid))


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
