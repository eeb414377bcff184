"""What the curves of a run mean, in words: a table of rules over its metrics, and no model.

``advise`` is a pure function of what a run's files say, so the page, the terminal and the tests ask
the same. A rule looks at the smoothed end of the run, never at one noisy update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lite.recipe import load_recipe
from dpo_lite.reward_advice import calibration_words
from dpo_lite.runs import Run, read_json

LN2 = math.log(2)
EARLY = 10  # updates before which curves say nothing

METRICS = {
    "loss": "What is minimised. DPO starts at ln 2 = 0.693, where policy and reference are equal; "
    "so does a reward model, whose rewards are all 0. Lower means that the chosen answers win by "
    "more. Near zero the pairs are learned by heart.",
    "rewards/margins": "Reward of the chosen answer minus that of the rejected one, on average: "
    "how far the model tells them apart. It starts at 0 and should grow, then flatten. A policy's "
    "reward is implicit, a reward model's is what its head says.",
    "rewards/accuracies": "Share of pairs whose chosen answer has the higher reward; ties "
    "are left out. 0.5 is a coin; 0.6 to 0.8 on held-out data is common, as people disagree.",
    "rewards/chosen": "Of a policy beta · (log π − log π_ref) of the chosen answer: how much "
    "likelier it is than under the reference. It often falls below 0, as only the margin is "
    "trained. Of a reward model what its head says of the chosen answer, kept around 0 by "
    "train.centering.",
    "rewards/rejected": "The same for the rejected answer. It should fall, and a policy's faster "
    "than that of the chosen one.",
    "logps/chosen": "Log-probability of the whole chosen answer under the policy, in nats. Long "
    "answers have lower ones. A steep fall means that also good text gets unlikely.",
    "logps/rejected": "The same for the rejected answer.",
    "kl": "How far the policy has moved from the reference, in nats per answer: log π − log π_ref "
    "averaged over answers that the policy itself draws. An estimate from a few answers; noisy.",
    "learning_rate": "The size of the steps: it rises during the warm-up and then falls as "
    "train.scheduler says.",
    "grad_norm": "Length of the gradient before it is cut to train.max_grad_norm. Single spikes do "
    "no harm; a steady climb is not.",
    "memory": "What the process holds, in GiB: of the GPU where there is one, else of the machine.",
}


@dataclass(frozen=True)
class Advice:
    """A sentence or two, and how good the news is: info, good, warn or bad."""

    kind: str
    text: str


@dataclass(frozen=True)
class Seen:
    """What the rules look at."""

    recipe: Mapping[str, Any]
    status: Mapping[str, Any]
    steps: Sequence[Mapping[str, float]]  # one per logged update
    evals: Mapping[str, Mapping[str, list[tuple[int, float]]]]  # set -> metric -> points
    calibrations: Mapping[str, Mapping[str, Any]]  # a reward model's, by set

    @property
    def is_reward(self) -> bool:
        return self.recipe.get("task") == "reward"

    def train(self, key: str) -> Any:
        return self.recipe["train"][key]

    def end(self, key: str) -> float | None:
        """Mean over the last tenth of the updates, at least five."""
        values = [s[key] for s in self.steps if s.get(key) is not None]
        tail = values[-max(5, len(values) // 10) :]
        return sum(tail) / len(tail) if tail else None

    def start(self, key: str) -> float | None:
        values = [s[key] for s in self.steps if s.get(key) is not None]
        return sum(values[:3]) / len(values[:3]) if values else None

    @property
    def share(self) -> float:
        """How much of the run is behind it, 0 to 1."""
        last = self.steps[-1]["step"] if self.steps else 0
        return last / max(self.status.get("max_steps") or last or 1, 1)

    @property
    def in_sigmoid(self) -> bool:
        return self.train("loss") in ("sigmoid", "sigmoid_norm")


def advise(
    recipe: Mapping[str, Any],
    status: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    results: Mapping[str, Any] | None = None,
) -> list[Advice]:
    """What to make of a run: the gravest first. ``recipe`` is the recipe as nested dicts.

    ``metrics`` are the lines of metrics.jsonl, ``results`` the content of results.json.
    """
    steps = {m["step"]: m for m in metrics if "loss" in m}  # of a repeated update the last counts
    sets = (results or {}).get("sets") or {}
    calibrations = {n: found["calibration"] for n, found in sets.items() if "calibration" in found}
    evals = _evals(metrics, results)
    seen = Seen(recipe, status, [steps[k] for k in sorted(steps)], evals, calibrations)
    found = [advice for rule in STATES if (advice := rule(seen))]
    if len(seen.steps) < EARLY:
        if not found and seen.steps:
            found.append(Advice("info", "Too early to tell: wait for some more updates."))
        return found
    if recipe.get("task") == "sft":  # the rules are about preferences
        return [*found, _demonstrations(seen)]
    found += [advice for rule in RULES if (advice := rule(seen))]
    if not any(advice.kind in ("warn", "bad") for advice in found):
        found.append(_well(seen))
    order = {"bad": 0, "warn": 1, "good": 2, "info": 3}
    return sorted(found, key=lambda advice: order[advice.kind])


def advise_run(run: Run) -> list[Advice]:
    """The same for a run folder."""
    recipe = load_recipe(run.recipe_file).model_dump()
    results = read_json(run.path / "results.json")
    return advise(recipe, run.status(), run.records("metrics.jsonl"), results)


def _demonstrations(seen: Seen) -> Advice:
    start, end = seen.start("loss"), seen.end("loss")
    kind = "good" if end < start else "warn"
    verdict = "" if end < start else ": nothing is learned; raise train.lr or look at the data"
    return Advice(kind, f"The loss went from {start:.2f} to {end:.2f} nats per token{verdict}.")


# --- how it ended ---------------------------------------------------------------------------------


def failed(seen: Seen) -> Advice | None:
    if seen.status["state"] != "failed":
        return None
    return Advice("bad", f"The run failed: {seen.status.get('error') or 'see its log.'}")


def interrupted(seen: Seen) -> Advice | None:
    if seen.status["state"] != "interrupted":
        return None
    return Advice(
        "warn",
        "The process ended without a word: the machine restarted, or its memory ran out. Resume "
        "goes on from the last checkpoint.",
    )


def stopped(seen: Seen) -> Advice | None:
    if seen.status["state"] != "stopped":
        return None
    return Advice("info", "Stopped and saved. Resume goes on as if it had never stopped.")


# --- what the curves say --------------------------------------------------------------------------


def not_finite(seen: Seen) -> Advice | None:
    bad = next((s for s in seen.steps if not math.isfinite(s["loss"])), None)
    if bad is None:
        return None
    return Advice(
        "bad",
        f"The loss became {bad['loss']} at update {bad['step']}: lower train.lr (now "
        f"{seen.train('lr'):g}), and look for broken rows with `dpo-lite data`.",
    )


def worse_than_nothing(seen: Seen) -> Advice | None:
    loss = seen.end("loss")
    # A margin that the data ask for is part of a reward model's loss from the start.
    untrained = max(LN2, seen.steps[0]["loss"]) if seen.is_reward else LN2
    if not seen.in_sigmoid or not math.isfinite(loss) or loss < untrained + 0.1:
        return None
    known = "ln 2 = " if untrained == LN2 else ""
    model = "reward model" if seen.is_reward else "policy"
    return Advice(
        "bad",
        f"The loss is {loss:.2f}, above the {known}{untrained:.3f} of an untrained {model}: the "
        f"steps are too large. Lower train.lr (now {seen.train('lr'):g}) three to ten times.",
    )


def stuck_at_ln2(seen: Seen) -> Advice | None:
    loss, margin = seen.end("loss"), seen.end("rewards/margins")
    if not seen.in_sigmoid or margin is None or abs(loss - LN2) > 0.01 or abs(margin) > 0.03:
        return None
    if seen.share < max(0.3, seen.train("warmup")):
        return Advice("info", "The loss is still at ln 2 = 0.693: the learning rate is warming up.")
    still = "the policy has hardly left the reference"
    if seen.is_reward:
        still = "the head hardly tells the answers apart"
    return Advice(
        "warn",
        f"The loss stays at ln 2 = 0.693: {still}. Raise train.lr "
        f"(now {seen.train('lr'):g}) about three times, or train longer.",
    )


def prefers_rejected(seen: Seen) -> Advice | None:
    accuracy, margin = seen.end("rewards/accuracies"), seen.end("rewards/margins")
    if accuracy is None or accuracy > 0.4 or margin > -0.03 or seen.share < 0.3:
        return None
    return Advice(
        "bad",
        f"The rejected answers win in {1 - accuracy:.0%} of the pairs. Look with `dpo-lite data` "
        "whether chosen and rejected are the right way round.",
    )


def coin_flip(seen: Seen) -> Advice | None:
    accuracy = seen.end("rewards/accuracies")
    if accuracy is None or not 0.4 < accuracy < 0.56 or seen.share < 0.5 or len(seen.steps) < 30:
        return None
    return Advice(
        "warn",
        f"The accuracy stays at {accuracy:.2f}, like a coin. Either the pairs are noise (look at "
        "some with `dpo-lite data`: would you prefer the same?), or train.lr "
        f"({seen.train('lr'):g}) is too low to learn from them.",
    )


def exploded(seen: Seen) -> Advice | None:
    loss, margin = seen.end("loss"), seen.end("rewards/margins")
    if margin is None or margin < 8 or loss > 0.05:
        return None
    if seen.is_reward:
        return Advice(
            "warn",
            f"The margin has grown to {margin:.1f} and the loss is near zero: the pairs are learned"
            ", and further updates only make it surer of itself. Fewer train.epochs or a lower "
            f"train.lr (now {seen.train('lr'):g}) keep it calibrated.",
        )
    return Advice(
        "warn",
        f"The margin has grown to {margin:.1f} and the loss is near zero: the pairs are learned, "
        "and further updates only carry the policy away from the reference. Fewer train.epochs, a "
        f"higher train.beta (now {seen.train('beta'):g}) or a lower train.lr keep the text whole.",
    )


def over_fitting(seen: Seen) -> Advice | None:
    train_accuracy = seen.end("rewards/accuracies")
    for name, points in seen.evals.items():
        losses = points.get("loss", [])
        step, best = min(losses, key=lambda p: p[1], default=(0, 0.0))
        if len(losses) > 2 and losses[-1][1] > best + max(0.02, 0.05 * best) and step > 0:
            return Advice(
                "warn",
                f"Over-fitting: the loss on {name} was lowest ({best:.3f}) at update {step} and is "
                f"{losses[-1][1]:.3f} now. Fewer train.epochs would have given the better model.",
            )
        accuracy = points.get("rewards/accuracies", [])
        gap = train_accuracy - accuracy[-1][1] if accuracy and train_accuracy else 0.0
        if gap > 0.2:
            return Advice(
                "warn",
                f"Over-fitting: {train_accuracy:.0%} of the trained pairs are told apart, but only "
                f"{accuracy[-1][1]:.0%} on {name}. Fewer train.epochs, more data, or a smaller "
                "adapter.r help.",
            )
    return None


def displacement(seen: Seen) -> Advice | None:
    """Falling rewards/chosen: what is normal, and from where on the text is in danger."""
    reward, logp = seen.end("rewards/chosen"), seen.end("logps/chosen")
    if reward is None or logp is None or reward > -0.05:
        return None
    fall = -reward / seen.train("beta")  # nats per answer, or per token
    per_token = seen.train("loss") == "sigmoid_norm"
    before = 1.0 if per_token else abs(logp + fall) or 1.0
    if fall > before:
        lost = f"{fall:.1f} nats a token" if per_token else f"{fall:.0f} nats each"
        return Advice(
            "warn",
            f"The chosen answers lost {lost}, as much as they had: also good text "
            "got unlikely. Read some answers; if they are odd, set train.sft_weight=0.1 or lower "
            f"train.lr (now {seen.train('lr'):g}).",
        )
    return Advice(
        "info",
        "rewards/chosen falls, which is normal: only the margin to the rejected answers is trained,"
        " and both usually get less likely. Should the text suffer, train.sft_weight holds it.",
    )


def uncalibrated(seen: Seen) -> Advice | None:
    told = (calibration_words(*item) for item in seen.calibrations.items())
    return next((Advice("warn", text) for text in told if text), None)


def _well(seen: Seen) -> Advice:
    accuracy, margin = seen.end("rewards/accuracies"), seen.end("rewards/margins")
    told = "" if accuracy is None else f"accuracy {accuracy:.0%}, "
    told += f"margin {margin:.2f}" if margin is not None else f"loss {seen.end('loss'):.3f}"
    held_out = [
        f"{points['rewards/accuracies'][-1][1]:.0%} on {name}"
        for name, points in seen.evals.items()
        if points.get("rewards/accuracies")
    ]
    if held_out:
        told += f", held out {', '.join(held_out)}"
    if seen.status["state"] == "finished" and seen.is_reward:
        return Advice("good", f"Finished well: {told}. Now rank answers with `dpo-lite best-of`.")
    if seen.status["state"] == "finished":
        return Advice(
            "good", f"Finished well: {told}. Now read its answers beside the reference's."
        )
    return Advice("good", f"It learns: {told}.")


Rule = Callable[[Seen], Advice | None]
STATES: list[Rule] = [failed, interrupted, stopped]
RULES: list[Rule] = [
    not_finite,
    worse_than_nothing,
    prefers_rejected,
    stuck_at_ln2,
    coin_flip,
    exploded,
    over_fitting,
    displacement,
    uncalibrated,
]


def _evals(
    metrics: Sequence[Mapping[str, Any]], results: Mapping[str, Any] | None
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Held-out points by set and metric: those while training, and the final ones."""
    evals: dict[str, dict[str, list[tuple[int, float]]]] = {}
    last = 0
    for record in metrics:
        last = max(last, record["step"])
        for key, value in record.items():
            split = split_eval(key)
            if split and isinstance(value, int | float):
                evals.setdefault(split[0], {}).setdefault(split[1], []).append(
                    (record["step"], value)
                )
    for name, found in ((results or {}).get("sets") or {}).items():
        for key in ("loss", "rewards/accuracies", "rewards/margins"):
            if found.get(key) is not None:
                evals.setdefault(name, {}).setdefault(key, []).append((last, found[key]))
    return evals


def split_eval(key: str) -> tuple[str, str] | None:
    """``eval_<set>_<metric>`` as (set, metric), for the metrics that are known here."""
    if not key.startswith("eval_"):
        return None
    for metric in METRICS:
        if key.endswith(f"_{metric}") and len(key) > len(f"eval__{metric}"):
            return key[5 : -len(metric) - 1], metric
    return None
