"""The line above all tabs: what runs and for how long, on which device, what the worker holds."""

from __future__ import annotations

import shutil
import subprocess
import time
from functools import lru_cache

import gradio as gr

from dpo_lite.report.words import clock
from dpo_lite.runs.folder import ACTIVE
from dpo_lite.ui.parts import esc
from dpo_lite.ui.run_files import Statuses, statuses
from dpo_lite.ui.shared import Page


def build(page: Page) -> gr.HTML:
    """Kept as it is now by ``page.js``, see ``pulse``."""
    return gr.HTML(lambda: show(page, statuses(page.runs)), elem_id="status-bar", min_height=30)


def show(page: Page, by_name: Statuses) -> str:
    """The line as HTML, of all runs' statuses."""
    active = {name: status for name, status in by_name.items() if status["state"] in ACTIVE}
    items = [_running(active), _worker(page.worker.state()), esc(device(int(time.time() // 5)))]
    spans = "".join(f"<span>{item}</span>" for item in items if item)
    return f'<div class="dl-top"><h1>dpo-lite</h1>{spans}</div>'


def title(by_name: Statuses) -> str:
    """What the browser's tab says: how far the run is that has the device."""
    for name, status in by_name.items():
        if status["state"] == "running" and status.get("step") is not None:
            return f"{100 * status['step'] // max(status['max_steps'], 1)} % {name}"
    return ""


def last_ended(by_name: Statuses) -> str:
    """The run that came to its end last, and how it ended."""
    ended = {n: s for n, s in by_name.items() if s["state"] not in ACTIVE and s.get("updated")}
    name = max(ended, key=lambda name: ended[name]["updated"], default=None)
    return f"{name} {ended[name]['state']}" if name else ""


def _running(states: Statuses) -> str:
    """The run that has the device, and how many wait."""
    if not states:
        return '<i class="dl-dot"></i>nothing runs'
    trains = next((n for n, s in states.items() if s["state"] in ("running", "preparing")), None)
    waiting = sum(s["state"] == "queued" for s in states.values())
    queue = f"{waiting} queued" if waiting else ""
    if trains is None:
        return f'<i class="dl-dot"></i>{queue}'
    status = states[trains]
    words = [f'<i class="dl-dot dl-on"></i><b>{esc(trains)}</b>']
    if status.get("stopping"):
        words.append("stopping after this update")
    elif status.get("step") is None:
        words.append(esc(status.get("doing") or status["state"]))
    else:
        words.append(f"{status['step']} of {status['max_steps']}")
        if status.get("seconds_left"):
            words.append(f"{clock(status['seconds_left'])} left")
    return " · ".join([*words, *([queue] if queue else [])])


def _worker(state: dict) -> str:
    """What the worker does or holds in memory."""
    if state.get("task"):
        waiting = len(state.get("queue") or [])
        return f"working: {esc(state['task'])}" + (f", {waiting} waiting" if waiting else "")
    return f"loaded: {esc(state['loaded'])}" if state.get("loaded") else ""


@lru_cache(maxsize=1)
def device(moment: int) -> str:
    """The GPU and its memory in words, as nvidia-smi tells; asked again when ``moment`` changes."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "CPU only"
    query = ["--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run([tool, *query], capture_output=True, text=True, timeout=3, check=True)
        name, used, total = (part.strip() for part in done.stdout.splitlines()[0].split(","))
        return f"{name} · {float(used) / 1024:.1f} of {float(total) / 1024:.0f} GiB"
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return "CPU only"
