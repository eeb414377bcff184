"""What the curves of preferences mean: of a policy that learns from pairs, some of a reward model.

The rules look at the smoothed end of a run, never at one noisy update.
"""

from __future__ import annotations

import math

from dpo_lite.advice.rules import Advice, Curves, Rule
from dpo_lite.objectives.losses import LOSSES

LN2 = math.log(2)
READ = "Now read its answers beside the reference's."


def not_finite(curves: Curves) -> Advice | None:
    bad = next((s for s in curves.steps if not math.isfinite(s["loss"])), None)
    if bad is None:
        return None
    return Advice(
        "bad",
        f"The loss became {bad['loss']} at update {bad['step']}: lower train.lr (now "
        f"{curves.train('lr'):g}), and look for broken rows with `dpo-lite data`.",
    )


def worse_than_nothing(curves: Curves) -> Advice | None:
    return above_untrained(curves, LN2, "policy")


def above_untrained(curves: Curves, untrained: float, model: str) -> Advice | None:
    """The loss at the end is higher than that of a model that was not trained at all."""
    loss = curves.loss
    if not curves.is_logistic or not math.isfinite(loss) or loss < untrained + 0.1:
        return None
    known = "ln 2 = " if untrained == LN2 else ""
    return Advice(
        "bad",
        f"The loss is {loss:.2f}, above the {known}{untrained:.3f} of an untrained {model}: the "
        f"steps are too large. Lower train.lr (now {curves.train('lr'):g}) three to ten times.",
    )


def stuck_at_ln2(
    curves: Curves, still: str = "the policy has hardly left the reference"
) -> Advice | None:
    loss, margin = curves.loss, curves.end("rewards/margins")
    if not curves.is_logistic or margin is None or abs(loss - LN2) > 0.01 or abs(margin) > 0.03:
        return None
    if curves.share < max(0.3, curves.train("warmup")):
        return Advice("info", "The loss is still at ln 2 = 0.693: the learning rate is warming up.")
    return Advice(
        "warn",
        f"The loss stays at ln 2 = 0.693: {still}. Raise train.lr "
        f"(now {curves.train('lr'):g}) about three times, or train longer.",
    )


def prefers_rejected(curves: Curves) -> Advice | None:
    accuracy, margin = curves.end("rewards/accuracies"), curves.end("rewards/margins")
    if accuracy is None or margin is None or accuracy > 0.4 or margin > -0.03 or curves.share < 0.3:
        return None
    return Advice(
        "bad",
        f"The rejected answers win in {1 - accuracy:.0%} of the pairs. Look with `dpo-lite data` "
        "whether chosen and rejected are the right way round.",
    )


def coin_flip(curves: Curves) -> Advice | None:
    accuracy = curves.end("rewards/accuracies")
    early = curves.share < 0.5 or len(curves.steps) < 30
    if accuracy is None or early or not 0.4 < accuracy < 0.56:
        return None
    return Advice(
        "warn",
        f"The accuracy stays at {accuracy:.2f}, like a coin. Either the pairs are noise (look at "
        "some with `dpo-lite data`: would you prefer the same?), or train.lr "
        f"({curves.train('lr'):g}) is too low to learn from them.",
    )


def exploded(curves: Curves) -> Advice | None:
    return learned_by_heart(
        curves,
        "carry the policy away from the reference. Fewer train.epochs, a "
        f"higher train.beta (now {curves.train('beta'):g}) or a lower train.lr keep the text whole",
    )


def learned_by_heart(curves: Curves, harm: str) -> Advice | None:
    """The pairs are learned; ``harm``: what further updates do, and what helps."""
    loss, margin = curves.loss, curves.end("rewards/margins")
    if margin is None or margin < 8 or loss > 0.05:
        return None
    return Advice(
        "warn",
        f"The margin has grown to {margin:.1f} and the loss is near zero: the pairs are learned, "
        f"and further updates only {harm}.",
    )


def over_fitting(curves: Curves) -> Advice | None:
    train_accuracy = curves.end("rewards/accuracies")
    for name, points in curves.evals.items():
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


def displacement(curves: Curves) -> Advice | None:
    """Falling rewards/chosen: what is normal, and from where on the text is in danger."""
    reward, logp = curves.end("rewards/chosen"), curves.end("logps/chosen")
    if reward is None or logp is None or reward > -0.05:
        return None
    fall = -reward / curves.train("beta")  # nats per answer, or per token
    per_token = LOSSES[curves.train("loss")].per_token
    before = 1.0 if per_token else abs(logp + fall) or 1.0
    if fall > before:
        lost = f"{fall:.1f} nats a token" if per_token else f"{fall:.0f} nats each"
        return Advice(
            "warn",
            f"The chosen answers lost {lost}, as much as they had: also good text "
            "got unlikely. Read some answers; if they are odd, set train.sft_weight=0.1 or lower "
            f"train.lr (now {curves.train('lr'):g}).",
        )
    return Advice(
        "info",
        "rewards/chosen falls, which is normal: only the margin to the rejected answers is trained,"
        " and both usually get less likely. Should the text suffer, train.sft_weight holds it.",
    )


def well(curves: Curves, then: str = READ) -> Advice:
    """What it came to; ``then``: what to do with it."""
    accuracy, margin = curves.end("rewards/accuracies"), curves.end("rewards/margins")
    numbers = "" if accuracy is None else f"accuracy {accuracy:.0%}, "
    numbers += f"margin {margin:.2f}" if margin is not None else f"loss {curves.loss:.3f}"
    held_out = [
        f"{points['rewards/accuracies'][-1][1]:.0%} on {name}"
        for name, points in curves.evals.items()
        if points.get("rewards/accuracies")
    ]
    if held_out:
        numbers += f", held out {', '.join(held_out)}"
    if curves.status["state"] == "finished":
        return Advice("good", f"Finished well: {numbers}. {then}")
    return Advice("good", f"It learns: {numbers}.")


RULES: list[Rule] = [
    not_finite,
    worse_than_nothing,
    prefers_rejected,
    stuck_at_ln2,
    coin_flip,
    exploded,
    over_fitting,
    displacement,
]
