"""curves.png: what training measured over the updates, and the held-out shares it led to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpo_lite.files import read_json
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import Run

REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins")
PREFERENCE = {
    "loss": ("loss",),
    "implicit rewards": REWARDS,
    "reward accuracy": ("rewards/accuracies",),
    "log-probability of a response": ("logps/chosen", "logps/rejected"),
    "learning rate": ("learning_rate",),
}
PANELS = {  # by task: title -> what is drawn in it
    "dpo": PREFERENCE,
    "sft": PREFERENCE,
    "reward": {
        "loss": ("loss",),
        "rewards": REWARDS,
        "reward accuracy": ("rewards/accuracies",),
        "learning rate": ("learning_rate",),
    },
    "ppo": {
        "reward and objective": ("reward", "objective"),
        "KL to the reference, nats per answer": ("kl",),
        "loss": ("loss/policy", "loss/value"),
        "share of clipped ratios": ("clip_fraction",),
        "entropy of a token, nats": ("entropy",),
        "tokens per answer": ("completions/mean_length",),
    },
}


def draw_curves(run: Run, file: Path | None = None) -> None:
    """Draw a finished run's panels, of a reward model without held-out shares: it has a picture of
    its own for them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    records, task = run.steps(), load_recipe(run.recipe_file).task
    panels = PANELS[task]
    results = read_json(run.path / "results.json") or {"sets": {}}
    bars = [] if task == "reward" else _shares(results["sets"])
    count = len(panels) + (task != "reward")
    columns = -(-count // 2)
    figure, axes = plt.subplots(2, columns, figsize=(4.4 * columns, 6.4), constrained_layout=True)
    for axis, (title, keys) in zip(axes.flat, panels.items(), strict=False):
        for key in keys:
            points = [(r["step"], r[key]) for r in records if key in r]
            if points:
                axis.plot(*zip(*points, strict=True), label=key.rpartition("/")[2], linewidth=1.6)
        axis.set_title(f"{title} by {'rollout' if task == 'ppo' else 'update'}", fontsize=10)
        if title == "reward accuracy":
            axis.set_ylim(0, 1.05)
        if len(keys) > 1 and axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    if task != "reward":
        _draw_shares(axes.flat[len(panels)], bars)
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in axes.flat:
        axis.grid(alpha=0.25, axis="y")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(run.name, fontsize=11)
    figure.savefig(file or run.path / "curves.png", dpi=110)
    plt.close(figure)


def _shares(sets: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """What is measured before and after, in shares: label -> role -> share."""
    bars = []
    for name, metrics in sets.items():
        generation = metrics.get("generation") or {}
        if generation.get("policy") is not None:
            bars.append((f"{name}\ngenerated", generation))
        drawn = metrics.get("drawn") or {}
        if "truthful" in drawn.get("policy", {}):
            bars.append((f"{name}\ndrawn", {role: d["truthful"] for role, d in drawn.items()}))
        if "likelihood" in metrics:
            bars.append((f"{name}\nlikelihood", metrics["likelihood"]))
    return bars


def _draw_shares(axis, bars: list[tuple[str, dict[str, float]]]) -> None:
    """Bars before and after: the generated share where the data have markers, and likelihood."""
    for offset, role, label in ((-0.2, "reference", "before"), (0.2, "policy", "after")):
        places = [i + offset for i in range(len(bars))]
        drawn = axis.bar(places, [100 * shares[role] for _, shares in bars], 0.38, label=label)
        axis.bar_label(drawn, fmt="%.0f", fontsize=8)
    axis.set_xticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axis.set_ylim(0, 125)
    axis.set_title("held out: chosen claim, per cent", fontsize=10)
    if bars:
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
