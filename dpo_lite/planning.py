"""Memory: what a run will need by part, from the loaded model and the recipe.

Activations follow the count of tensors that autograd keeps per token in a Llama-type layer; parts
that can be counted (weights, adapter, optimiser) are counted.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass

import torch

from dpo_lite.model.logprobs import CHUNK_ELEMENTS
from dpo_lite.model.scoring import causal_lm
from dpo_lite.recipe import Recipe

CPU_BUDGET = 2048
GPU_BUDGETS = (16384, 8192, 4096, 2048, 1024, 512)


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
    def total(self) -> int:
        parts = asdict(self)
        return sum(v for k, v in parts.items() if k not in ("budget", "checkpointing"))


def plan_memory(model: torch.nn.Module, recipe: Recipe, longest: int) -> MemoryPlan:
    """Choose the token budget and checkpointing for this machine, unless the recipe says.

    ``longest``: tokens of the longest example, the least that a micro-batch must hold. On a GPU the
    largest budget that fits in nine tenths of the free memory is taken, without checkpointing if
    possible at 4,096 tokens or more.
    """
    train = recipe.train
    device = next(model.parameters()).device
    wanted = train.token_budget
    if device.type == "cpu":
        budget = max(CPU_BUDGET if wanted == "auto" else wanted, longest)
        return predict(model, recipe, budget, train.checkpointing is True)
    free = 0.9 * torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)
    budgets = [wanted] if wanted != "auto" else list(GPU_BUDGETS)
    budgets = sorted({max(budget, longest) for budget in budgets}, reverse=True)
    options = [train.checkpointing] if train.checkpointing != "auto" else [False, True]
    plans = [predict(model, recipe, budget, option) for option in options for budget in budgets]
    fitting = [plan for plan in plans if plan.total <= free] or plans[-1:]
    roomy = [plan for plan in fitting if plan.budget >= 4096 or not plan.checkpointing]
    large_enough = [plan for plan in roomy if plan.budget >= 4096]
    return (large_enough or fitting)[0]


def predict(model: torch.nn.Module, recipe: Recipe, budget: int, checkpointing: bool) -> MemoryPlan:
    """Bytes by part for micro-batches of ``budget`` tokens."""
    lm = causal_lm(model)
    config = lm.config.get_text_config()
    hidden = config.hidden_size
    layers = config.num_hidden_layers
    wide = getattr(config, "intermediate_size", None) or 4 * hidden
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or hidden // heads
    query, keys = heads * head_size, 2 * key_heads * head_size
    element = torch.finfo(lm.dtype).bits // 8
    per_layer = element * (6 * hidden + query + keys + 2 * query + 4 * wide)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if checkpointing:
        activations = budget * (element * hidden * layers + per_layer)
    else:
        activations = budget * per_layer * layers
    state = 2 if recipe.train.optimizer == "adamw_8bit" else 8
    return MemoryPlan(
        weights=sum(p.nbytes for p in model.parameters() if not p.requires_grad),
        adapter_and_optimizer=trained * (4 + 4 + state),
        activations=activations,
        head=min(CHUNK_ELEMENTS, budget * config.vocab_size) * 6 + budget * hidden * element,
        workspace=3 * element * wide * budget + 4 * element * hidden * wide,
        budget=budget,
        checkpointing=checkpointing,
    )


def peak_memory(device: torch.device) -> int:
    """Measured peak in bytes: of the allocator on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
