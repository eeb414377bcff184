"""What the curves of KTO mean: answers by themselves, on one side or the other of a point."""

from __future__ import annotations

from dpo_lite.advice import preference
from dpo_lite.advice.preference import HAIR, READ, STILL
from dpo_lite.advice.rules import Advice, Curves, Rule
from dpo_lite.rates import margin_text


def stands_still(curves: Curves) -> Advice | None:
    margin = curves.end("rewards/margins")
    if margin is None or abs(margin) > STILL or curves.share < max(0.3, curves.train("warmup")):
        return None
    return Advice(
        "warn",
        f"Good and bad answers earn the same (they are {margin_text(margin)} apart): the policy has"
        f" hardly left the reference. Raise train.lr (now {curves.train('lr'):g}) about three "
        "times, or train longer.",
    )


def wrong_way_round(curves: Curves) -> Advice | None:
    margin = curves.end("rewards/margins")
    if margin is None or margin > -HAIR or curves.share < 0.3:
        return None
    return Advice(
        "bad",
        f"Bad answers earn more than good ones, by {margin_text(-margin)}. Look with "
        "`dpo-lite data` whether the labels are the right way round.",
    )


def saturated(curves: Curves) -> Advice | None:
    margin = curves.end("rewards/margins")
    weights = curves.train("desirable_weight"), curves.train("undesirable_weight")
    least = min(weight for weight in (*weights, 1.0) if isinstance(weight, (int, float)))
    if margin is None or margin < 8 or curves.loss > 0.05 * least:
        return None
    return Advice(
        "warn",
        f"Good and bad answers are {margin:.1f} apart and the loss is near zero: the answers are "
        "learned, and further updates only carry the policy away from the reference. Fewer "
        f"train.epochs, a higher train.beta (now {curves.train('beta'):g}) or a lower train.lr "
        "keep the text whole.",
    )


def good_ones_fall(curves: Curves) -> Advice | None:
    """Unlike DPO, KTO holds good answers against a point: where they fall something is wrong."""
    reward, logp = curves.end("rewards/chosen"), curves.end("logps/chosen")
    if reward is None or logp is None or reward > -HAIR or curves.share < 0.3:
        return None
    fall = -reward / curves.train("beta")
    return Advice(
        "warn",
        f"Good answers got less likely, by {fall:.0f} nats each, though each of them was to gain: "
        "the bad ones pull harder. Raise train.desirable_weight, or lower train.lr (now "
        f"{curves.train('lr'):g}).",
    )


def over_fitting(curves: Curves) -> Advice | None:
    return preference.over_fitting(curves, "answers")


def well(curves: Curves) -> Advice:
    """What it came to, and whether that says anything."""
    trained, margin = curves.end_rate("rewards/accuracies"), curves.end("rewards/margins")
    held_out = curves.held_out("rewards/accuracies")
    numbers = "" if trained is None else f"{trained.words()} of the answers on their side of z0, "
    apart = f"good less bad {margin_text(margin)}" if margin is not None else ""
    numbers += apart or f"loss {curves.loss:.3f}"
    if held_out:
        sets = ", ".join(f"{rate.words()} on {name}" for name, rate in held_out.items())
        numbers += f"; held out {sets}"
    if curves.status["state"] != "finished":
        if margin is not None and abs(margin) < HAIR:
            return Advice("info", f"So far: {numbers}. They are told apart by a hair yet.")
        return Advice("good", f"It learns: {numbers}.")
    if doubt := preference.unknown(held_out, "answer"):
        return Advice("info", f"Finished: {numbers}. {doubt}")
    return Advice("good", f"Finished well: {numbers}. {READ}")


RULES: list[Rule] = [
    preference.not_finite,
    wrong_way_round,
    stands_still,
    saturated,
    over_fitting,
    good_ones_fall,
]
