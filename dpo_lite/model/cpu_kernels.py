"""A kernel of bitsandbytes for CPUs that multiplies weights by the scales of others, put right."""

from __future__ import annotations

import math
import warnings
from functools import cache

import torch

OPERATION = "bitsandbytes::dequantize_4bit"


@cache
def unpack_rightly() -> torch.library.Library:
    """Have 4-bit weights unpacked as one long row on a CPU, where their rows are no whole blocks.

    With AVX512 bitsandbytes 0.50 begins a new block with each row. Of a weight whose rows are no
    whole number of blocks (64 weights share a scale) nearly all rows are then scaled wrongly, by a
    factor of up to two or three, and nothing says so. What is returned must live as long as the
    process (kept by the cache): what it registered goes with it.
    """
    import bitsandbytes  # noqa: F401  (registers the kernel)

    theirs = torch.library.get_kernel(OPERATION, "CPU")

    def unpack(keys, weight, scales, block, kind, shape, dtype):
        rows = [1, math.prod(shape)] if shape[-1] % block else shape
        return theirs.call_boxed(keys, weight, scales, block, kind, rows, dtype).reshape(shape)

    library = torch.library.Library("bitsandbytes", "IMPL")
    with warnings.catch_warnings():  # that a kernel takes another one's place is what is wanted
        warnings.simplefilter("ignore")
        library.impl(OPERATION, unpack, "CPU", with_keyset=True, allow_override=True)
    return library
