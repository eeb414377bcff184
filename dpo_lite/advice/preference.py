"""What the curves of preferences mean: of a policy that learns from pairs, some of a reward model.

The rules look at the smoothed end of a run, never at one noisy update.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from dpo_lite.advice.rules import Advice, Curves, Rule
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.rates import Rate, differ, margin_text

LN2 = math.log(2)
STILL = 0.03  # a margin that is none yet
# One below which a ranking is right by a hair: the model itself gives it sigma(0.1) = 52.5 %.
HAIR = 0.1
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
    if not curves.is_logistic or margin is None or abs(loss - LN2) > 0.01 or abs(margin) > STILL:
        return None
    if curves.share < max(0.3, curves.train("warmup")):
        return Advice("info", "The loss is still at ln 2 = 0.693: the learning rate is warming up.")
    return Advice(
        "warn",
        f"The loss stays at ln 2 = 0.693: {still}. Raise train.lr "
        f"(now {curves.train('lr'):g}) about three times, or train longer.",
    )


def prefers_rejected(curves: Curves) -> Advice | None:
    accuracy, margin = curves.end_rate("rewards/accuracies"), curves.end("rewards/margins")
    if accuracy is None or margin is None or margin > -STILL or curves.share < 0.3:
        return None
    if LOSSES[curves.train("loss")].reference_free:
        return None  # it begins with what the base finds likelier
    wrong = Rate(1 - accuracy.share, accuracy.n)
    if wrong.share < 0.6 or not wrong.above(0.5):
        return None
    return Advice(
        "bad",
        f"The rejected answers win in {wrong.words()} of the pairs. Look with `dpo-lite data` "
        "whether chosen and rejected are the right way round.",
    )


def coin_flip(curves: Curves) -> Advice | None:
    accuracy = curves.end_rate("rewards/accuracies")
    early = curves.share < 0.5 or len(curves.steps) < 30
    if accuracy is None or early or not 0.4 < accuracy.share < 0.56:
        return None
    return Advice(
        "warn",
        f"The accuracy stays at {accuracy.words()}, like a coin. Either the pairs are noise (look "
        "at some with `dpo-lite data`: would you prefer the same?), or train.lr "
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


def over_fitting(curves: Curves, things: str = "pairs") -> Advice | None:
    trained = curves.end_rate("rewards/accuracies")
    held_out = curves.held_out("rewards/accuracies")
    for name, points in curves.evals.items():
        losses = points.get("loss", [])
        step, best = min(losses, key=lambda p: p[1], default=(0, 0.0))
        if len(losses) > 2 and losses[-1][1] > best + max(0.02, 0.05 * best) and step > 0:
            return Advice(
                "warn",
                f"Over-fitting: the loss on {name} was lowest ({best:.3f}) at update {step} and is "
                f"{losses[-1][1]:.3f} now. Fewer train.epochs would have given the better model.",
            )
        accuracy = held_out.get(name)
        gap = trained.share - accuracy.share if accuracy and trained else 0.0
        if accuracy and trained and gap > 0.2 and differ(trained, accuracy):
            return Advice(
                "warn",
                f"Over-fitting: {trained.words()} of the trained {things} are told apart, but only "
                f"{accuracy.words()} on {name}. Fewer train.epochs, more data, or a smaller "
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
    """What it came to, and whether that says anything; ``then``: what to do with it."""
    trained, margin = curves.end_rate("rewards/accuracies"), curves.end("rewards/margins")
    held_out = curves.held_out("rewards/accuracies")
    numbers = "" if trained is None else f"accuracy {trained.words()}, "
    numbers += f"margin {margin_text(margin)}" if margin is not None else f"loss {curves.loss:.3f}"
    if held_out:
        sets = ", ".join(f"{rate.words()} on {name}" for name, rate in held_out.items())
        numbers += f", held out {sets}"
    if curves.status["state"] != "finished":
        if doubt := early(trained, margin):
            return Advice("info", f"So far: {numbers}. {doubt}")
        return Advice("good", f"It learns: {numbers}.")
    if doubt := hair(curves) or unknown(held_out):
        return Advice("info", f"Finished: {numbers}. {doubt}")
    return Advice("good", f"Finished well: {numbers}. {then}")


def early(trained: Rate | None, margin: float | None) -> str:
    """While it trains: that the last updates do not say yet whether the right answers win."""
    if margin is not None and abs(margin) < HAIR:
        return "What is ranked right is so by a hair yet."
    if trained is not None and not trained.above(0.5):
        return "That is not told from a coin yet."
    return ""


def hair(curves: Curves) -> str:
    """That the right answers win by next to nothing, so that any accuracy means little."""
    ends = {name: points.get("rewards/margins") for name, points in curves.evals.items()}
    margins = {f" on {name}": points[-1][1] for name, points in ends.items() if points}
    trained = curves.end("rewards/margins")
    if not margins and trained is not None:
        margins = {"": trained}
    for where, margin in margins.items():
        if abs(margin) < HAIR:
            return (
                f"What is ranked right is so by a hair: a margin of {margin_text(margin)}{where} "
                f"holds the chosen answer for the better one at {sigmoid(margin):.2%}, where an "
                "untrained model has 50%. Train longer, or raise train.lr (now "
                f"{curves.train('lr'):g}) about three times."
            )
    return ""


def sigmoid(margin: float) -> float:
    """The probability that Bradley and Terry's model gives to a margin."""
    return 1 / (1 + math.exp(-margin))


def unknown(held_out: Mapping[str, Rate], of: str = "pair") -> str:
    """Why the held-out rates do not say whether it learned; empty where they do. ``of``: what each
    of the counted is."""
    if not held_out:
        return f"Nothing was held out, so it is of trained {of}s alone; name data.eval."
    enough = {name: rate for name, rate in held_out.items() if not rate.few}
    if not enough:
        count = sum(rate.n or 0 for rate in held_out.values())
        return (
            f"That is too few to tell: {count:,} held-out {of}{'s' * (count != 1)}. Hold out more "
            "by data.eval or data.eval_share."
        )
    for name, rate in enough.items():
        if not rate.above(0.5):
            return f"On {name} that is not told from a coin."
    return ""


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
