"""Whether a training can run on this machine, and what to do where it cannot.

The looking is done by another process (``machine_probes``): a kernel library that does not suit the
processor ends the process that calls it, and a driver may never answer. Either is a finding here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dpo_lite.jobs.machine_probes import PROBES
from dpo_lite.jobs.package_probes import Finding

PATIENCE = 180.0  # seconds for one thing; the first import of torch from a slow disk takes long
COMMAND = (sys.executable, "-m", "dpo_lite.jobs.machine_probes")
PACKAGE_PARENT = Path(__file__).resolve().parents[2]


def examine(
    runs: str = "runs",
    say: Callable[[str], None] = lambda text: None,
    names: Sequence[str] = tuple(PROBES),
    command: Sequence[str] = COMMAND,
    patience: float = PATIENCE,
) -> list[Finding]:
    """All findings in order; ``say`` is told what is looked at. Raises nothing of what is broken.

    Where the other process ends or does not answer, that is the finding of what it looked at, and
    a fresh one goes on behind it.
    """
    left, found = list(names), []
    while left:
        under_way, ended = left[0], ""
        for line in _lines([*command, runs, *left], patience):
            if "begun" in line:
                under_way = line["begun"]
                say(f"looking at {under_way}")
            elif "ended" in line:
                ended = line["ended"]
            else:
                finding = Finding(**line)
                found.append(finding)
                left.remove(finding.name)
        if left:
            found.append(_ended(under_way if under_way in left else left[0], ended))
            left.remove(found[-1].name)
    return found


def _ended(name: str, how: str) -> Finding:
    return Finding(
        name,
        f"the process that looked at it {how}",
        "A library or a driver does not suit this machine; update the driver, then install the "
        "libraries again: pip install --force-reinstall -r requirements.txt",
        True,
    )


def _lines(command: list[str], patience: float) -> Iterator[dict]:
    """What the other process says, line by line; last of all ``ended`` with how it ended."""
    parent = os.pathsep.join(filter(None, [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=os.environ | {"PYTHONPATH": parent},
            )
        except OSError as error:
            yield {"ended": f"cannot be started ({error.strerror})"}
            return
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        try:
            while line := lines.get(timeout=patience):
                with contextlib.suppress(ValueError):  # printed while Python itself started
                    yield dict(json.loads(line))
            yield {"ended": _how(process.wait(patience), errors)}
        except (queue.Empty, subprocess.TimeoutExpired):
            yield {"ended": f"did not answer within {patience:.0f} s"}
        finally:
            process.kill()
            process.wait()


def _pass_on(stream, lines: queue.SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _how(code: int, errors) -> str:
    errors.seek(0)
    said = errors.read().decode("utf-8", "replace").strip().splitlines()
    last = f" ({said[-1][:200]})" if said else ""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}{last}"
    return f"ended with code {code}{last}"
