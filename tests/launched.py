"""Processes launched together, as `torchrun` does it but without its agent: the environment says
who each of them is, and they find each other over a socket."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[1]


def launched(*arguments, count=2, seconds=240, **environment):
    """``python -m`` the arguments, so many times; what each ended with: code, out, err."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared |= {"LOCAL_WORLD_SIZE": str(count), "PYTHONPATH": str(ROOT), "COLUMNS": "500"}
    files, processes = [], []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        files.append((tempfile.TemporaryFile(), tempfile.TemporaryFile()))  # noqa: SIM115
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                env=os.environ | shared | own | environment,
                stdout=files[-1][0],
                stderr=files[-1][1],
            )
        )
    try:
        _wait(processes, seconds)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [
        SimpleNamespace(code=process.returncode, out=_text(out), err=_text(err))
        for process, (out, err) in zip(processes, files, strict=True)
    ]


def _wait(processes, seconds):
    """Until all have ended; a few seconds after one has failed the others are killed, as an agent
    does it."""
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
        if any(process.poll() for process in processes):
            deadline = min(deadline, time.monotonic() + 20)


def _text(file):
    file.seek(0)
    return file.read().decode("utf-8", "replace")
