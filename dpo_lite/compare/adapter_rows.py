"""Rows of one batch that wear different adapters, and which adapters can share a pass so.

A layer of a mixture may see all rows' tokens in a row, which still says whose they are. Behind a
router it does not, so adapters of experts take a pass for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from dpo_lite.model.experts import expert_modules
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.targets import EXPERTS, plain_name


@contextmanager
def adapter_rows(model: PeftModel, names: Sequence[str]) -> Iterator[None]:
    """Inside, row i of every batch wears the adapter ``names[i]``; ``expert_adapter.BASE`` is none.

    PEFT's own hooks give every layer one name per row of the batch. A layer that sees tokens of
    all rows in a row, as shared experts do, needs one per token.
    """

    def name_rows(module, arguments, options):
        seen = len(arguments[0])
        if len(set(names)) == 1:
            return arguments, options | {"adapter_names": [names[0]] * seen}
        if seen % len(names):
            raise ValueError(f"{seen} tokens are not those of {len(names)} rows")
        each = seen // len(names)
        return arguments, options | {"adapter_names": [n for n in names for _ in range(each)]}

    hooks = [
        module.register_forward_pre_hook(name_rows, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, (LoraLayer, AuxiliaryTrainingWrapper))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def together(model: PeftModel, names: Sequence[str]) -> bool:
    """Whether rows may wear these adapters in one pass: none of them lies behind a router."""
    fused = tuple(plain_name(name) for name in expert_modules(causal_lm(model)))
    return len(set(names)) == 1 or not any(
        isinstance(module, LoraLayer)
        and set(names) & {*module.lora_A}
        and (plain_name(path) in fused or f".{EXPERTS}." in path)
        for path, module in causal_lm(model).named_modules()
    )
