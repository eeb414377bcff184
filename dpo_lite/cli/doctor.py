"""`dpo-lite doctor`: whether a training can run on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpo_lite.cli.common import RunsFolder, app, console
from dpo_lite.runs.progress import doing


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    runs: RunsFolder = "runs",
) -> None:
    """The machine: versions, the card, 4 bits, room on disk, and what to do where one is wrong.

    Ends with code 1 where a training would fail or go badly. What it prints can
    go into a report of a fault as it is: there is no token in it.

    Example:  dpo-lite doctor
    Example:  dpo-lite doctor --json
    """
    from dpo_lite.jobs.machine import examine

    with doing(Console(stderr=True), "looking at the machine") as spinner:
        findings = examine(runs, spinner.update)
    wrong = [finding for finding in findings if finding.wrong]
    if as_json:
        found = {"ok": not wrong, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(found, ensure_ascii=False, indent=2))
        raise typer.Exit(1 if wrong else 0)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(finding.name, Text(finding.words, "red" if finding.wrong else ""))
    console.print(table)
    for title, listed in (
        ("\nto put right", wrong),
        ("\nto know", [f for f in findings if f.todo and not f.wrong]),
    ):
        if listed:
            console.print(title, style="bold")
        for finding in listed:
            console.print(f"  {finding.name}: {finding.todo}", markup=False, highlight=False)
    if wrong:
        raise typer.Exit(1)
    console.print("\nready:  dpo-lite train quickstart", markup=False, highlight=False)
