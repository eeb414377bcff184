"""What the calls return: a run, a plan and answers, as Python sees them and a notebook shows them.

A run is read from its folder whenever something is asked for; nothing is kept in memory. Text that
models or data wrote is escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lite.rates import explained
from dpo_lite.recipe import load_recipe
from dpo_lite.report.run import answered
from dpo_lite.runs.folder import Run as Folder
from dpo_lite.runs.state import read_results
from dpo_lite.tasks import TASKS

if TYPE_CHECKING:
    from dpo_lite.jobs.forecast import Forecast

GIB = 2**30
SHOWN = 4  # prompts that a notebook shows
EVERY = 10**9


@dataclass(frozen=True)
class Run:
    """A run, made by ``train`` or found by ``show``; its folder is in ``path``."""

    folder: Folder

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def state(self) -> str:
        """``finished``, ``stopped``, ``failed``, or what it is doing."""
        return str(self.folder.status()["state"])

    @property
    def recipe(self) -> dict[str, Any]:
        """Every key of the run's recipe with its value, as nested dicts."""
        return load_recipe(self.folder.recipe_file).model_dump()

    @property
    def metrics(self) -> Any:
        """What was logged of each update: a DataFrame, or a list of dicts without pandas.

        Columns as TRL names them (``loss``, ``rewards/margins``, …); docs/concepts.md says what
        they mean.
        """
        steps = self.folder.steps()
        if find_spec("pandas") is None:
            return steps
        import pandas

        return pandas.DataFrame(steps)

    @property
    def results(self) -> dict[str, Any]:
        """results.json: held-out numbers by set, seconds, memory; empty before the end."""
        return read_results(self.path) or {}

    @property
    def adapter(self) -> Path:
        """The folder of the trained adapter, which PEFT loads too."""
        return self.folder.adapter

    @property
    def report(self) -> str:
        """report.md as text; empty before the end."""
        file = self.path / "report.md"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def answers(self) -> list[dict[str, str]]:
        """What was said before and after: ``prompt``, ``reference`` and ``policy``, a dict each."""
        return [{"prompt": prompt, **given} for prompt, given in answered(self.folder, EVERY)]

    def compare(self, *prompts: str, **how: Any) -> Answers:
        """Ask reference and policy now; ``how`` as in ``dpo_lite.compare``."""
        from dpo_lite.api.calls import compare

        return compare(self, *prompts, **how)

    def __repr__(self) -> str:
        return f"<run {self.name}: {self.state}, in {self.path}>"

    def _repr_html_(self) -> str:
        status = self.folder.status()
        step = (
            f", update {int(status['step'])} of {int(status['max_steps'])}"
            if status.get("step")
            else ""
        )
        parts = [f"<p><b>{_esc(self.name)}</b>: {_esc(self.state)}{step}, in {_esc(self.path)}</p>"]
        if status.get("error"):
            parts.append(f"<p>{_esc(status['error'])}</p>")
        parts.append(_picture(self.path / "curves.png"))
        if sets := self.results.get("sets"):
            head, rows = TASKS[load_recipe(self.folder.recipe_file).task].table(sets)
            parts += [_table(head, rows), f"<p>{_esc(explained(map(' '.join, rows)))}</p>"]
        shown = self.answers()[:SHOWN]
        parts.append(_of_prompts((each["prompt"], _others(each)) for each in shown))
        return "\n".join(filter(None, parts))


class Plan:
    """What ``dpo-lite plan`` says: ``fits``, bytes by part, seconds of an epoch, what to change."""

    def __init__(self, forecast: Forecast, note: str = ""):
        self.fits = forecast.fits
        self.parts = forecast.plan.parts
        self.total = forecast.plan.total
        self.usable = forecast.memory  # bytes of the card; None on a CPU
        self.epochs = forecast.epochs  # by card ("": this one): seconds, from best to worst
        self.advice = forecast.advice
        self.notes = [*filter(None, [note]), *forecast.notes]
        self._lines = [*filter(None, [note]), *forecast.lines()]

    def __repr__(self) -> str:
        return "\n".join(self._lines)

    def _repr_html_(self) -> str:
        rows = [*self.parts.items(), ("together", self.total)]
        if self.usable is not None:
            rows.append(("usable on the card", int(self.usable)))
        table = _table(("part", "GiB"), [(name, f"{size / GIB:.2f}") for name, size in rows])
        # The first lines are the table, up to a line without words.
        words = self._lines[len(self._lines) - self._lines[::-1].index("") :]
        return table + "".join(f"<p>{_esc(line)}</p>" for line in words)


class Answers(list[dict[str, Any]]):
    """A dict for each prompt: ``prompt``, ``answers`` by who gave them, ``rewards`` likewise.

    The rewards are implicit, beta * log(pi / pi_ref) of the run that was compared
    (arXiv:2305.18290, section 4), in nats.
    """

    def _repr_html_(self) -> str:
        return _of_prompts(
            (
                each["prompt"],
                {
                    f"{who} ({each['rewards'][who]:+.2f})": text
                    for who, text in each["answers"].items()
                },
            )
            for each in self
        )


def _esc(text: object) -> str:
    return html.escape(str(text), quote=True)


def _others(answer: dict[str, str]) -> dict[str, str]:
    return {who: text for who, text in answer.items() if who != "prompt"}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{_esc(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    top = "".join(f"<th>{_esc(cell)}</th>" for cell in head)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _of_prompts(prompts: Iterable[tuple[str, dict[str, str]]]) -> str:
    """Each prompt over who answered it and what."""
    return "".join(
        f"<p><b>{_esc(prompt)}</b></p>{_table((), answers.items())}" for prompt, answers in prompts
    )


def _picture(file: Path) -> str:
    """A picture as it stands in the page: a notebook may be read where the run is not."""
    if not file.is_file():
        return ""
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="curves" style="max-width:100%" src="data:image/png;base64,{data}">'
