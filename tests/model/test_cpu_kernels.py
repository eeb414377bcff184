"""Weights in 4 bits are unpacked rightly on a CPU, whatever the length of their rows."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from dpo_lite.model.cpu_kernels import unpack_rightly

SHAPES = [(6, 96), (5, 32), (64, 160), (3, 66), (4, 33), (2, 3, 96), (1, 48), (64, 64), (7, 128)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_that_are_no_whole_blocks_keep_their_scales(shape, dtype):
    unpack_rightly()
    packed, state = quantize_4bit(torch.randn(shape).to(dtype), blocksize=64, quant_type="nf4")
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten().long()
    codes = codes[: state.shape.numel()]  # an odd number of weights ends with half a byte
    scales = state.absmax.repeat_interleave(64)[: len(codes)]
    true = (state.code[codes] * scales).to(dtype).reshape(shape)
    assert torch.equal(dequantize_4bit(packed, state), true)
