"""Experts that a checkpoint brings in MXFP4 (gpt-oss) stay in it, to the bit.

transformers multiplies them by kernels that have no gradient, or unpacks them to 16 bits. Here the
bytes of the files are kept and unpacked as bitsandbytes' are, some experts at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.integrations.mxfp4 import Mxfp4Dequantize, convert_moe_packed_tensors
from transformers.quantizers.quantizer_mxfp4 import Mxfp4HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name

LOADER = "mxfp4"  # transformers' name for what is replaced


@dataclass
class State:
    """Beside the bytes of a weight: what ``quant_state`` is to bitsandbytes."""

    absmax: torch.Tensor  # (E, out, in / 32) exponents of the blocks' scales
    shape: torch.Size  # (E, in, out)
    dtype: torch.dtype
    offset: None = None
    state2: None = None


def unpacked(blocks: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(E, out, in / 32, 16) bytes of two numbers each -> (E, in, out)."""
    return convert_moe_packed_tensors(blocks, scales, dtype=dtype)


class Loader(Mxfp4HfQuantizer):
    """transformers' loader, which here neither looks for kernels nor unpacks."""

    def validate_environment(self, *arguments, **options) -> None:
        self.quantization_config.dequantize = True  # the model's own experts, not the kernels'

    def param_needs_quantization(self, model, param_name: str, **options) -> bool:
        module, name = get_module_from_name(model, param_name)
        return hasattr(module, "_is_expert_parallel") and name in ("gate_up_proj", "down_proj")

    def get_load_operations(self):
        return {"deserialize": _Keep, "dequantize": _Keep}


class _Keep(Mxfp4Dequantize):
    def convert(self, input_dict, model=None, full_layer_name=None, **options):
        blocks, scales = (
            next(v[0] if isinstance(v, list) else v for k, v in input_dict.items() if part in k)
            for part in ("_blocks", "_scales")
        )
        expected = model.get_parameter_or_buffer(full_layer_name)
        parameter = torch.nn.Parameter(blocks, requires_grad=False)
        parameter.quant_state = State(scales, expected.shape, expected.dtype)
        return {full_layer_name: parameter}
