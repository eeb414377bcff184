"""An adapter that changes nothing is known from its file."""

import pytest
import torch
from safetensors.torch import save_file

from dpo_lite.model.adds_nothing import adds_nothing

A, B = torch.ones(2, 5), torch.ones(3, 2)
HALF_A, HALF_B = torch.tensor([[0.0], [1.0]]).expand(2, 5), torch.tensor([[1.0, 0.0]]).expand(3, 2)
CASES = {
    "never trained": ({"q.lora_A.weight": A, "q.lora_B.weight": 0 * B}, True),
    "trained": ({"q.lora_A.weight": A, "q.lora_B.weight": B}, False),
    "of every rank one factor is zero": (
        {"q.lora_A.weight": HALF_A, "q.lora_B.weight": HALF_B},
        True,
    ),
    "of one rank none is": ({"q.lora_A.weight": A, "q.lora_B.weight": HALF_B}, False),
    "in 16 bits": (
        {"q.lora_A.weight": A.bfloat16(), "q.lora_B.weight": 1e-3 * B.bfloat16()},
        False,
    ),
    "an embedding, fresh": (
        {"e.lora_embedding_A": 0 * A, "e.lora_embedding_B": B},
        True,
    ),
    "an embedding": ({"e.lora_embedding_A": A, "e.lora_embedding_B": B}, False),
    "one layer of two": (
        {
            f"{n}.lora_{p}.weight": t
            for n, b in (("k", 0 * B), ("q", B))
            for p, t in (("A", A), ("B", b))
        },
        False,
    ),
    "a head that was trained": (
        {"q.lora_A.weight": A, "q.lora_B.weight": 0 * B, "base_model.model.score.weight": A[:1]},
        False,
    ),
    "a head that was not": (
        {"q.lora_A.weight": A, "q.lora_B.weight": 0 * B, "base_model.model.score.weight": 0 * A},
        True,
    ),
}


@pytest.mark.parametrize(("tensors", "nothing"), CASES.values(), ids=CASES)
def test_by_hand(tmp_path, tensors, nothing):
    file = tmp_path / "adapter_model.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, file)
    assert adds_nothing(file) is nothing
