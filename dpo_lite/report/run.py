"""The result of a run for people: report.md, curves.png and the last screen."""

from __future__ import annotations

import math
from typing import Any

from dpo_lite.files import read_json, write_text
from dpo_lite.recipe import load_recipe
from dpo_lite.report.curves import draw_curves
from dpo_lite.report.reward import COLUMNS, draw_calibration, mean_in_words, reward_rows
from dpo_lite.runs.folder import Run

SHOWN_SAMPLES = 6


def write_report(run: Run) -> None:
    """Write report.md and its pictures from the files of a finished run."""
    draw_curves(run)
    results = read_json(run.path / "results.json") or {"sets": {}}
    manifest, recipe = run.manifest(), load_recipe(run.recipe_file)
    reward = recipe.task == "reward"
    if reward:
        draw_calibration(results["sets"], run.path / "calibration.png")
    reference = "" if reward else f", reference: {manifest['reference']}"
    head = table_head(recipe.task)
    lines = [
        f"# {run.name}",
        "",
        f"Base `{manifest['base']}` ({manifest['quantization']}){reference}. "
        f"Objective: {recipe.objective}, "
        f"learning rate {recipe.train.lr:g}, {recipe.train.batch_size} examples per update. "
        f"Data: {manifest['data']['examples']:,} examples.",
        "",
        "![curves](curves.png)",
        "",
        "## Held-out results",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
    ]
    for name, metrics in results["sets"].items():
        lines += [f"| {name} | {' | '.join(row)} |" for row in result_rows(metrics)]
    if reward:
        told = mean_in_words(results["mean_reward"]) if "mean_reward" in results else ""
        lines += ["", "![calibration](calibration.png)", "", told]
    else:
        lines += ["", "## Before and after", ""]
    for prompt, before, after in sample_pairs(run):
        lines += [f"**{prompt}**", "", f"- before: {before}", f"- after: {after}", ""]
    lines += [
        *([""] if reward else []),
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


def table_head(task: str) -> tuple[str, ...]:
    """What stands over the rows of ``result_rows``."""
    return ("set", "measure", *(COLUMNS if task == "reward" else ("reference", "policy")))


def result_rows(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of (measure, reference, policy) for one held-out set; (measure, value) of a reward
    model."""
    if "calibration" in metrics:
        return reward_rows(metrics)
    rows = []
    generation = metrics.get("generation") or {}
    if generation.get("policy") is not None:
        rows.append(("chosen claim, generated", *_shares(generation)))
    if "drawn" in metrics:  # of a policy that was rewarded
        return [*rows, *_drawn_rows(metrics["drawn"])]
    if "reference_loss" in metrics:  # demonstrations
        losses = [metrics["reference_loss"], metrics["loss"]]
        rows.append(("loss per token", *(f"{loss:.4f}" for loss in losses)))
        rows.append(("perplexity", *(f"{math.exp(min(loss, 50)):,.1f}" for loss in losses)))
        return rows
    rows.append(("chosen likelier than rejected", *_shares(metrics["likelihood"])))
    accuracy = metrics.get("rewards/accuracies")
    rows.append(("reward accuracy", "–", "–" if accuracy is None else f"{accuracy:.0%}"))
    rows.append(("reward margin", "0", f"{metrics['rewards/margins']:.2f}"))
    rows.append(("loss", "", f"{metrics['loss']:.4f}"))
    return rows


def _drawn_rows(drawn: dict[str, dict[str, float]]) -> list[tuple[str, str, str]]:
    """What answers drawn at temperature 1 are worth."""
    before, after = drawn["reference"], drawn["policy"]
    rows = []
    if "truthful" in after:
        rows.append(("chosen claim, drawn", *(f"{r['truthful']:.0%}" for r in (before, after))))
    rows.append(("reward, drawn", *(f"{r['reward']:+.2f}" for r in (before, after))))
    kl = f"{after['kl']:.2f} ± {after['kl_error']:.2f}"
    rows.append(("KL, nats per answer", "0", kl))
    return rows


def _shares(by_role: dict[str, float]) -> tuple[str, str]:
    return tuple(
        "–" if by_role[role] is None else f"{by_role[role]:.0%}" for role in ("reference", "policy")
    )


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
