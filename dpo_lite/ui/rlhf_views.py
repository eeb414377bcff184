"""A run of runs as the Runs tab shows it: its steps, what they came to, and the frontier."""

from __future__ import annotations

import base64
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.report.rlhf import PICTURE, cells, read_points
from dpo_lite.runs.folder import Run
from dpo_lite.runs.rlhf_steps import steps_of
from dpo_lite.ui import parts
from dpo_lite.ui.parts import esc


def overview(run: Run) -> str:
    """Rows that open a step, the table as far as there is one, and the picture at the end."""
    try:
        steps = steps_of(run)
    except UserError as error:  # a recipe of another version
        return parts.note(error, "bad")
    return _steps(steps) + _table(run) + _picture(run)


def _steps(steps: list[tuple[Run, dict[str, Any]]]) -> str:
    rows = "".join(
        f'<tr data-run="{esc(run.name)}" tabindex="0"><td class="dl-name">{esc(run.name)}</td>'
        f"<td>{parts.state_badge(status)}</td><td>{parts.progress(status)}</td></tr>"
        if run.recipe_file.is_file()
        else f'<tr><td class="dl-muted">{esc(run.name)}</td>'
        f'<td class="dl-muted">{esc(status["state"])}</td><td></td></tr>'
        for run, status in steps
    )
    return (
        '<p class="dl-title dl-gap">Its runs</p><div class="dl-scroll dl-runs">'
        f'<table class="dl-table"><tbody>{rows}</tbody></table></div>'
    )


def _table(run: Run) -> str:
    rows = read_points(run)
    if not rows:
        return ""
    head, body = cells(rows)
    table = parts.table(head, body)
    return f'<p class="dl-title dl-gap">What they came to</p><div class="dl-whole">{table}</div>'


def _picture(run: Run) -> str:
    """The frontier, inside of the page itself: no address leads to a file of a run."""
    file = run.path / PICTURE
    if not file.is_file():
        return ""
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    alt = "truthfulness and reward of PPO and DPO against the KL to the SFT policy"
    image = f'<img class="dl-picture" alt="{alt}" src="data:image/png;base64,{data}">'
    return f'<div class="dl-scroll">{image}</div>'
