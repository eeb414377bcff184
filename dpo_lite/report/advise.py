"""What the curves of a run mean, in words: a table of rules over its metrics, and no model.

``advise`` is a pure function of what a run's files say, so the page, the terminal and the tests ask
the same. A rule looks at the smoothed end of the run, never at one noisy update.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lite.advice import ppo
from dpo_lite.advice.reward import calibration_words
from dpo_lite.advice.rules import Advice, Rule, Seen
from dpo_lite.files import read_json
from dpo_lite.recipe import load_recipe
from dpo_lite.report.metrics import split_eval
from dpo_lite.runs.folder import Run

LN2 = math.log(2)
EARLY = 10  # updates before which curves say nothing


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
    evals = _evals(metrics, results)
    seen = Seen(recipe, status, [steps[k] for k in sorted(steps)], evals, sets)
    found = [advice for rule in STATES if (advice := rule(seen))]
    on_policy = recipe.get("task") == "ppo"
    if len(seen.steps) < (ppo.EARLY if on_policy else EARLY):
        if not found and seen.steps:
            found.append(_too_early(seen, "rollouts" if on_policy else "updates"))
        return found
    if recipe.get("task") == "sft":  # the rules are about preferences
        return [*found, _demonstrations(seen)]
    rules, well = (ppo.RULES, ppo.well) if on_policy else (RULES, _well)
    found += [advice for rule in rules if (advice := rule(seen))]
    if not any(advice.kind in ("warn", "bad") for advice in found):
        found.append(well(seen))
    order = {"bad": 0, "warn": 1, "good": 2, "info": 3}
    return sorted(found, key=lambda advice: order[advice.kind])


def advise_run(run: Run) -> list[Advice]:
    """The same for a run folder."""
    recipe = load_recipe(run.recipe_file).model_dump()
    results = read_json(run.path / "results.json")
    return advise(recipe, run.status(), run.records("metrics.jsonl"), results)


def _too_early(seen: Seen, unit: str) -> Advice:
    if seen.status["state"] == "finished":
        return Advice("info", f"{len(seen.steps)} {unit} are too few to tell anything from curves.")
    return Advice("info", f"Too early to tell: wait for some more {unit}.")


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
    judged = {n: found["calibration"] for n, found in seen.sets.items() if "calibration" in found}
    told = (calibration_words(*item) for item in judged.items())
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
