"""The three pictures of docs/theory.md."""

from __future__ import annotations

from pathlib import Path

from scripts.theory.frontier import frontier_curve, place
from scripts.theory.imitation import ROUNDS, rounds_of
from scripts.theory.measure import BETA, COMPARISONS, FRONTIER_BETAS, Measured, margin
from scripts.theory.toy import optimal_policy, total_variation

COLOURS = ["#1f6feb", "#8250df", "#bf8700", "#cf222e", "#1a7f37"]


def draw(measured: Measured, folder: Path) -> None:
    """Write theory-frontier.png, theory-convergence.png and theory-few.png into `folder`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for name, paint in (
        ("frontier", draw_frontier),
        ("convergence", draw_convergence),
        ("few", draw_few),
    ):
        figure = plt.figure(figsize=(9.5, 4.2), constrained_layout=True)
        paint(measured, figure)
        for axis in figure.axes:
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / f"theory-{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)


def draw_frontier(measured: Measured, figure) -> None:
    """Reward against KL: the frontier, where learners end, and the ways that two of them took."""
    world = measured.world
    ends, ways = figure.subplots(1, 2, sharey=True)
    for axis in (ends, ways):
        axis.plot(*frontier_curve(world), color="black", linewidth=1.2, label="π*, all β")
        axis.plot(0, place(world, world.reference)[0], "k.", markersize=8)
        axis.set_xlabel("KL(π ‖ π_ref), nats")
    ends.set_ylabel("expected true reward")
    for (name, policies), marker, size, colour in zip(
        measured.frontier.items(), "ox", (9, 7), (COLOURS[0], COLOURS[3]), strict=True
    ):
        rewards, distances = zip(*(place(world, logps) for logps in policies), strict=True)
        hollow = {"markerfacecolor": "none"} if marker == "o" else {}
        ends.plot(
            distances, rewards, marker, markersize=size, color=colour, label=name,
            markeredgewidth=1.6, **hollow,
        )  # fmt: skip
    for beta, logps in zip(FRONTIER_BETAS, measured.frontier["DPO"], strict=True):
        reward, distance = place(world, logps)
        ends.annotate(
            f"β = {beta:g}", (distance, reward), (10, -12), textcoords="offset points", fontsize=9
        )
    steps = [place(world, rounds_of(world, rounds)) for rounds in (1, *ROUNDS)]
    rewards, distances = zip(*steps, strict=True)
    label = f"SFT on the chosen, {', '.join(map(str, (1, *ROUNDS)))} rounds"
    ends.plot(distances, rewards, "d", markersize=6, color=COLOURS[4], label=label)
    ends.set_title("where training ends", fontsize=10)
    for name, colour in (("DPO, all pairs", COLOURS[0]), ("PPO, exact expectations", COLOURS[3])):
        path = measured.learners[name].path.values()
        rewards, distances = zip(*(place(world, logps) for logps in path), strict=True)
        ways.plot(distances, rewards, color=colour, label=name, marker=".", markersize=4)
    reward, distance = place(world, optimal_policy(world.reward, world.reference, BETA))
    ways.plot(distance, reward, "*", color="black", markersize=11, label=f"π*, β = {BETA:g}")
    ways.set_title("how it gets there", fontsize=10)
    for axis in (ends, ways):
        axis.set_xlim(-0.1, 4.4)
        axis.legend(frameon=False, fontsize=9, loc="lower right")


def draw_convergence(measured: Measured, figure) -> None:
    """Total variation to pi* over the updates, for every learner with endless data."""
    axis = figure.subplots()
    best = optimal_policy(measured.world.reward, measured.world.reference, BETA)
    for (name, trained), colour in zip(measured.learners.items(), COLOURS, strict=True):
        path = {update: total_variation(logps, best) for update, logps in trained.path.items()}
        axis.plot(path.keys(), path.values(), color=colour, label=name, linewidth=1.6)
    axis.axhline(0.01, color="black", linewidth=0.8, linestyle=":")
    axis.set_yscale("log")
    axis.set_ylim(1e-5, 1)
    axis.set_xlabel("updates")
    axis.set_ylabel("total variation to π*, worst prompt")
    axis.legend(frameon=False, fontsize=9, loc="upper right")


def draw_few(measured: Measured, figure) -> None:
    """With few comparisons: margins that grow without end, and policies that leave the frontier."""
    world = measured.world
    margins, places = figure.subplots(1, 2)
    colours = [COLOURS[0], COLOURS[1], COLOURS[3], COLOURS[2]]
    for (name, trained), colour in zip(measured.long.items(), colours, strict=True):
        path = {u: margin(world, p, measured.long_weights) for u, p in trained.path.items() if u}
        margins.plot(path.keys(), path.values(), color=colour, label=name, linewidth=1.6)
    margins.set_xscale("log")
    margins.set_xlabel("updates")
    margins.set_ylabel("margin of the log-ratios, nats")
    margins.set_title(f"{COMPARISONS[0]} comparisons per prompt", fontsize=10)
    places.plot(*frontier_curve(world), color="black", linewidth=1.2, label="π*, all β")
    for name, colour in (("DPO", COLOURS[0]), ("IPO", COLOURS[3])):
        ends = [place(world, trained.logps) for trained in measured.few[name]]
        rewards, distances = zip(*ends, strict=True)
        places.plot(distances, rewards, "o-", color=colour, label=name, linewidth=0.8)
        for count, reward, distance in zip(COMPARISONS, rewards, distances, strict=True):
            side = -7 if count == COMPARISONS[-1] else 7  # the last stands at the curve
            places.annotate(
                f"{count:,}", (distance, reward), (side, -3), textcoords="offset points",
                fontsize=8, color=colour, ha="left" if side > 0 else "right",
            )  # fmt: skip
    places.set_xlim(-0.1, 5)
    places.set_xlabel("KL(π ‖ π_ref), nats")
    places.set_ylabel("expected true reward")
    places.set_title("by comparisons per prompt", fontsize=10)
    margins.legend(frameon=False, fontsize=9)
    places.legend(frameon=False, fontsize=9, loc="lower right")
