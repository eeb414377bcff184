"""Memory: what a run will need by part, and what to give up for it, decided before it starts.

A plan comes from Costs (dpo_lite.model.dry_run): of the loaded model in a run's preflight, or of
the config alone, for a base that is not here and a card that one does not have (``dpo-lite plan``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dpo_lite.model.dry_run import Costs
from dpo_lite.model.logprobs import CHUNK_ELEMENTS
from dpo_lite.model.recompute import Recompute
from dpo_lite.model.tiles import TILE
from dpo_lite.recipe import Recipe

CPU_BUDGET = 2048
GPU_BUDGETS = (16384, 8192, 4096, 2048, 1024, 512)
ROOMY = 4096  # tokens at which a GPU is busy: more only where nothing has to be recomputed
MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of Adam's two moments per trained parameter


@dataclass(frozen=True)
class Choice:
    """What may be given up for memory. Nothing of it changes a gradient."""

    recompute: Recompute = "none"
    recomputed: int = 0  # layers, the first ones
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    embeddings: Literal["gpu", "cpu"] = "gpu"
    tile: int = 0  # tokens that a layer's parts of single tokens do at a time; 0: all

    def words(self, layers: int) -> str:
        """What is given up, as a clause."""
        some = (
            "every layer" if self.recomputed == layers else f"{self.recomputed} of {layers} layers"
        )
        clauses = {
            "none": "nothing recomputed",
            "selective": "all but the products recomputed",
            "layers": f"{some} recomputed",
            "offload": "every layer recomputed from the host's memory",
        }
        parts = [clauses[self.recompute]]
        if self.tile:
            parts.append(f"MLPs and norms {self.tile:,} tokens at a time")
        if self.optimizer == "adamw_8bit":
            parts.append("optimiser in 8 bits")
        if self.embeddings == "cpu":
            parts.append("embedding in the host's memory")
        return ", ".join(parts)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by part at the peak of an update, the token budget and what is given up for it."""

    weights: int
    adapter_and_optimizer: int
    activations: int
    head: int
    workspace: int
    budget: int
    choice: Choice
    layers: int
    on_host: int = 0  # bytes of layers' inputs that wait in the host's memory

    @property
    def parts(self) -> dict[str, int]:
        return {
            "weights": self.weights,
            "adapter and optimiser": self.adapter_and_optimizer,
            "activations": self.activations,
            "head": self.head,
            "workspace": self.workspace,
        }

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the tokens."""
        return self.weights + self.adapter_and_optimizer

    def words(self) -> str:
        return f"{self.budget:,} tokens per micro-batch, {self.choice.words(self.layers)}"


def predict(costs: Costs, choice: Choice, budget: int, factor: float = 1.0) -> MemoryPlan:
    """Bytes by part for micro-batches of ``budget`` tokens.

    ``factor``: what a measured update took, against what was predicted of its changing parts.
    """
    head = min(CHUNK_ELEMENTS, budget * costs.vocabulary) * (8 + 2 * costs.element)
    # It comes when the head is done and takes the head's place, so what is more than that counts.
    workspace = _workspace(costs, choice, budget)
    inputs = costs.layers * costs.hidden * costs.element * budget
    return MemoryPlan(
        weights=costs.weights - (costs.embedding if choice.embeddings == "cpu" else 0),
        adapter_and_optimizer=costs.trained * (4 + 4 + MOMENTS[choice.optimizer]),
        activations=int(factor * _kept_per_token(costs, choice, budget) * budget),
        head=int(factor * head),
        workspace=int(factor * max(workspace - head, 0)),
        budget=budget,
        choice=choice,
        layers=costs.layers,
        on_host=inputs if choice.recompute == "offload" else 0,
    )


def _workspace(costs: Costs, choice: Choice, budget: int) -> int:
    """A layer's widest product: its 4-bit weight unpacked twice, and the gradients of its tokens.

    In tiles these are a tile's, with what it keeps; or what attention has of all tokens in its
    backward pass, if that is more: queries, answers and the gradients of both.
    """
    unpacked, gradients = 2 * costs.element * costs.widest, 3 * costs.element
    if not _is_tiled(costs, choice, budget):
        return unpacked + gradients * costs.broadest * budget
    in_tile = costs.layer - costs.tiled + gradients * costs.broadest
    outside = 4 * costs.element * costs.broadest_outside * budget
    return int(max(unpacked + choice.tile * in_tile, outside))


def _is_tiled(costs: Costs, choice: Choice, budget: int) -> bool:
    return bool(costs.tiled and choice.tile and budget > choice.tile)


def _kept_per_token(costs: Costs, choice: Choice, budget: int) -> float:
    """Bytes at the moment when most is held: the forward pass is over, or a layer is run again."""
    inputs = costs.hidden * costs.element  # of one layer
    if choice.recompute == "none":
        return costs.rest + costs.layers * costs.layer
    if choice.recompute == "selective":
        # The layer that is run again has its kept part already.
        kept = costs.layers * (inputs + costs.selective)
        return costs.rest + kept + max(costs.layer - costs.selective, 0)
    layer = costs.tiled if _is_tiled(costs, choice, budget) else costs.layer
    if choice.recompute == "offload":
        return costs.rest + 2 * inputs + layer
    # The last layers are kept whole and let go before the first ones are run again.
    whole = (costs.layers - choice.recomputed) * costs.layer
    return costs.rest + choice.recomputed * inputs + max(whole, layer)


def choose_plan(
    costs: Costs,
    recipe: Recipe,
    longest: int,
    memory: float | None,
    most: int | None = None,
    factor: float = 1.0,
) -> MemoryPlan:
    """The token budget and what to give up for so much memory, unless the recipe says.

    ``longest``: tokens of the longest example, the least that a micro-batch must hold; ``most``:
    of the largest update, more is of no use; ``memory`` in bytes, None on a CPU, where nothing is
    given up that the recipe does not ask for. The first choice that leaves 4,096 tokens is taken
    (see ``choices``); else the one with most tokens; where nothing fits the smallest plan, which is
    over ``memory``.
    """
    wanted = recipe.train.token_budget
    limit = max(most or GPU_BUDGETS[0], longest)
    if memory is None:
        budget = max(CPU_BUDGET if wanted == "auto" else wanted, longest)
        return predict(costs, next(choices(costs, recipe, 0)), min(budget, limit), factor)
    budgets = [wanted] if wanted != "auto" else list(GPU_BUDGETS)
    budgets = sorted({min(max(budget, longest), limit) for budget in budgets}, reverse=True)
    enough = min(max(ROOMY, longest), budgets[0]) if wanted == "auto" else budgets[0]
    best = smallest = None
    for choice in choices(costs, recipe, longest):
        for budget in budgets:
            if choice.recompute != "none" and budget > enough:
                continue
            plan = predict(costs, choice, budget, factor)
            if smallest is None or plan.total < smallest.total:
                smallest = plan
            if plan.total <= memory and (best is None or plan.budget > best.budget):
                best = plan
        if best is not None and best.budget >= enough:
            return best
    assert smallest is not None  # there is always a choice, and a budget
    return best or smallest


def largest_update(lengths: np.ndarray, batch_size: int) -> int:
    """Tokens of an update of the longest examples: no micro-batch is larger."""
    return int(np.sort(lengths)[-batch_size:].sum())


def choices(costs: Costs, recipe: Recipe, longest: int) -> Iterator[Choice]:
    """What may be given up, in the order of what it costs; what the recipe says stays.

    Selective recomputation saves a tenth of the activations for a fiftieth of the time, a layer all
    of its own for a third of its time (benchmarks/RESULTS.md), so the same bytes cost half as much
    by the first. Tiles cost next to nothing, but gain something only where the longest example is
    longer than one. Then come the optimiser's precision, the embedding's place, and copies over the
    bus.
    """
    checkpointing = recipe.train.checkpointing if costs.recomputable else False
    layers = costs.layers
    ladder: dict[object, list[tuple[Recompute, int]]] = {
        False: [("none", 0)],
        "selective": [("selective", layers)],
        True: [("layers", layers)],
        "offload": [("offload", layers)],
        "auto": [
            ("none", 0),
            ("selective", layers),
            *(("layers", count) for count in range(1, layers + 1)),
        ],
    }
    steps = ladder[checkpointing]
    optimizer = recipe.train.optimizer if recipe.train.optimizer != "auto" else "adamw"
    where = recipe.model.embeddings if recipe.model.embeddings != "auto" else "gpu"
    start = Choice(optimizer=optimizer, embeddings=where)
    yield from (replace(start, recompute=how, recomputed=count) for how, count in steps)
    last = replace(start, recompute=steps[-1][0], recomputed=steps[-1][1])
    if costs.tiled and longest > TILE and last.recompute in ("layers", "offload"):
        last = replace(last, tile=TILE)
        yield last
    if recipe.train.optimizer == "auto":
        last = replace(last, optimizer="adamw_8bit")
        yield last
    if recipe.model.embeddings == "auto" and costs.embedding:
        last = replace(last, embeddings="cpu")
        yield last
    if checkpointing == "auto":
        yield replace(last, recompute="offload")


def advice(plan: MemoryPlan, costs: Costs, recipe: Recipe, memory: float) -> list[str]:
    """What to change where a plan does not fit, the most helpful first."""
    over = plan.total - memory
    if over <= 0:
        return []
    ways = []
    if recipe.train.checkpointing not in ("auto", "offload") and costs.recomputable:
        ways.append("train.checkpointing=auto recomputes activations instead of keeping them")
    per_token = (plan.activations + plan.workspace) / plan.budget
    shorter = int(plan.budget - over / per_token)
    if shorter >= 128:
        ways.append(f"data.max_length={shorter // 64 * 64} or train.token_budget to the same")
    if recipe.train.optimizer == "adamw":
        saved = costs.trained * (MOMENTS["adamw"] - MOMENTS["adamw_8bit"]) / 2**30
        ways.append(f"train.optimizer=auto saves {saved:.2f} GiB")
    if recipe.model.embeddings == "gpu" and costs.embedding:
        ways.append(f"model.embeddings=auto saves {costs.embedding / 2**30:.2f} GiB")
    if plan.weights > memory:
        ways.append("a smaller base: the weights alone are more than the card holds")
    return ways or ["a smaller base, or a card with more memory"]


def bar(parts: Iterable[int], whole: float, width: int = 48) -> str:
    """Parts of a whole as a bar of letters a, b, c …; what is over it stands behind a ``|``."""
    cells = "".join(
        chr(ord("a") + place) * round(size / whole * width) for place, size in enumerate(parts)
    )
    return cells[:width].ljust(width, "·") + "|" + cells[width:]
