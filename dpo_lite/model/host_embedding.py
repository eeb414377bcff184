"""Keep embeddings in the host's memory: a gather of a few rows per update, not a product.

An 8B base with 128,000 entries frees 1 GiB of the card; the second embedding of Gemma 4's small
models, which every layer takes a part of, 4 GiB and more. Where the head shares the matrix (tied
embeddings) the card needs it all the same, and nothing would be gained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dpo_lite.errors import UserError
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.sharding import is_divided


class HostEmbedding(torch.nn.Module):
    """The embedding it replaces, its weight on the host, its output on the card.

    The weight is no parameter: whoever moves the model to a device leaves it where it is, and the
    model's device is still the card. ``original`` goes back in place with ``return_embedding``.
    """

    def __init__(self, original: torch.nn.Embedding):
        super().__init__()
        self.held = (original, original.weight.detach().to("cpu"))  # in a tuple: not registered
        self.device = original.weight.device
        original.weight.data = original.weight.data.new_empty(0)  # gives the card's memory back

    @property
    def weight(self) -> torch.Tensor:
        return self.held[1]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        original, weight = self.held
        rows = F.embedding(ids.to("cpu"), weight, original.padding_idx).to(self.device)
        scale = getattr(original, "embed_scale", None)  # Gemma's
        return rows if scale is None else rows * scale.to(rows)


def parkable(lm: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Embeddings of tokens whose moving frees memory, by their names in the text model.

    They are plain lookups, scaled at most, of a matrix that is not the head's too.
    """
    found: dict[str, torch.nn.Module] = {}
    if is_divided(lm):  # each card holds a part of them
        return found
    head = lm.get_output_embeddings().weight
    for name, module in decoder_of(lm).named_children():
        if isinstance(module, HostEmbedding):
            found[name] = module
        elif isinstance(module, torch.nn.Embedding) and module.weight is not head:
            plain = type(module) is torch.nn.Embedding or hasattr(module, "embed_scale")
            if plain and module.num_embeddings > len(head) / 2:  # not one of positions
                found[name] = module
    return found


def parkable_numbers(lm: torch.nn.Module) -> int:
    """Numbers of weights in those embeddings."""
    return sum(module.weight.numel() for module in parkable(lm).values())


def park_embedding(lm: torch.nn.Module) -> None:
    """Move the embeddings of a transformers model to the host."""
    found = parkable(lm)
    if not found:
        raise UserError(
            "model.embeddings: cpu gains nothing with this base, whose embedding is also its head "
            "or is no plain lookup; leave the key away."
        )
    for name, module in found.items():
        if not isinstance(module, HostEmbedding):
            some = torch.arange(min(8, len(module.weight)), device=module.weight.device)
            expected = module(some)
            parked = HostEmbedding(module)
            setattr(decoder_of(lm), name, parked)
            if not torch.equal(parked(some), expected):
                return_embedding(lm)
                raise UserError(
                    f"model.embeddings: {name} of this base does more than look up rows, so it "
                    "cannot wait in the host's memory; set model.embeddings=gpu."
                )


def return_embedding(lm: torch.nn.Module) -> None:
    """Undo ``park_embedding``."""
    for name, module in decoder_of(lm).named_children():
        if isinstance(module, HostEmbedding):
            original, weight = module.held
            original.weight.data = weight.to(module.device)
            setattr(decoder_of(lm), name, original)
