"""Processes as the system knows them: which still live, by number and start; how one is asked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dpo_lite.runs import system
from dpo_lite.runs.folder import create_run

LINUX = pytest.mark.skipif(not psutil.LINUX, reason="reads /proc")


@pytest.fixture
def child():
    """A process that waits for the end of its input."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def wait_until(true):
    deadline = time.time() + 20
    while not true():
        assert time.time() < deadline
        time.sleep(0.02)


def test_alive_by_number_and_start(child):
    started = system.process_started(child.pid)
    assert system.is_alive(child.pid, started)
    assert system.is_alive(child.pid, None)  # where its start could not be told
    assert not system.is_alive(child.pid, str(int(started) - 1000))
    assert not any(system.is_alive(child.pid, odd) for odd in ("x", "", "9" * 5000))
    assert not any(system.is_alive(odd, None) for odd in (0, -1, 2**62))
    child.kill()
    child.wait()
    assert not system.is_alive(child.pid, started)
    assert not system.is_alive(child.pid, None)


def test_one_that_nobody_asked_how_it_ended_has_ended(child):
    started = system.process_started(child.pid)
    child.kill()
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert system.process_started(child.pid) is None
    assert not system.is_alive(child.pid, started)
    assert not system.is_alive(child.pid, None)


@LINUX
def test_folders_hold_the_kernels_ticks(tmp_path, child):
    """As /proc tells them, so that folders of any version are read."""
    ticks = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    run = create_run(tmp_path, None, "demo")
    run.update_status(state="running", pid=child.pid, pid_started=ticks)
    assert run.status()["state"] == "running"
    assert system.process_started(child.pid) == ticks


@LINUX
def test_setting_the_clock_ends_nothing(child, monkeypatch):
    started = system.process_started(child.pid)
    real = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: real + 3600)
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: real + 3600)
    assert system.is_alive(child.pid, started)


def test_other_systems_tell_the_start_by_a_clock(child, monkeypatch):
    monkeypatch.setattr(system, "LINUX", False)
    monkeypatch.setattr(system, "SLACK", 60)
    started = system.process_started(child.pid)
    assert abs(int(started) - time.time()) < 3600
    assert system.is_alive(child.pid, str(int(started) + 30))
    assert not system.is_alive(child.pid, str(int(started) + 90))


def test_an_interrupted_process_apart():
    code = (
        "from dpo_lite.runs.system import listen; listen()\n"
        "try:\n    print('there', flush=True); input()\n"
        "except KeyboardInterrupt: print('heard')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **system.apart(),
    )
    assert process.stdout.readline() == "there\n"
    assert os.getsid(process.pid) == process.pid
    system.interrupt(process.pid)
    assert process.communicate(timeout=20)[0] == "heard\n"
    with pytest.raises(ProcessLookupError):
        system.interrupt(process.pid)


def test_windows_has_groups_and_ctrl_break(monkeypatch):
    sent, handlers = [], {}
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    monkeypatch.setattr(psutil.Process, "send_signal", lambda process, number: sent.append(number))
    assert system.apart() == {"creationflags": 0x200}
    system.interrupt(os.getpid())
    system.listen()
    handlers[21](21, None)
    assert sent == [1, signal.SIGINT]


def test_one_that_cannot_be_reached(monkeypatch):
    def refuse(process, number):
        raise OSError(87, "The parameter is incorrect")  # Windows: it is on no console of ours

    monkeypatch.setattr(psutil.Process, "send_signal", refuse)
    with pytest.raises(PermissionError):
        system.interrupt(os.getpid())
