"""LoRA+: B moves faster than A, by the ratio that the recipe names."""

import torch

from dpo_lite.training.parameter_groups import groups


def test_groups_by_name():
    named = {
        "q.lora_A.default.weight": torch.nn.Parameter(torch.ones(1)),
        "q.lora_B.default.weight": torch.nn.Parameter(torch.ones(2)),
        "e.lora_embedding_A.default": torch.nn.Parameter(torch.ones(3)),
        "e.lora_embedding_B.default": torch.nn.Parameter(torch.ones(4)),
        "q.lora_magnitude_vector.default.weight": torch.nn.Parameter(torch.ones(5)),
    }
    (one,) = groups(named.items(), 1e-3, 1)
    assert [len(p) for p in one["params"]] == [1, 2, 3, 4, 5]
    slow, fast = groups(named.items(), 1e-3, 16)
    assert [len(p) for p in slow["params"]] == [1, 4, 5]
    assert [len(p) for p in fast["params"]] == [2, 3]
    assert (slow["lr"], fast["lr"]) == (1e-3, 16e-3)
