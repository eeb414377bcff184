"""The kernels' mathematics, by Triton's interpreter on a CPU, against PyTorch's own operations.

Triton comes with PyTorch's builds for NVIDIA cards; with those for CPUs it must be installed
(``pip install triton``), and without it this is left out. On a card every process tries them first
(dpo_lite.model.fused_ops), which ``test_the_kernels_on_a_card`` does too.
"""

import os

import pytest
import torch

from dpo_lite.model import fused_ops
from dpo_lite.model.fused_ops import Norm, activated, gated_gradient, norm_gradient, norm_values


@pytest.fixture(scope="module")
def kernels():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
    pytest.importorskip("triton")
    from dpo_lite.model import fused_kernels

    yield fused_kernels
    del os.environ["TRITON_INTERPRET"]


def random(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def near(output, expected):
    assert output.dtype == expected.dtype
    assert output.shape == expected.shape
    rounding = 1e-5 if expected.dtype == torch.float32 else 1e-2
    difference = (output.float() - expected.float()).norm() / expected.float().norm()
    assert difference < rounding, float(difference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    "how", [Norm(1e-5, 0.0, False), Norm(1e-5, 0.0, True), Norm(1e-5, 1.0, True)]
)
def test_a_norm(kernels, how, dtype):
    """Columns that are no power of two; rows so small that eps counts."""
    x, upstream = (random(seed, 2, 3, 40, dtype=dtype) for seed in (0, 1))
    weight = random(2, 40, dtype=dtype)
    x[0] *= 3e-3
    expected, scale = norm_values(x, weight, how)
    output, own_scale = kernels.norm(x, weight, *how)
    near(output, expected)
    near(own_scale, scale)
    back = kernels.norm_back(upstream, x, weight, scale, how.offset)
    near(back, norm_gradient(upstream, x, weight, scale, how.offset))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", fused_ops.GATES)
def test_a_gate(kernels, kind, dtype):
    """More numbers than one program takes, and a last program that is not full."""
    gate, up, upstream = (4 * random(seed, 3, 700, dtype=dtype) for seed in range(3))
    near(kernels.gated(gate, up, kind), activated(gate, kind) * up)
    outputs = kernels.gated_back(upstream, gate, up, kind)
    for output, expected in zip(outputs, gated_gradient(upstream, gate, up, kind), strict=True):
        near(output, expected)


@pytest.mark.parametrize("kind", fused_ops.GATES)
def test_a_gate_of_two_halves(kernels, kind):
    """Of what one layer made, which is not copied."""
    gate, up = random(0, 2, 3, 2 * 1100).chunk(2, dim=-1)
    upstream = random(1, 2, 3, 1100)
    assert kernels._rows(gate).data_ptr() == gate.data_ptr()
    near(kernels.gated(gate, up, kind), activated(gate, kind) * up)
    outputs = kernels.gated_back(upstream, gate, up, kind)
    for output, expected in zip(outputs, gated_gradient(upstream, gate, up, kind), strict=True):
        near(output, expected)
        assert output.is_contiguous()


@pytest.mark.parametrize("back", [False, True])
def test_a_rotation(kernels, back):
    """Two rows, three heads that lie side by side for each token, one table of angles for each."""
    x = random(0, 2, 5, 3, 12).transpose(1, 2)
    cos, sin = random(1, 2, 5, 12), random(2, 2, 5, 12)
    near(kernels.rotated(x, cos, sin, back), fused_ops.rotated(x, cos, sin, back))
    one = kernels.rotated(x, cos[:1], sin[:1], back)
    near(one, fused_ops.rotated(x, cos[:1], sin[:1], back))
    assert one.stride() == x.stride()


def test_a_rotation_beyond_two_billion_numbers(kernels):
    """Heads 2^30 numbers apart; no more of that memory is touched than is turned."""
    x = torch.empty(2**31 + 8, dtype=torch.float16).as_strided((1, 3, 1, 8), (1, 2**30, 8, 1))
    x.copy_(random(0, 1, 3, 1, 8))
    cos, sin = (random(seed, 1, 1, 8, dtype=torch.float16) for seed in (1, 2))
    near(kernels.rotated(x, cos, sin, False), fused_ops.rotated(x, cos, sin))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_kernels_on_a_card(dtype):
    assert fused_ops.has_triton()
    for output, expected in fused_ops.trials(torch.device("cuda", 0), dtype):
        near(output, expected)
