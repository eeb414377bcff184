"""A loss scale for fp16: no gradient vanishes, and one that overflows is seen.

fp16 has five bits of exponent: below 6e-8 there is nothing, above 65,504 infinity. So the loss is
multiplied by a power of two before the backward pass, and the gradients of the fp32 masters are
divided by it behind: which is exact, for it moves their exponents alone. A gradient that is not
finite is thrown away with its update, and the scale halved; after ``GROWTH`` updates without one it
is doubled. Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; torch.amp.GradScaler does the
same inside of an optimiser's step, where transformers' Trainer cuts gradients before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch

from dpo_lite.errors import UserError

GROWTH = 200  # updates: a run may have few, so sooner than the 2,000 of torch.amp


@dataclass
class LossScale:
    """The state, all of which a checkpoint keeps."""

    scale: float = 2.0**16
    good: int = 0  # updates since it changed
    skipped: int = 0  # updates of the run

    @staticmethod
    def of(dtype: torch.dtype) -> LossScale | None:
        """For what is computed in ``dtype``: only fp16 needs one."""
        return LossScale() if dtype == torch.float16 else None

    def settle(self, parameters: Iterable[torch.nn.Parameter]) -> bool:
        """Divide the gradients by the scale; False where they are dropped, as one is not finite.

        Raises UserError where the scale has become 1 and it still overflows.
        """
        parameters = [p for p in parameters if p.grad is not None]
        gradients = [p.grad for p in parameters]
        if all_finite(gradients):
            torch._foreach_div_(gradients, self.scale)
            self.good += 1
            if self.good == GROWTH:
                self.scale, self.good = self.scale * 2, 0
            return True
        for parameter in parameters:
            parameter.grad = None
        if self.scale <= 1:
            raise UserError(
                "The gradients are not finite, however the loss is scaled; lower train.lr."
            )
        self.scale, self.good, self.skipped = self.scale / 2, 0, self.skipped + 1
        return False

    def metrics(self) -> dict[str, float]:
        return {"loss_scale": self.scale, "skipped": self.skipped}

    def state(self) -> dict[str, float]:
        return asdict(self)

    def load(self, state: dict[str, float]) -> None:
        """Go on where ``state()`` was taken."""
        self.scale, self.good, self.skipped = state["scale"], state["good"], state["skipped"]


def all_finite(gradients: list[torch.Tensor]) -> bool:
    """By their lengths, so that the card is asked once. They are fp32, whose squares have room."""
    return not gradients or bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())
