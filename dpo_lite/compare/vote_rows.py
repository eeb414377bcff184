"""Votes as data to train on: rows of pairs, or of single answers that are good or bad.

Where every prompt is one text, the rows are texts. Where one is a conversation, all are lists of
messages, exactly as they were asked, for a file has one format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dpo_lite.compare.votes import BAD, LETTERS, TIE, Asked, Vote, asked_key, read_votes, votes_file
from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import json_text, write_text
from dpo_lite.recipe import load_recipe
from dpo_lite.recipe.other_task import keys_for

OF_THE_DATA = ("eval", "revision", "columns", "where", "limit")
Kind = Literal["pairs", "answers"]  # for DPO, or one by one for KTO
TASK_OF: dict[Kind, str] = {"pairs": "dpo", "answers": "kto"}  # which learns from such rows
AGAIN = "voted on again later"


@dataclass
class Export:
    """``rows`` as the data layer reads them, and how many votes gave none and why."""

    rows: list[dict[str, Any]]
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1


def preference_rows(votes: Iterable[Vote], run: str | None = None) -> Export:
    """Rows of prompt, chosen and rejected: the best answer against each of the others.

    Of rows that say the opposite of each other the later one stays.
    """
    export = Export([])
    rows: dict[Any, dict[str, Any]] = {}
    for vote in filter(_of(run), votes):
        if len(vote["columns"]) == 1:
            export.leave_out("single answers")
            continue
        if vote["verdict"] in (TIE, BAD):
            export.leave_out("ties" if vote["verdict"] == TIE else "both bad")
            continue
        place = LETTERS.index(vote["verdict"])
        answers = [column["answer"] for column in vote["columns"]]
        for position, rejected in enumerate(answers):
            chosen = answers[place]
            if position == place:
                continue
            if chosen == rejected:
                export.leave_out("equal answers")
            elif not chosen.strip() or not rejected.strip():
                export.leave_out("empty answers")
            else:
                key = (asked_key(vote["prompt"]), frozenset((chosen, rejected)))
                if key in rows:
                    export.leave_out(AGAIN)
                rows[key] = {"prompt": vote["prompt"], "chosen": chosen, "rejected": rejected}
    export.rows = _alike(list(rows.values()))
    return export


def unpaired_rows(votes: Iterable[Vote], run: str | None = None) -> Export:
    """Rows of prompt, completion and label: answers by themselves, good (true) or bad.

    A thumb is such a row. A vote on several gives one for each, as KTO takes preferences apart
    (Ethayarajh et al. 2024, section 5): the best is good, the others are not, and of answers that
    are all bad none is. Of rows that say the opposite of an answer the later one stays.
    """
    export = Export([])
    rows: dict[Any, dict[str, Any]] = {}
    for vote in filter(_of(run), votes):
        if vote["verdict"] == TIE:
            export.leave_out("ties")
            continue
        answers = [column["answer"] for column in vote["columns"]]
        best = None if vote["verdict"] == BAD else answers[LETTERS.index(vote["verdict"])]
        if best is not None and answers.count(best) > 1:
            export.leave_out("equal answers")
            continue
        for answer in dict.fromkeys(answers):
            if not answer.strip():
                export.leave_out("empty answers")
                continue
            key = (asked_key(vote["prompt"]), answer)
            if key in rows:
                export.leave_out(AGAIN)
            rows[key] = {"prompt": vote["prompt"], "completion": answer, "label": answer == best}
    export.rows = _alike(list(rows.values()))
    return export


def _of(run: str | None) -> Callable[[Vote], bool]:
    """Whether the run took part in a vote; None is any run."""
    return lambda vote: not run or run in (vote["run"], *(c["label"] for c in vote["columns"]))


def _alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows as messages as soon as one prompt is a conversation."""
    if all(isinstance(row["prompt"], str) for row in rows):
        return rows
    return [
        {
            key: cell if key == "label" else _messages(cell, "user" if key == "prompt" else None)
            for key, cell in row.items()
        }
        for row in rows
    ]


def _messages(cell: Asked, role: str | None) -> list[dict[str, str]]:
    if isinstance(cell, list):
        return cell
    return [{"role": role or "assistant", "content": cell}]


ROWS: dict[Kind, Callable[[Iterable[Vote], str | None], Export]] = {
    "pairs": preference_rows,
    "answers": unpaired_rows,
}


def export_votes(
    folder: str | Path,
    file: str | Path,
    run: str | None = None,
    replace: bool = False,
    kind: Kind = "pairs",
) -> Export:
    """Write the votes as a data set (.jsonl); raises UserError where there are none."""
    file = Path(file)
    if file.suffix != ".jsonl":
        raise UserError(f"{file} is no name for JSON lines; end it with .jsonl.")
    if file.exists() and not replace:
        raise UserError(f"{file} exists; choose another name or remove it first.")
    export = ROWS[kind](read_votes(folder), run)
    if not export.rows:
        left = ", ".join(f"{count} {why}" for why, count in export.left_out.items())
        what = "prefer one answer" if kind == "pairs" else "call an answer good or bad"
        raise UserError(
            f"There are no votes in {votes_file(folder)} that {what}"
            + (f" ({left})" if left else "")
            + "; vote with `dpo-lite compare RUN --blind`."
        )
    with disk_faults_told():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "".join(json_text(row) + "\n" for row in export.rows))
    return export


def training_command(
    folder: str | Path, run: str, file: str | Path, kind: Kind = "pairs"
) -> list[str]:
    """Trains on from the run's adapter, with that adapter as the reference, on exported votes."""
    recipe = Path(folder) / run / "recipe.yaml"
    return ["dpo-lite", "train", str(recipe), *training_keys(folder, run, file, kind)]


def training_keys(
    folder: str | Path, run: str, file: str | Path, kind: Kind = "pairs"
) -> list[str]:
    """What it says otherwise than the run's recipe, as ``key=value``."""
    path = Path(folder) / run
    # What the run's recipe says about its own data does not hold for the votes.
    recipe = load_recipe(path / "recipe.yaml")
    data = recipe.data
    own = [f"data.{key}=null" for key in OF_THE_DATA if getattr(data, key) is not None]
    # Plain text stays plain text; said anew, as other data take the recipe's format along.
    own += [f"data.format={'raw' if data.raw else 'auto'}"] if data.format != "auto" else []
    return [
        *(f"run.name={free_run(folder, f'{run}-votes')}", f"run.folder={folder}"),
        *(f"data.train={file}", *own, *keys_for(recipe, TASK_OF[kind])),
        *(f"model.adapter={path / 'adapter'}", "reference=start"),
    ]


def free_run(folder: str | Path, stem: str) -> str:
    """The first name of a run that is not taken: the stem with a number."""
    number = 1
    while (Path(folder) / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"
