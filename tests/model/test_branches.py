"""Both ways to attend over a forest against one mask over the whole row, and the trial of a kernel.

The variable-length flash attention runs on NVIDIA cards only; a stand-in that does what its
documentation says shows that it is called rightly, and wrong stand-ins that the trial finds them.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import varlen

from dpo_lite.data.packing import Tree
from dpo_lite.model.attention import forest_attention
from dpo_lite.model.branches import (
    Sight,
    _fused_agrees_here,
    blocked,
    branches,
    fused,
    fused_agrees,
    table,
    visible,
)
from dpo_lite.model.scoring import lay_out, response_logps
from tests.model.small_models import FOREST, random_examples, small_model
from tests.model.test_architectures import gradients, objective, relative_error, with_lora

TREES = [Tree(0, 6, (3, 4)), Tree(13, 1, (2, 1, 5)), Tree(22, 4, (3,))]
CPU = torch.device("cpu")


def whole_mask(trees, window, chunk=None):
    """Token by token: the own branch and the prompt, no further back than the window or chunk."""
    places = {}
    for number, tree in enumerate(trees):
        start = tree.start
        for branch, length in enumerate((tree.prompt, *tree.responses)):
            for step in range(length):
                places[start + step] = (number, branch, step + (tree.prompt if branch else 0))
            start += length
    mask = torch.zeros(len(places), len(places), dtype=torch.bool)
    for i, (tree, branch, position) in places.items():
        for j, (other, key_branch, key_position) in places.items():
            seen = tree == other and key_branch in (0, branch) and key_position <= position
            near = window is None or position - key_position < window
            alike = chunk is None or position // chunk == key_position // chunk
            mask[i, j] = seen and near and alike
    return mask


def documented(query, key, value, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """varlen_attn as its documentation has it: causal, aligned at the bottom right."""
    groups = query.shape[1] // key.shape[1]
    assert enable_gqa == (groups > 1)
    assert query.shape[-1] == key.shape[-1] == value.shape[-1]
    outputs = []
    for i in range(len(cu_q) - 1):
        q = query[cu_q[i] : cu_q[i + 1]]
        k, v = (x[cu_k[i] : cu_k[i + 1]].repeat_interleave(groups, 1) for x in (key, value))
        assert len(q) <= max_q
        assert len(k) <= max_k
        left, right = window_size
        assert right == 0
        mask = visible(len(q), len(k), Sight(None if left < 0 else left + 1))
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        outputs.append(found.transpose(0, 1))
    return torch.cat(outputs)


def top_left(query, key, value, cu_q, cu_k, *sizes, **options):
    """The other alignment, which some kernels have: queries at the head of their keys."""
    outputs = []
    for i in range(len(cu_q) - 1):
        q, k, v = (
            x[a : a + n].transpose(0, 1)
            for x, a, n in (
                (query, cu_q[i], cu_q[i + 1] - cu_q[i]),
                (key, cu_k[i], cu_q[i + 1] - cu_q[i]),
                (value, cu_k[i], cu_q[i + 1] - cu_q[i]),
            )
        )
        outputs.append(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1))
    return torch.cat(outputs)


def missing(*inputs, **options):
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", documented)


def test_the_branches_by_hand():
    found = [tuple(map(list, branch)) for branch in branches([Tree(2, 2, (1, 2))])]
    assert found == [([2, 3, 4], [2, 3], [4]), ([5, 6], [2, 3], [5, 6])]
    where = table([Tree(0, 2, (1, 2)), Tree(5, 1, (1,))], CPU)
    assert where.query_starts.tolist() == [0, 3, 5, 7]
    assert where.key_starts.tolist() == [0, 3, 7, 9]
    assert where.gather.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6]
    assert (where.most_queries, where.most_keys) == (3, 4)


def test_a_window_counts_positions():
    # Two queries at the end of five keys, each sees three: itself and the two before.
    assert visible(2, 5, Sight(3)).int().tolist() == [[0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]


def test_a_chunk_begins_at_multiples_of_its_size():
    # Positions 3 and 4 at the end of five, in chunks of two: 3 sees 2 and itself, 4 itself alone.
    assert visible(2, 5, Sight(chunk=2)).int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_chunks_count_positions_of_the_own_branch():
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 29, 8, generator=draw) for _ in range(3))
    found = blocked(query, key, value, TREES, 0.3, Sight(chunk=4))
    mask = whole_mask(TREES, None, chunk=4)
    expected = F.scaled_dot_product_attention(query, key, value, mask, scale=0.3)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("size", [8, 4, 12])  # of values, where keys have 8
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("way", ["blocked", "fused"])
def test_branches_equal_one_mask(stand_in, way, window, size):
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 29, 8, generator=draw)
    key, value = (torch.randn(1, 2, 29, each, generator=draw) for each in (8, size))
    if way == "fused":
        found = fused(query, key, value, table(TREES, CPU), 0.3, window)
    else:
        found = blocked(query, key, value, TREES, 0.3, Sight(window))
    mask = whole_mask(TREES, window)
    key, value = (x.repeat_interleave(2, 1) for x in (key, value))
    expected = F.scaled_dot_product_attention(query, key, value, mask, scale=0.3)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)


CAPPED = {"softcap": 1.5}
SINKS = {"sinks": torch.tensor([0.3, -0.2])}


@pytest.mark.parametrize("more", [{}, CAPPED, SINKS], ids=["plain", "capped", "sinks"])
@pytest.mark.parametrize("sight", [Sight(), Sight(window=3), Sight(chunk=4)])
def test_of_long_branches_some_queries_go_at_a_time(monkeypatch, sight, more):
    """No mask is larger than it may be, and outputs and gradients are as before."""
    results, sizes = [], []

    def noted(queries, keys, *others):
        sizes.append(queries * keys)
        return visible(queries, keys, *others)

    monkeypatch.setattr("dpo_lite.model.branches.visible", noted)
    for most in (10**6, 24):
        monkeypatch.setattr("dpo_lite.model.branches.MOST_SCORES", most)
        sizes.clear()
        torch.manual_seed(0)
        inputs = [torch.randn(1, 2, 29, 8, requires_grad=True) for _ in range(3)]
        output = blocked(*inputs, TREES, 0.3, sight, **more)
        upstream = torch.cos(torch.arange(output.numel())).view_as(output)
        results.append([output, *torch.autograd.grad((output * upstream).sum(), inputs)])
    assert max(sizes) <= 24
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(set(FOREST) - {"gemma2"}))  # capped scores are not fused
def test_a_fused_model_has_the_same_gradients(stand_in, kind):
    model = with_lora(small_model(kind))
    rows = lay_out(random_examples(3, 3), "forest")

    def backward(fuse):
        with forest_attention(model, rows, fuse):
            objective(response_logps(model, rows, "forest")).backward()

    expected = gradients(model, [lambda: backward(False)])
    found = gradients(model, [lambda: backward(True)])
    assert relative_error(found, expected) < 1e-4


def test_the_trial_takes_a_right_kernel_and_no_other(monkeypatch):
    for kernel, right in ((documented, True), (top_left, False), (missing, False)):
        monkeypatch.setattr(varlen, "varlen_attn", kernel)
        assert fused_agrees(CPU, torch.float32, 4, 2, 16) is right


def test_a_kernel_that_cannot_be_told_of_fewer_heads_of_keys(monkeypatch):
    """That of torch 2.11, which takes them all the same."""

    def older(query, key, value, *where, return_aux=None, scale=None, window_size=(-1, -1)):
        groups = query.shape[1] != key.shape[1]
        options = {"scale": scale, "window_size": window_size, "enable_gqa": groups}
        return documented(query, key, value, *where, **options)

    monkeypatch.setattr(varlen, "varlen_attn", older)
    assert fused_agrees(CPU, torch.float32, 4, 2, 16)


def test_memory_that_runs_out_in_the_trial_says_nothing_of_the_kernel(monkeypatch):
    def full(*inputs, **options):
        raise RuntimeError("CUDA error: out of memory")

    _fused_agrees_here.cache_clear()
    monkeypatch.setattr(varlen, "varlen_attn", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        _fused_agrees_here(CPU, torch.float32, 4, 2, 16)
    monkeypatch.setattr(varlen, "varlen_attn", documented)
    assert _fused_agrees_here(CPU, torch.float32, 4, 2, 16)


def test_a_wrong_window_is_found(monkeypatch):
    def one_too_far(*inputs, window_size, **options):
        left, right = window_size
        return documented(*inputs, window_size=(left + (left > 0), right), **options)

    monkeypatch.setattr(varlen, "varlen_attn", one_too_far)
    assert not fused_agrees(CPU, torch.float32, 4, 2, 16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("dim", [64, 128])
def test_the_fused_kernel_is_used_on_a_card(dim):
    assert fused_agrees(torch.device("cuda"), torch.bfloat16, 8, 2, dim)
