"""Pieces of the page as HTML. All text that is given in is escaped; what comes out is safe."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = ("info", "good", "warn", "bad")
STATES = {
    "queued": "info",
    "preparing": "info",
    "running": "good",
    "finished": "good",
    "stopped": "warn",
    "interrupted": "warn",
    "failed": "bad",
}


def esc(text: object) -> str:
    """Text as HTML shows it, tags and quotes included; half of a surrogate pair, which no answer
    of a server can hold, as a question mark."""
    shown = str(text)
    if not shown.isascii():
        shown = shown.encode("utf-8", "replace").decode("utf-8")
    return html.escape(shown, quote=True)


def prose(text: object) -> str:
    """A sentence as HTML: escaped, and what stands between backticks as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", esc(text))


# For events that the user sees nothing of but their outcome, and that are no interface.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def runs_option(folder: Path) -> list[str]:
    """What a command line needs where the runs are not in the usual folder."""
    return [] if str(folder) == "runs" else ["--runs", str(folder)]


def command(line: str | Sequence[str]) -> str:
    """A command line with a button that copies it. A sequence of words is quoted for the shell."""
    text = line if isinstance(line, str) else shlex.join(line)
    return (
        f'<div class="dl-command"><code>{esc(text)}</code>'
        f'<button type="button" class="dl-copy" data-copy="{esc(text)}">Copy</button></div>'
    )


def badge(text: object, kind: str = "info") -> str:
    return f'<span class="dl-badge dl-{_kind(kind)}">{esc(text)}</span>'


def state_badge(status: Mapping[str, Any]) -> str:
    state = status["state"]
    return badge("stopping" if status.get("stopping") else state, STATES.get(state, "info"))


def progress(status: Mapping[str, Any]) -> str:
    if status.get("step") is None:
        return '<span class="dl-muted">–</span>'
    step, most = status["step"], max(status["max_steps"], 1)
    return (
        f'<span class="dl-progress"><i style="width:{100 * step / most:.0f}%"></i></span>'
        f'<span class="dl-muted dl-small">{step:,} / {most:,}</span>'
    )


def note(text: object, kind: str = "info") -> str:
    """A sentence or two in a box with a coloured edge."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="dl-note dl-{_kind(kind)}" role="{role}">{prose(text)}</div>'


def empty(title: object, what_to_do: object) -> str:
    """What stands where nothing is yet, and what to do about it."""
    return (
        f'<div class="dl-empty"><p class="dl-empty-title">{esc(title)}</p>'
        f"<p>{prose(what_to_do)}</p></div>"
    )


def waiting(text: object) -> str:
    """What stands for the moment until the page knows what to show."""
    return f'<p class="dl-muted dl-small" role="status">{esc(text)} …</p>'


def working(title: str, text: str, seconds: float | None) -> str:
    """A task on its way: what is being done and for how long."""
    clock = f"{seconds:.0f} s" if seconds is not None else ""
    return (
        f'<div class="dl-card dl-working" role="status"><b>{esc(title)}</b>'
        f'<span>{esc(text)}</span><span class="dl-muted">{clock}</span></div>'
    )


def failed(text: str, line: Sequence[str]) -> str:
    return note(text, "bad") + command(line)


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A plain table; wider than the page it scrolls by itself."""
    head = "".join(f"<th>{esc(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{esc(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        '<div class="dl-scroll"><table class="dl-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bar(parts: Mapping[str, float], whole: float | None, unit: str = "GiB") -> str:
    """Parts of a whole as one bar with a legend; over the whole it is cut and turns red. None:
    there is no whole, the parts fill the bar."""
    used = sum(parts.values())
    scale = max(whole or 0, used) or 1
    pieces, legend = [], []
    for number, (name, size) in enumerate(parts.items(), 1):
        color = f"var(--dl-series-{(number - 1) % 6 + 1})"
        label = f"{name} {size:,.1f} {unit}"
        pieces.append(
            f'<i style="width:{100 * size / scale:.2f}%;background:{color}"'
            f' title="{esc(label)}"></i>'
        )
        legend.append(f'<li><i style="background:{color}"></i>{esc(label)}</li>')
    over = whole is not None and used > whole
    ends = f"{used:,.1f} {unit} in all" if whole is None else f"{used:,.1f} of {whole:,.1f} {unit}"
    end = "" if whole is None else f'<b style="left:{100 * whole / scale:.2f}%"></b>'
    return (
        f'<div class="dl-bar{" dl-over" if over else ""}" role="img" aria-label="{esc(ends)}">'
        f'<div class="dl-bar-line">{"".join(pieces)}{end}</div>'
        f'<ul class="dl-legend">{"".join(legend)}<li class="dl-total">{esc(ends)}</li></ul></div>'
    )


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind}")
    return kind
