"""LoRA on the experts of a mixture, as PEFT names and shapes it, multiplied as dpo_lite does.

PEFT adds B·A to the whole tensor of experts at every forward pass, which a packed tensor does not
allow and whose sum autograd would keep. Here the module of the experts is handed the factors.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import layer

from dpo_lite.errors import UserError
from dpo_lite.model.experts import Factors, shape_of

BASE = "__base__"  # PEFT's name for a row without an adapter


class ParamWrapper(layer.ParamWrapper):
    """One adapted weight of a module of experts. PEFT tells its wrappers by this class' name."""

    def _get_in_out_features(self, module: torch.nn.Module) -> tuple[int, int]:
        self.num_experts, first, second = shape_of(self.get_param())
        self._param_ndim = 3
        return first, second

    def forward(self, x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        names = options.pop("adapter_names", None)
        active = self._active(names)
        if active is None:
            return self.base_layer(x, *arguments, **options)
        held = self.get_base_layer().__dict__.setdefault("adapter_factors", {})
        held[self.parameter_name] = self.factors(active)
        try:
            return self.base_layer(x, *arguments, **options)
        finally:
            del held[self.parameter_name]

    def _active(self, names: list[str] | None) -> str | None:
        """The one adapter that is worn here; tokens of several cannot be told apart any more."""
        worn = set(names) if names is not None else set(self.active_adapters)
        if names is None and self.disable_adapters:
            return None
        worn = {name for name in worn if name != BASE and name in self.lora_A}
        if len(worn) > 1 or (worn and names is not None and len(set(names)) > 1):
            raise ValueError("experts wear one adapter at a time")
        return next(iter(worn), None)

    def factors(self, name: str) -> Factors:
        """An adapter's share of each expert; PEFT lays ranks and experts out in two dimensions."""
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return Factors(
            down.view(self.num_experts, -1, down.shape[1]),
            up.view(up.shape[0], -1, self.num_experts).permute(2, 0, 1).contiguous(),
            self.scaling[name],
        )

    def merge(self, *arguments: Any, **options: Any) -> None:
        raise UserError("Experts in memory are not merged; `dpo-lite merge` merges files.")
