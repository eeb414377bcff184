"""A sweep or rounds at work, as the Runs tab shows it: a table from disk that grows. No Gradio."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lite.compare.ballots import waiting
from dpo_lite.compare.votes import read_votes
from dpo_lite.rates import explained
from dpo_lite.report.rounds import RoundRow, last_reward, read_rounds
from dpo_lite.report.sweep import cells
from dpo_lite.report.sweep_best import RANKED_BY, verdict
from dpo_lite.report.sweep_rows import SweepRow, read_sweep
from dpo_lite.report.words import counted
from dpo_lite.runs.studies import AT_WORK, LOG, Study, log_tail
from dpo_lite.ui import parts
from dpo_lite.ui.parts import esc, note

KINDS = {
    **parts.STATES,
    "starting": "info",
    "waits": "warn",
    "ended": "info",
}
JUDGES = {"reward": "a reward", "model": "a language model", "votes": "your votes"}
LOG_LINES = 12
FILES = ("study.json", "sweep.json", LOG)


def mark(found: Sequence[Study]) -> str:
    """A short text that changes whenever a study has; their runs have marks of their own."""
    stamps = []
    for study in found:
        for name in FILES:
            stamps.append(0)
            with contextlib.suppress(OSError):  # not there, or not any more
                stamps[-1] = (study.path / name).stat().st_mtime_ns
        stamps.append(study.status()["state"])
    return str(hash(tuple(stamps)))


def study_html(study: Study, statuses: Mapping[str, Mapping[str, Any]]) -> str:
    """How it stands, its table, what can be said of it, its command; ``statuses``: of all runs."""
    status = study.status()
    table = _rounds(study, status) if study.kind == "rounds" else _sweep(study, statuses)
    line = parts.command(status["command"]) if status.get("command") else ""
    return _head(study, status) + table + line + _log(study, status)


def _head(study: Study, status: Mapping[str, Any]) -> str:
    state = status["state"]
    words = [parts.badge(state, KINDS.get(state, "info"))]
    if state in AT_WORK and status.get("doing"):
        words.append(esc(status["doing"]))
    head = (
        f'<div class="dl-run-head"><span class="dl-title">{esc(study.name)}</span>'
        f'<span class="dl-muted">{" · ".join(words)}</span></div>'
    )
    if state == "waits":
        head += note(
            "It has drawn pairs and waits for your votes: Next drawn pair, in Compare, shows them;"
            " then Go on.",
            "warn",
        )
    elif status.get("error"):
        head += note(status["error"], "bad")
    elif state == "interrupted":
        head += note("Its process vanished; Go on takes it up again.", "warn")
    return head


def _log(study: Study, status: Mapping[str, Any]) -> str:
    lines = log_tail(study, LOG_LINES)
    if not lines:
        return ""
    opened = " open" if status["state"] in ("failed", "interrupted") else ""
    text = esc("\n".join(lines))
    return (
        f'<details class="dl-fold"{opened}><summary>The end of its log</summary>'
        f'<pre class="dl-pre">{text}</pre></details>'
    )


# --- a sweep --------------------------------------------------------------------------------------


def _sweep(study: Study, statuses: Mapping[str, Mapping[str, Any]]) -> str:
    rows = ranked(read_sweep(study.path))
    if not rows:
        return '<p class="dl-muted dl-small">Its runs are being looked at.</p>'
    done = sum(bool(row.sets) for row in rows)
    told = verdict(rows)
    words = f"{done:,} of {len(rows):,} runs are finished. "
    words += f"{told[0].upper()}{told[1:]}." if told else "A ranking takes two of them."
    head, body = cells(rows)
    lines = _runs_of_lines(rows)
    trs = []
    for run, line in zip(lines, body, strict=True):
        opens = f' data-run="{esc(run.run)}" tabindex="0"' if run.run in statuses else ""
        trs.append(f"<tr{opens}>{''.join(f'<td>{esc(cell)}</td>' for cell in line)}</tr>")
    heads = "".join(f"<th>{esc(name)}</th>" for name in head)
    explained_words = explained(map(" ".join, body)) or ""
    return (
        f'<p class="dl-small dl-verdict-line">{esc(words)}</p>'
        '<div class="dl-scroll dl-runs"><table class="dl-table">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(trs)}</tbody></table></div>"
        f'<p class="dl-muted dl-small">{esc(explained_words)}</p>'
    )


def ranked(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """The best first by what they are ranked by, those without a number last; no order of what
    cannot be told apart is meant by it, which the verdict says."""
    measure = next((name for name in RANKED_BY if any(row.values_of(name) for row in rows)), "")

    def place(row: SweepRow) -> tuple[bool, float]:
        mean = row.mean(measure) if measure else None
        return mean is None, -(mean or 0.0)

    return sorted(rows, key=place)


def _runs_of_lines(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """The run of each line of the table, which has one for each held-out set."""
    return [row for row in rows for _ in range(max(len(row.sets), 1))]


# --- rounds ---------------------------------------------------------------------------------------


def _rounds(study: Study, status: Mapping[str, Any]) -> str:
    first, count = status.get("first"), status.get("rounds")
    if not first or not count:
        return '<p class="dl-muted dl-small">Its run is being looked at.</p>'
    rows = read_rounds(study.path.parent, str(first), int(count))
    last = last_reward(study.path.parent, str(first), int(count))
    rewarded = last is not None or any(row.reward is not None for row in rows)
    body = "".join(_round(row, rewarded) for row in rows)
    if last is not None:
        after = f"what round {int(count)} came to"
        body += f'<tr><td class="dl-muted">after</td><td></td><td>{last:+.2f}</td>'
        body += f'<td class="dl-muted" colspan="3">{after}</td></tr>'
    titles = ["round", "pairs drawn", *["mean reward, drawn"] * rewarded, "run", "", "held out"]
    heads = "".join(f"<th>{name}</th>" for name in titles)
    return (
        f'<p class="dl-small">From {esc(first)}, {counted(int(count), "round")}; judged by'
        f" {esc(JUDGES.get(str(status.get('by')), ''))}.</p>"
        '<div class="dl-scroll dl-runs"><table class="dl-table">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _round(row: RoundRow, rewarded: bool) -> str:
    pairs = "–" if row.pairs is None else f"{row.pairs:,}"
    drawn = f"<td>{row.number}</td><td>{pairs}</td>"
    if rewarded:
        drawn += f"<td>{'–' if row.reward is None else f'{row.reward:+.2f}'}</td>"
    if row.status is None:
        run = f'<td class="dl-muted">{esc(row.run.name)}</td><td class="dl-muted">to come</td>'
        return f"<tr>{drawn}{run}<td></td></tr>"
    return (
        f'<tr data-run="{esc(row.run.name)}" tabindex="0">{drawn}'
        f'<td class="dl-name">{esc(row.run.name)}</td>'
        f"<td>{parts.state_badge(row.status)} {parts.progress(row.status)}</td>"
        f"<td>{esc(row.held_out)}</td></tr>"
    )


def to_vote_on(study: Study) -> str | None:
    """The run whose drawn pairs wait for votes; None where none do."""
    first, count = study.status().get("first"), study.status().get("rounds")
    if not first or not count:
        return None
    rows = read_rounds(study.path.parent, str(first), int(count))
    votes = read_votes(study.path.parent)
    drew = [str(first), *(row.run.name for row in rows)]
    return next((name for name in drew if waiting(study.path.parent, name, votes)), None)
