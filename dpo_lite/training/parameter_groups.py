"""What the optimiser moves how fast: LoRA+ gives B a higher learning rate than A.

A layer's B starts at zero and A does not, so equal steps move what they say together by unequal
amounts, the wider the layer the more (LoRA+, arXiv:2402.12354). The factor of an embedding that
starts at zero is A.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch

FAST = re.compile(r"\.lora_B\.|\.lora_embedding_A\.")


def groups(
    named: Iterable[tuple[str, torch.nn.Parameter]], lr: float, ratio: float
) -> list[dict[str, Any]]:
    """Groups of parameters for an optimiser: those at ``lr``, then those at ``ratio`` · lr."""
    named = list(named)
    slow = [p for name, p in named if ratio == 1 or not FAST.search(name)]
    fast = [p for name, p in named if ratio != 1 and FAST.search(name)]
    found = [{"params": slow, "lr": lr}]
    return [*found, {"params": fast, "lr": ratio * lr}] if fast else found
