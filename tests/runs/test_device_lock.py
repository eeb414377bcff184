"""One at a time, first come first served, and nothing is kept by the dead."""

import errno
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs import device_lock as lock
from dpo_lite.runs.folder import create_run

HOLD = """
import sys
from dpo_lite.runs.device_lock import device_lock
with device_lock(sys.argv[1], say=lambda text: print(text, flush=True)):
    print("has it", flush=True)
    sys.stdin.readline()
print("gave it back", flush=True)
"""

FORK = """
import os, sys
from dpo_lite.runs.device_lock import device_lock
with device_lock(sys.argv[1]):
    if not os.fork():
        print(os.getpid(), flush=True)  # it runs: what it had of the holder's is closed
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def own_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path))


@pytest.fixture
def hold():
    """Start a process that holds the device until a line is sent to it."""
    started = []

    def start(owner, code=HOLD):
        process = subprocess.Popen(
            [sys.executable, "-c", code, owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(true):
    deadline = time.time() + 20
    while not true():
        assert time.time() < deadline
        time.sleep(0.05)


def test_a_process_that_holds_it_passes_again():
    with lock.device_lock("outer"), lock.device_lock("inner", wait=False):
        assert lock.holder() == "outer"
    assert lock.holder() is None
    with lock.device_lock("again", wait=False):
        assert lock.holder() == "again"


def test_first_come_first_served(hold):
    first = hold("run a")
    assert first.stdout.readline() == "has it\n"
    with pytest.raises(UserError, match="in use by run a"), lock.device_lock("me", wait=False):
        pass
    second = hold("run b")
    assert second.stdout.readline() == "waiting for the device: run a has it\n"
    third = hold("run c")
    assert third.stdout.readline() == "waiting for the device: run a has it, run b is next\n"
    assert lock.waiters() == ["run b", "run c"]
    first.communicate("\n")
    assert second.stdout.readline() == "has it\n"
    wait_until(lambda: lock.holder() == "run b")
    second.communicate("\n")
    assert "has it\n" in iter(third.stdout.readline, "")
    assert lock.waiters() == []


def test_a_long_line_is_told_by_its_first():
    assert lock._names(["run a", "run b"]) == "run a, run b"
    assert lock._names([f"run {n}" for n in "abcde"]) == "run a, run b, run c and 2 more"


IN_LINE = """
import sys
from dpo_lite.cli import main
from dpo_lite.runs import device_lock
class InLine(BaseException):
    pass
def acquire(folder, owner, *others):
    print(owner, sorted({"torch", "transformers", "numpy"} & set(sys.modules)), flush=True)
    raise InLine
device_lock._acquire = acquire
try:
    main(["train", *sys.argv[1:]])
except InLine:
    pass
"""


@pytest.mark.parametrize("how", ["start", "resume"])
def test_who_waits_has_not_imported_what_is_heavy(tmp_path, how):
    """Fifty runs in line would else take a third of a gigabyte each."""
    run = create_run(tmp_path, "one", "one")
    run.recipe_file.write_text(to_yaml(load_recipe("quickstart", [f"run.folder={tmp_path}"])))
    run.update_status(state="stopped")
    words = {"start": ["quickstart", f"run.folder={tmp_path}"], "resume": ["--resume", run.path]}
    done = subprocess.run(
        [sys.executable, "-c", IN_LINE, *words[how]], capture_output=True, text=True, check=True
    )
    owner = {"start": "dpo-lite train quickstart", "resume": "run one"}[how]
    assert done.stdout.splitlines()[-1] == f"{owner} []"


def test_the_dead_hold_and_wait_for_nothing(hold):
    first, second = hold("run a"), None
    assert first.stdout.readline() == "has it\n"
    second = hold("run b")
    wait_until(lambda: lock.waiters() == ["run b"])
    for process in (second, first):
        process.kill()
        process.wait()
    assert lock.holder() is None
    assert lock.waiters() == []
    with lock.device_lock("me", wait=False):
        assert lock.holder() == "me"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_of_a_dead_holder_keeps_nothing(hold):
    """A loader's process may outlive the training for a while."""
    holder = hold("run a", FORK)
    fork = int(holder.stdout.readline())
    with pytest.raises(UserError, match="in use by run a"), lock.device_lock("me", wait=False):
        pass
    holder.kill()
    holder.wait()
    assert psutil.pid_exists(fork)
    with lock.device_lock("me", wait=False):
        assert lock.holder() == "me"


def test_a_holder_without_a_name_is_in_the_way_all_the_same(hold):
    """Between taking the lock and saying who one is."""
    hold("run a").stdout.readline()
    (lock.lock_folder() / "holder.json").unlink()
    with pytest.raises(UserError, match="in use by another process"):
        lock.device_lock("me", wait=False).__enter__()


def test_a_disk_that_cannot_lock_is_one_sentence(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    with pytest.raises(UserError, match=r"No locks available.*DPO_LITE_CACHE"):
        lock.device_lock("me").__enter__()
    assert lock.waiters() == []


def test_interrupted_while_waiting_leaves_no_ticket(hold):
    first = hold("run a")
    first.stdout.readline()

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), lock.device_lock("me", say=interrupt):
        pass
    assert lock.waiters() == []


def test_two_gpus_are_two_locks(hold, monkeypatch):
    hold("run a").stdout.readline()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with lock.device_lock("me", wait=False):
        assert lock.holder() == "me"


def test_the_last_thread_of_a_process_gives_it_back():
    entered, leave = threading.Event(), threading.Event()

    def inner():
        with lock.device_lock("thread", wait=False):
            entered.set()
            leave.wait(5)

    thread = threading.Thread(target=inner)
    with lock.device_lock("process"):
        thread.start()
        assert entered.wait(5)
    assert lock.holder() == "process"
    leave.set()
    thread.join()
    assert lock.holder() is None


def test_all_cards_of_a_launch_are_held(hold, monkeypatch):
    """Another process waits for any of them, and for no other card."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with lock.device_locks(["1", "0", "1"], "run several", say=print):
        assert {path.name for path in lock.cache_folder().glob("device-*")} == {
            "device-0",
            "device-1",
        }
        for card, said in (("1", "waiting for the device: run several has it"), ("2", "has it")):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", card)
            assert hold("other").stdout.readline().strip() == said
    with lock.device_lock("next", wait=False, device="0"):
        assert lock.holder(lock.lock_folder("0")) == "next"
    assert lock.holder(lock.lock_folder("0")) is None
