"""The result of a run for people: report.md with its pictures."""

from __future__ import annotations

from typing import Any

from dpo_lite.files import write_text
from dpo_lite.judge.verdicts import markdown, read_verdicts, reward_words
from dpo_lite.memory.parts import LIBRARIES, TOGETHER
from dpo_lite.rates import explained
from dpo_lite.recipe import load_recipe
from dpo_lite.report import exports, suite
from dpo_lite.report.advise import NOTHING
from dpo_lite.report.curves import draw_curves
from dpo_lite.report.kept import kept_words
from dpo_lite.report.replay import verified, verified_words
from dpo_lite.report.words import counted
from dpo_lite.runs.folder import ANSWERED_BY, SKIPPED, UNTRAINED, Run
from dpo_lite.tasks import TASKS

SHOWN_SAMPLES = 6
PROCESS = "the whole process"


def write_report(run: Run) -> None:
    """Write report.md and its pictures from the files of a finished run."""
    draw_curves(run)
    results = run.results()
    manifest, recipe = run.manifest(), load_recipe(run.recipe_file)
    task = TASKS[recipe.task]
    task.draw_pictures(results["sets"], run.path)
    reference = f", reference: {manifest.get('reference')}" if task.answers else ""
    head, rows = task.table(results["sets"])
    lines = [
        f"# {run.name}",
        "",
        f"Base `{recipe.model.base}` ({recipe.model.quantization}){reference}. "
        f"Objective: {recipe.objective}, "
        f"learning rate {recipe.train.lr:g}, {recipe.train.batch_size} {task.examples} per "
        f"{task.unit}. Data: {manifest.get('data', {}).get('examples', 0):,} examples.",
        "",
        *went_on_words(manifest),
        *(line for words in run.damages() for line in (words, "")),
        *([NOTHING, ""] if results.get(UNTRAINED) else []),
        *([kept, ""] if (kept := kept_words(results, task.unit)) else []),
        *([skipped_words(results[SKIPPED]), ""] if results.get(SKIPPED) else []),
        "![curves](curves.png)",
        "",
        "## Held-out results",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
    ]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    if words := explained(map(" ".join, rows)):
        lines += ["", words]
    for file in task.pictures:
        lines += ["", f"![{file.partition('.')[0]}]({file})"]
    for remark in task.remarks(results):
        lines += ["", remark]
    lines += ["", *reward_words(run.path, recipe.judge), *markdown(read_verdicts(run.path))]
    lines += suite.markdown(suite.read_suite(run.path))
    if task.answers:
        lines += ["## Answers", ""]
    for prompt, answers in answered(run):
        lines += [f"**{prompt}**", "", *(f"- {who}: {text}" for who, text in answers.items()), ""]
    lines += exports.lines(run)
    if words := verified_words(verified(run.path)):
        lines += ["## Replayed", "", words, ""]
    lines += [
        "## Cost",
        "",
        f"{results.get('seconds', 0):.0f} s in all, on {manifest.get('device')}. Memory in MiB, "
        f"predicted for the largest micro-batch and measured{memory_words(results)}:",
        "",
        "| part | predicted | measured |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in memory_rows(results)),
        "",
    ]
    write_text(run.path / "report.md", "\n".join(lines))


def went_on_words(manifest: dict[str, Any]) -> list[str]:
    """Where a run went on although it was no longer the same: what changed, a paragraph each."""
    lines = []
    for note in manifest.get("went_on_anyway", []):
        changed = ", ".join(
            f"{d['key']} was {d['before']} and became {d['now']}" for d in note["differences"]
        )
        lines += [f"The run went on after update {note['step']:,} although {changed}.", ""]
    return lines


def skipped_words(count: int) -> str:
    """What became of updates whose gradient fp16 did not hold."""
    return f"{counted(count, 'update')} changed nothing: the gradient was too large for fp16."


def memory_words(results: dict[str, Any]) -> str:
    """What is measured together without a card, as a clause."""
    if LIBRARIES not in results.get("memory", {}):
        return ""
    return (
        "; the whole process is predicted over Python and libraries as they were before the first "
        "update, and its peak also has what was loaded later and what the allocator holds back"
    )


def memory_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(part, predicted, measured) in MiB.

    A run of an older version measured without a card only the whole process, of which its plan had
    predicted a part.
    """

    def mib(size: int | None) -> str:
        return "–" if size is None else f"{size / 2**20:,.1f}"

    parts = results.get("memory")
    if not parts:  # of results that were lost and measured again
        return []
    whole = {TOGETHER: PROCESS} if LIBRARIES in parts else {}
    rows = [
        (whole.get(name, name), mib(part["predicted"]), mib(part["measured"]))
        for name, part in parts.items()
    ]
    if parts[TOGETHER]["measured"] is None:
        rows.append((f"{PROCESS}, with its libraries", "–", mib(results["peak_memory"])))
    return rows


def answered(run: Run, most: int = SHOWN_SAMPLES) -> list[tuple[str, dict[str, str]]]:
    """Prompts with the answers that each of ANSWERED_BY gave, the recipe's own prompts first."""
    answers: dict[str, dict[str, str]] = {}
    for sample in run.records("samples.jsonl"):
        if sample["when"] in ANSWERED_BY:
            given = answers.setdefault(sample["prompt"], {})
            given[ANSWERED_BY[sample["when"]]] = sample["answer"]
    both = {"reference", "policy"}
    return [(prompt, given) for prompt, given in answers.items() if both <= given.keys()][:most]
