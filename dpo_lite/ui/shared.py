"""What the tabs share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from dpo_lite.files import NAME
from dpo_lite.ui.client import Worker

Updates = dict[Any, Any]  # what an event changes: new values by component


@dataclass(frozen=True)
class Page:
    """What every tab is given: folders, the worker, and the components that tabs share.

    Another tab is opened by returning ``gr.Tabs(selected="compare")`` for ``tabs``. ``selected`` is
    a list of run names that the browser remembers: the runs that were clicked in the table, in that
    order. A tab that works on one run starts with the first of them. Setting ``wanted_data`` to
    [source, overrides, time] puts the source into the recipe that is being made; [run, overrides,
    time, "run"] opens that run's recipe with other keys. Setting ``wanted_run`` to [name, time]
    chooses that run in Compare. Setting ``wanted_audit`` to [source, overrides, time] audits its
    labels in Data. Setting ``wanted_sweep`` to [key, values, time] fills in the sweep of Recipes;
    setting ``wanted_study`` to [name, time] shows that study in Runs.
    """

    runs: Path
    recipes: Path
    worker: Worker
    allow_code: bool = True  # whether a recipe may run Python code of its base or its reward
    local: bool = True  # whether only this machine can reach the page
    blocks: gr.Blocks | None = None
    tabs: gr.Tabs | None = None
    selected: gr.BrowserState | None = None
    wanted_data: gr.State | None = None
    wanted_run: gr.State | None = None
    wanted_audit: gr.State | None = None
    wanted_sweep: gr.State | None = None
    wanted_study: gr.State | None = None


def names_in(runs: str) -> list[str]:
    """The runs that the page's address names, as in ``runs=a,b``."""
    return [name for name in runs.split(",") if NAME.match(name)]


def changed(tab: str) -> gr.Button:
    """What the browser presses when a tab's mark has changed (see ``pulse``); nobody sees it."""
    return gr.Button(visible="hidden", elem_id=f"{tab}-changed")
