"""Memory and time: what a run will need by part, before it starts.

A plan comes from Costs (dpo_lite.model.dry_run): of the loaded model in a run's preflight, or of
the config alone, for a base that is not here and a card that one does not have (``dpo-lite plan``).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from dpo_lite.cards import CARDS
from dpo_lite.errors import UserError
from dpo_lite.model.dry_run import Costs
from dpo_lite.model.logprobs import CHUNK_ELEMENTS
from dpo_lite.recipe import TrainSection

GIB = 2**30
CPU_BUDGET = 2048
GPU_BUDGETS = (16384, 8192, 4096, 2048, 1024, 512)
ROOMY = 4096  # tokens at which a GPU is busy: more only where nothing has to be recomputed
CONTEXT = 0.7 * GIB  # what CUDA itself and the allocator's gaps take on a card
USABLE = 0.9  # of the free memory of the card at hand

UTILISATION = (0.35, 0.6)  # share of that peak that QLoRA training reaches, from published runs


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by part at the peak of an update, the token budget and whether to checkpoint."""

    weights: int
    adapter_and_optimizer: int
    activations: int
    head: int
    workspace: int
    budget: int
    checkpointing: bool

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


def predict(costs: Costs, train: TrainSection, budget: int, checkpointing: bool) -> MemoryPlan:
    """Bytes by part for micro-batches of ``budget`` tokens.

    Checkpointed, each layer leaves its input behind, and one layer at a time is recomputed.
    """
    per_token = costs.rest + costs.layer * (1 if checkpointing else costs.layers)
    if checkpointing:
        per_token += costs.hidden * costs.element * costs.layers
    state = 2 if train.optimizer == "adamw_8bit" else 8  # bytes of Adam's two moments
    logits = min(CHUNK_ELEMENTS, budget * costs.vocabulary)
    # A layer's widest product: its 4-bit weight unpacked twice, and the gradients of its tokens.
    workspace = 2 * costs.element * costs.widest + 3 * costs.element * budget * costs.broadest
    return MemoryPlan(
        weights=costs.weights,
        adapter_and_optimizer=costs.trained * (4 + 4 + state),
        activations=int(per_token * budget),
        head=logits * (8 + 2 * costs.element),
        workspace=workspace,
        budget=budget,
        checkpointing=checkpointing,
    )


def choose_plan(
    costs: Costs, train: TrainSection, longest: int, memory: float | None
) -> MemoryPlan:
    """The token budget and checkpointing for so much memory, unless the recipe says.

    ``longest``: tokens of the longest example, the least that a micro-batch must hold; ``memory``
    in bytes, None on a CPU. The largest budget that fits is taken, without checkpointing where that
    leaves 4,096 tokens; where nothing fits, the smallest plan, which is over ``memory``.
    """
    wanted = train.token_budget
    if memory is None:
        budget = max(CPU_BUDGET if wanted == "auto" else wanted, longest)
        return predict(costs, train, budget, train.checkpointing is True)
    budgets = [wanted] if wanted != "auto" else list(GPU_BUDGETS)
    budgets = sorted({max(budget, longest) for budget in budgets}, reverse=True)
    options = [train.checkpointing] if train.checkpointing != "auto" else [False, True]
    plans = [predict(costs, train, budget, option) for option in options for budget in budgets]
    fitting = [plan for plan in plans if plan.total <= memory] or plans[-1:]
    large_enough = [plan for plan in fitting if plan.budget >= ROOMY]
    return (large_enough or fitting)[0]


def free_memory(device: torch.device) -> float | None:
    """Bytes that a run may take on this machine's card, what it holds already included."""
    if device.type == "cpu":
        return None
    return USABLE * torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)


def card(name: str) -> tuple[float, float | None]:
    """Usable bytes and peak FLOP/s of a card: ``3090``, or ``12GB`` for its memory alone."""
    short = name.lower().replace(" ", "").removeprefix("rtx")
    if short in CARDS:
        gib, tera = CARDS[short]
        return gib * GIB - CONTEXT, tera * 1e12
    number = short.removesuffix("b").removesuffix("i").removesuffix("g")
    try:
        gib = float(number)
    except ValueError:
        gib = 0
    if not 0.5 < gib < 1000:
        raise UserError(
            f"--gpu {name} is no card that is known; give its memory, such as 12GB, or one of "
            f"{', '.join(CARDS)}."
        )
    return gib * GIB - CONTEXT, None


def advice(plan: MemoryPlan, costs: Costs, train: TrainSection, memory: float) -> list[str]:
    """What to change where a plan does not fit, the most helpful first."""
    over = plan.total - memory
    if over <= 0:
        return []
    ways = []
    if train.checkpointing is False:
        ways.append("train.checkpointing=true recomputes activations instead of keeping them")
    per_token = (plan.activations + plan.workspace) / plan.budget
    shorter = int(plan.budget - over / per_token)
    if shorter >= 128:
        ways.append(f"data.max_length={shorter // 64 * 64} or train.token_budget to the same")
    if train.optimizer == "adamw":
        saved = costs.trained * 6 / GIB
        ways.append(f"train.optimizer=adamw_8bit saves {saved:.2f} GiB")
    if plan.weights > memory:
        ways.append("a smaller base: the weights alone are more than the card holds")
    return ways or ["a smaller base, or a card with more memory"]


def seconds_per_epoch(
    costs: Costs, checkpointing: bool, tokens: int, scored: int, flops: float
) -> tuple[float, float]:
    """From best to worst, for ``tokens`` computed and ``scored`` response tokens, at ``flops``.

    Per token and weight two operations for each of: the policy's forward pass, the gradient of its
    activations (the base is frozen), the reference, and a recomputation where it is checkpointed.
    """
    work = 2 * costs.linear * tokens * (4 if checkpointing else 3) + 2 * costs.head * scored * 3
    worst, best = UTILISATION
    return work / flops / best, work / flops / worst


def bar(parts: Iterable[int], whole: float, width: int = 48) -> str:
    """Parts of a whole as a bar of letters a, b, c …; what is over it stands behind a ``|``."""
    cells = "".join(
        chr(ord("a") + place) * round(size / whole * width) for place, size in enumerate(parts)
    )
    return cells[:width].ljust(width, "·") + "|" + cells[width:]


def peak_memory(device: torch.device) -> int:
    """Measured peak in bytes: of the allocator on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
