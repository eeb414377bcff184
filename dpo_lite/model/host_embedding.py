"""Keep the input embedding in the host's memory: a gather of a few rows per update, not a product.

An 8B base with 128,000 entries frees 1 GiB of the card. Where the head shares the matrix (tied
embeddings) the card needs it all the same, and nothing would be gained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dpo_lite.errors import UserError


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
        return F.embedding(ids.to("cpu"), weight, original.padding_idx).to(self.device)


def can_park(model: torch.nn.Module) -> bool:
    """Whether moving the embedding frees memory, and is a plain lookup (Gemma's also scales)."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(embedding, HostEmbedding):
        return True
    return type(embedding) is torch.nn.Embedding and head.weight is not embedding.weight


def park_embedding(model: torch.nn.Module) -> None:
    """Move the input embedding of a transformers model to the host."""
    if not can_park(model):
        raise UserError(
            "model.embeddings: cpu gains nothing with this base, whose embedding is also its head "
            "or is no plain lookup; leave the key away."
        )
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, HostEmbedding):
        model.set_input_embeddings(HostEmbedding(embedding))


def return_embedding(model: torch.nn.Module) -> None:
    """Undo ``park_embedding``."""
    parked = model.get_input_embeddings()
    if isinstance(parked, HostEmbedding):
        original, weight = parked.held
        original.weight.data = weight.to(parked.device)
        model.set_input_embeddings(original)
