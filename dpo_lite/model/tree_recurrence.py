"""A recurrence over a forest: all prompts, then all responses from the state their prompt left.

The architecture's own function is called once per group of sequences (dpo_lite.model.tree_places),
with a final state out and an initial state in. Autograd goes through the state, so what a prompt's
tokens wrote into it gets the gradient of every response. Two families:

    delta rule   Gated DeltaNet (arXiv:2412.06464) of Qwen3-Next, Qwen3.5 and OLMo-Hybrid, and Kimi
                 Delta Attention (arXiv:2510.26692): state (rows, heads, D_k, D_v)
    scan         Mamba 2 (arXiv:2405.21060) of Granite 4 H, Nemotron-H, Falcon-H1, Bamba and Zamba2:
                 state (rows, heads, D, N)

Both are computed in chunks whose size is free; a group of short sequences takes a shorter one.

On an NVIDIA card flash-linear-attention's kernels take sequences of any lengths in one row
(``cu_seqlens``), so that the delta rule needs two calls in all and no padding. Whether they do here
what the padded way does is tried on random numbers first; the code has met a stand-in for these
kernels, never a card. mamba-ssm's scan takes one initial state per row of a batch, not per sequence
of a row, so it goes the padded way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch

from dpo_lite.data.packing import Tree
from dpo_lite.errors import memory_ran_out
from dpo_lite.model.branches import HALF
from dpo_lite.model.tree_places import Places, places, sequences

DELTA_CHUNK = 64  # tokens, of the functions below where they are told no other


def delta_rule(original: Callable, where: Places, query, key, value, g, beta, **options):
    """The delta rule over a row: query (1, T, heads, D_k), value (1, T, heads, D_v), gates as in
    the architecture. Returns (1, T, heads, D_v) and no state, as ``original`` does without a cache.
    """
    options |= {"output_final_state": True, "cu_seqlens": None}

    def call(inputs, state, chunk):
        q, k, v, decay, rate = inputs
        mine = options | {"initial_state": state, "chunk_size": min(chunk, DELTA_CHUNK)}
        return original(q, k, v, g=decay, beta=rate, **mine)

    return _two_goes(call, where, (query, key, value, g, beta)), None


def scan(original: Callable, where: Places, x, dt, a, b, c, chunk_size: int, **options):
    """Mamba 2's scan over a row: x (1, T, heads, D), dt (1, T, heads), a (heads,), b and c
    (1, T, groups, N). Returns (1, T, heads, D)."""
    options |= {"return_final_states": True, "seq_idx": None}

    def call(inputs, state, chunk):
        u, step, into, out_of = inputs
        size = min(chunk, chunk_size)
        return original(u, step, a, into, out_of, size, **options | {"initial_states": state})

    return _two_goes(call, where, (x, dt, b, c))


def _two_goes(call: Callable, where: Places, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    outputs, states = [], []
    for group in where.prompts:
        output, state = call([group.spread(x) for x in inputs], None, group.chunk)
        outputs.append(group.collect(output))
        states.append(state)
    state = torch.cat(states)
    for group in where.responses:
        start = state.index_select(0, group.parents)
        output, _ = call([group.spread(x) for x in inputs], start, group.chunk)
        outputs.append(group.collect(output))
    return where.joined(outputs)


class Unpadded:
    """Both goes as rows without padding, for kernels that take the places where sequences begin."""

    def __init__(self, trees: Sequence[Tree], device: torch.device):
        prompts, responses, owners = sequences(trees)

        def tensor(values, dtype=torch.long):
            return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)

        def starts(parts):
            ends = [0]
            for part in parts:
                ends.append(ends[-1] + len(part))
            return tensor(ends, torch.int32)

        self.tokens = [
            tensor([p for part in parts for p in part]) for parts in (prompts, responses)
        ]
        self.starts = [starts(prompts), starts(responses)]
        self.owners = tensor(owners)
        order = torch.cat(self.tokens)
        self.back = torch.empty_like(order).index_copy(
            0, order, torch.arange(len(order), device=device)
        )


def delta_rule_unpadded(original: Callable, where: Unpadded, query, key, value, g, beta, **options):
    """As ``delta_rule``, in two calls of a kernel that takes ``cu_seqlens``."""
    options |= {"output_final_state": True}
    outputs = []
    state: torch.Tensor | None = None
    for tokens, starts in zip(where.tokens, where.starts, strict=True):
        q, k, v, decay, rate = (x.index_select(1, tokens) for x in (query, key, value, g, beta))
        begin = None if state is None else state.index_select(0, where.owners)
        mine = options | {"initial_state": begin, "cu_seqlens": starts}
        output, state = original(q, k, v, g=decay, beta=rate, **mine)
        outputs.append(output[0])
    return torch.cat(outputs).index_select(0, where.back)[None], None


def may_go_unpadded(original: Callable, query, value, g, beta, **options) -> bool:
    """Whether ``original`` takes sequences of any length in a row on this machine, and does it
    right. PyTorch's own functions refuse, so on a CPU nothing is tried."""
    if query.device.type != "cuda":
        return False
    normed = bool(options.get("use_qk_l2norm_in_kernel"))
    sizes = (query.shape[2:], value.shape[2:], g.shape[2:])
    return _agrees_here(original, query.device, query.dtype, g.dtype, beta.dtype, sizes, normed)


@lru_cache
def _agrees_here(original, device, dtype, decay_dtype, rate_dtype, sizes, normed) -> bool:
    # Whoever asks may be inside autocast, no_grad or a checkpoint; the trial is not.
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        return unpadded_agrees(original, device, dtype, decay_dtype, rate_dtype, sizes, normed)


def unpadded_agrees(
    original: Callable,
    device: torch.device,
    dtype: torch.dtype,
    decay_dtype: torch.dtype,
    rate_dtype: torch.dtype,
    sizes: tuple,
    normed: bool,
) -> bool:
    """Try both ways on random numbers: outputs and gradients must be alike but for rounding."""
    trees = [Tree(0, 9, (5, 70)), Tree(84, 66, (4, 2))]
    draw = torch.Generator().manual_seed(0)
    length = trees[-1].stop
    qk, v, gates = sizes

    def drawn(shape):
        return torch.randn((1, length, *shape), generator=draw)

    values = [drawn(qk), drawn(qk), drawn(v), -drawn(gates).abs(), drawn(v[:1]).sigmoid()]
    kinds = [dtype, dtype, dtype, decay_dtype, rate_dtype]
    upstream = drawn(v).to(device)
    results = []
    try:
        for run in (
            partial(delta_rule, original, places(trees, device)),
            partial(delta_rule_unpadded, original, Unpadded(trees, device)),
        ):
            inputs = [
                x.to(device, kind).requires_grad_() for x, kind in zip(values, kinds, strict=True)
            ]
            q, k, u, g, beta = inputs
            output, _ = run(q, k, u, g=g, beta=beta, use_qk_l2norm_in_kernel=normed)
            gradients = torch.autograd.grad((output.float() * upstream).sum(), inputs)
            results.append([output, *gradients])
    except (RuntimeError, TypeError, ValueError, AssertionError, ImportError) as error:
        if memory_ran_out(error):  # which says nothing of the kernels
            raise
        return False
    # Kernels multiply in bf16 or TF32; another order or a lost state would show a hundredfold.
    limit = 0.03 if dtype in HALF else 0.01
    return all(
        bool((a.float() - b.float()).norm() < limit * b.float().norm())
        for a, b in zip(*results, strict=True)
    )
