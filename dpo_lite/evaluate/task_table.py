"""The tasks that lm-evaluation-harness has, by name.

Its own table is read from fourteen thousand YAML files, which takes half a minute; where plain
tasks are named, the folders in which they are defined are found by a glance at the files' text.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError

MISSING = (
    "The tasks are those of lm-evaluation-harness, which is not installed; run `pip install"
    ' "lm-eval>=0.4.13,<0.5"`.'
)
DEFINED = re.compile(rb"(?m)^[\"']?task[\"']?[ \t]*:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*\r?$")


def need_harness() -> Any:
    """The package. Raises UserError where it is not there."""
    try:
        import lm_eval
    except ImportError:
        raise UserError(MISSING) from None
    level = logging.DEBUG if os.environ.get("DPO_LITE_DEBUG") else logging.ERROR
    logging.getLogger("lm_eval").setLevel(level)
    return lm_eval


def open_tasks(
    names: Sequence[str], folder: str | None = None, say: Callable[[str], None] = lambda text: None
) -> Any:
    """The harness's table of tasks, as much of it as the names need, with those of ``folder``.

    No data is read yet. Raises UserError for a name that is not in it.
    """
    need_harness()
    import lm_eval.tasks as harness

    if folder and not Path(folder).is_dir():
        raise UserError(f"--task-folder: there is no folder {folder}; name one with YAML tasks.")
    own = [folder] if folder else []
    there = harness.TaskManager(include_path=own, include_defaults=False)
    if all(_is_whole(there, name) for name in names):
        return there
    say("looking for the tasks")
    places = defined_in(Path(harness.__file__).parent)
    if all(name in places or name in there.all_tasks for name in names):
        folders = {places[name].parent for name in names if name in places}
        some = harness.TaskManager(
            include_path=[*sorted(folders, reverse=True), *own], include_defaults=False
        )
        if all(name in some.all_subtasks for name in names):
            return some
    say("reading the table of all tasks, for a group")
    whole = harness.TaskManager(include_path=own or None)
    for name in names:
        if name not in whole.all_tasks:
            near = difflib.get_close_matches(name, whole.all_tasks, 3, 0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists all."
            raise UserError(f"lm-evaluation-harness has no task {name}; {hint}")
    return whole


def _is_whole(table: Any, name: str) -> bool:
    """Whether a table has a task, or a group with all that it is made of."""
    if name in table.all_groups:
        children = table.task_index[name].cfg.get("task") or [None]
        return all(isinstance(child, str) and _is_whole(table, child) for child in children)
    return name in table.all_subtasks


def defined_in(folder: Path) -> dict[str, Path]:
    """By name the YAML file that defines a task, the first one in the order of their paths."""
    found: dict[str, Path] = {}
    for file in sorted(yaml_files(folder)):
        for name in DEFINED.findall(file.read_bytes()):
            found.setdefault(name.decode(), file)
    return found


def yaml_files(folder: Path) -> Iterator[Path]:
    """All of them below a folder."""
    for parent, _, files in os.walk(folder):
        yield from (Path(parent, file) for file in files if file.endswith(".yaml"))
