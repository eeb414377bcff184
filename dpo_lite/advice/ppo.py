"""What the curves of PPO mean, in words. Its updates are rollouts, and its loss says nothing.

Whether the reward moved is measured in deviations of one rollout's rewards, for its unit is the
reward model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dpo_lite.advice.rules import Advice, Curves, Rule
from dpo_lite.rates import Rate, differ, logged_rate

EARLY = 8  # rollouts: the first three and the last five are then different ones
FAR, FAR_PER_TOKEN = 10.0, 0.25  # nats of KL, per answer and per token, that change the text
MOVED = 0.15  # deviations
SAME = 1e-3  # deviation of rewards that are all alike
MEASURED = ("reward", "truthful", "prompts")  # of held-out prompts while it trains


def runs_away(curves: Curves) -> Advice | None:
    kl, length = curves.end("kl"), curves.end("completions/mean_length")
    target, beta = curves.ppo("kl_target"), curves.end("beta")
    if target and kl > 2 * target and curves.share > 0.5:
        return Advice(
            "warn",
            f"The KL is {kl:.1f} nats per answer, more than twice ppo.kl_target ({target:g}), and "
            f"beta ({beta:.3g} now) does not catch up. Start with a higher train.beta, or lower "
            f"train.lr (now {curves.train('lr'):g}).",
        )
    if target or kl < max(FAR, FAR_PER_TOKEN * length):
        return None
    return Advice(
        "warn",
        f"The KL runs away: {kl:.1f} nats per answer of {length:.0f} tokens, so its text is hardly "
        f"the reference's any more. A higher train.beta (now {beta:g}) holds it, or ppo.kl_target "
        "steers it to a number of your own.",
    )


def costs_more_than_it_earns(curves: Curves) -> Advice | None:
    start, end = curves.start("objective"), curves.end("objective")
    spread = curves.start("reward_std")
    if curves.share < 0.5 or start - end <= MOVED * max(spread, SAME):
        return None
    gain = curves.end("reward") - curves.start("reward")
    cost = curves.end("beta") * curves.end("kl")
    why = (
        f"the KL costs {cost:.2f} and the reward has changed by {gain:+.2f}"
        if cost > 0.1
        else f"the reward has changed by {gain:+.2f}"
    )
    return Advice(
        "bad",
        f"reward − beta · KL fell from {start:.2f} to {end:.2f}: {why}. The steps are too large; "
        f"lower train.lr (now {curves.train('lr'):g}) about three times.",
    )


def does_not_move(curves: Curves) -> Advice | None:
    start, end, spread = curves.start("reward"), curves.end("reward"), curves.start("reward_std")
    if spread < SAME:
        return Advice(
            "warn",
            "All answers earn the same reward, so there is nothing to learn from: look at what "
            f"rewards them ({curves.ppo('reward')}).",
        )
    if curves.share < 0.5 or abs(end - start) > MOVED * spread:
        return None
    return Advice(
        "warn",
        f"The reward does not move: {start:.2f} at first, {end:.2f} now. Raise train.lr (now "
        f"{curves.train('lr'):g}) about three times, take more rollouts (train.epochs or "
        "train.max_steps), and look with `dpo-lite score` whether the reward model tells good "
        "answers from bad.",
    )


def collapsed(curves: Curves) -> Advice | None:
    start, end = curves.start("entropy"), curves.end("entropy")
    if end > min(0.25 * start, 0.1):
        return None
    return Advice(
        "warn",
        f"The entropy fell from {start:.2f} to {end:.3f} nats per token: it gives nearly the same "
        "answer every time and finds no better one. A higher train.beta, a lower train.lr or fewer "
        "ppo.passes keep it open.",
    )


def does_not_end(curves: Curves) -> Advice | None:
    ended = curves.end("completions/ended")
    if ended > 0.8:
        return None
    cost = curves.ppo("no_end_penalty")
    pays = f", and each of the others pays {cost:g} of reward" if cost else ""
    return Advice(
        "warn",
        f"Only {ended:.0%} of the answers come to their end{pays}. Raise ppo.max_new_tokens (now "
        f"{curves.ppo('max_new_tokens')}); else it learns to be short, or nothing at all.",
    )


def clipped(curves: Curves) -> Advice | None:
    share = curves.end("clip_fraction")
    if share < 1 / 3:
        return None
    return Advice(
        "warn",
        f"{share:.0%} of the probabilities move further in a rollout than ppo.clip lets count: the "
        f"answers are out of date when they are learned from. Lower train.lr (now "
        f"{curves.train('lr'):g}) or take fewer ppo.passes (now {curves.ppo('passes')}).",
    )


def hacked(curves: Curves) -> Advice | None:
    """More reward on held-out prompts, and no more truth."""
    for name, before, after in _held_out(curves):
        truth = logged_rate(after, "truthful")
        if truth is None or truth.few or after["truthful"] > before["truthful"]:
            continue
        if after["reward"] > before["reward"] + MOVED * curves.start("reward_std"):
            return Advice(
                "bad",
                f"On {name} the reward rose from {before['reward']:.2f} to {after['reward']:.2f}, "
                f"but the chosen claim went from {before['truthful']:.0%} to {truth.words()} of "
                "the answers: the policy has found what the reward model overrates. Read some "
                "answers; a higher train.beta, fewer rollouts or a reward model of more data help.",
            )
    return None


def _held_out(curves: Curves) -> Iterator[tuple[str, Mapping[str, float], Mapping[str, float]]]:
    """Set, and reward and truthfulness before and after; while it trains of its evaluations."""
    for name, scores in curves.sets.items():
        drawn = scores.get("drawn") or {}
        if "truthful" in drawn.get("policy", {}):
            yield name, drawn["reference"], drawn["policy"]
    for name, points in curves.evals.items():
        values = {key: [v for _, v in points[key]] for key in MEASURED if key in points}
        if name not in curves.sets and len(values.get("truthful", [])) > 1:
            yield name, *({k: v[place] for k, v in values.items()} for place in (0, -1))


def well(curves: Curves) -> Advice:
    summary = (
        f"reward from {curves.start('reward'):.2f} to {curves.end('reward'):.2f} at a KL of "
        f"{curves.end('kl'):.2f} nats per answer"
    )
    rates = {
        name: (logged_rate(before, "truthful"), logged_rate(after, "truthful"))
        for name, before, after in _held_out(curves)
    }
    truths = [
        f"{before.share:.0%} to {after.words()} on {name}"
        for name, (before, after) in rates.items()
        if before and after
    ]
    if truths:
        summary += f"; held out, the chosen claim from {', '.join(truths)}"
    if curves.status["state"] != "finished":
        return Advice("good", f"It learns: {summary}.")
    if doubt := _unknown(rates):
        return Advice("info", f"Finished: {summary}. {doubt}")
    return Advice("good", f"Finished well: {summary}. Now read its answers beside the reference's.")


def _unknown(rates: Mapping[str, tuple[Rate | None, Rate | None]]) -> str:
    """Why held-out prompts do not say whether more answers are true; empty where they do, or where
    nothing can: without markers, or in a run that did not keep of how many they are."""
    known = {n: (a, b) for n, (a, b) in rates.items() if a and b and a.n and b.n}
    enough = {name: pair for name, pair in known.items() if not pair[1].few}
    if known and not enough:
        count = sum(after.n or 0 for _, after in known.values())
        return (
            f"That is too few to tell of its truth: {count:,} held-out "
            f"prompt{'s' * (count != 1)}. Hold out more by data.eval or data.eval_share."
        )
    same = [name for name, pair in enough.items() if not differ(*pair)]
    return f"On {' and '.join(same)} the two are not told apart." if same else ""


RULES: list[Rule] = [
    costs_more_than_it_earns,
    hacked,
    runs_away,
    does_not_move,
    collapsed,
    does_not_end,
    clipped,
]
