"""The result of a run for people: report.md with its pictures."""

from __future__ import annotations

from typing import Any

from dpo_lite.files import read_json, write_text
from dpo_lite.recipe import load_recipe
from dpo_lite.report.curves import draw_curves
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS

SHOWN_SAMPLES = 6


def write_report(run: Run) -> None:
    """Write report.md and its pictures from the files of a finished run."""
    draw_curves(run)
    results = read_json(run.path / "results.json") or {"sets": {}}
    manifest, recipe = run.manifest(), load_recipe(run.recipe_file)
    task = TASKS[recipe.task]
    task.draw_pictures(results["sets"], run.path)
    reference = f", reference: {manifest['reference']}" if task.answers else ""
    head = ("set", "measure", *task.columns)
    lines = [
        f"# {run.name}",
        "",
        f"Base `{manifest['base']}` ({manifest['quantization']}){reference}. "
        f"Objective: {recipe.objective}, "
        f"learning rate {recipe.train.lr:g}, {recipe.train.batch_size} {task.examples} per "
        f"{task.unit}. Data: {manifest['data']['examples']:,} examples.",
        "",
        "![curves](curves.png)",
        "",
        "## Held-out results",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
    ]
    for name, metrics in results["sets"].items():
        lines += [f"| {name} | {' | '.join(row)} |" for row in task.result_rows(metrics)]
    for file in task.pictures:
        lines += ["", f"![{file.partition('.')[0]}]({file})"]
    for remark in task.remarks(results):
        lines += ["", remark]
    lines.append("")
    if task.answers:
        lines += ["## Before and after", ""]
    for prompt, before, after in sample_pairs(run):
        lines += [f"**{prompt}**", "", f"- before: {before}", f"- after: {after}", ""]
    lines += [
        "## Cost",
        "",
        f"{results.get('seconds', 0):.0f} s in all, on {manifest['device']}. Memory in MiB, "
        "predicted for the largest micro-batch and measured:",
        "",
        "| part | predicted | measured |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in memory_rows(results)),
        "",
    ]
    write_text(run.path / "report.md", "\n".join(lines))


def memory_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(part, predicted, measured) in MiB; on a CPU the last is the whole process."""

    def mib(size: int | None) -> str:
        return "–" if size is None else f"{size / 2**20:,.1f}"

    rows = [
        (name, mib(part["predicted"]), mib(part["measured"]))
        for name, part in results["memory"].items()
    ]
    return [*rows, ("peak", "", mib(results["peak_memory"]))]


def sample_pairs(run: Run, most: int = SHOWN_SAMPLES) -> list[tuple[str, str, str]]:
    """(prompt, answer before, answer after), the recipe's own prompts first."""
    samples = run.records("samples.jsonl")
    after = {s["prompt"]: s["answer"] for s in samples if s["when"] == "after"}
    pairs = [
        (s["prompt"], s["answer"], after[s["prompt"]])
        for s in samples
        if s["when"] == "before" and s["prompt"] in after
    ]
    return pairs[:most]
