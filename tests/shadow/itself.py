"""What the shadow card sees, and what it would not let pass, as JSON."""

from __future__ import annotations

import json

from tests.shadow.card import Card, at_hand  # before torch

# isort: split
import torch

from dpo_lite.model.offload import Lane, _Parked

found = {}
with at_hand(Card(1)) as card:
    on_card = torch.ones(1024, device="cuda", requires_grad=True)
    found["one tensor"] = card.live
    card.kernels.clear()
    (on_card * 2).sum().backward()
    found["kernels"] = dict(card.kernels)
    found["gradient"] = str(on_card.grad.device)
    found["peak"] = card.peak
    on_card.grad = None
    found["left"] = card.live
    try:
        on_card + torch.ones(1024)
    except AssertionError:
        found["mixed"] = True
    card.waits.clear()
    on_card.detach().sum().item()
    on_card.detach().cpu()
    found["waits"] = sum(card.waits.values())
    there = torch.tensor([2, 3]).to("cuda")
    found["remembered"] = there.tolist()
    card.limit = card.live + 512
    try:
        torch.empty(1024, device="cuda")
    except torch.OutOfMemoryError:
        found["full"] = True
    card.limit = None
    parked = _Parked(torch.empty(4, 8, device="cuda").t(), Lane())
    found["read until copied"] = parked.source.is_contiguous()
    found["cpu"] = torch.ones(2).sum().item()
print(json.dumps(found))
