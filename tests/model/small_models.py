"""The architectures that recipes use, and some that must fall back, built small."""

import random

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from dpo_lite.model.base import disable_dropout

VOCAB = 97
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# A window of 5 is far shorter than the examples, so a wrong window shows at once.
MIXED_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
FOREST = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 5, "layer_types": MIXED_LAYERS},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 5},
    "gemma2": {"head_dim": 16, "sliding_window": 5, "layer_types": MIXED_LAYERS},
    "gemma3_text": {"head_dim": 16, "sliding_window": 5, "layer_types": MIXED_LAYERS},
    "phi3": {"sliding_window": 5},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
}
RECURRENT = {
    "qwen3_next": {
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "falcon_h1": {
        "head_dim": 16,
        "mamba_d_ssm": 64,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 16,
        "mamba_chunk_size": 16,
    },
    "mamba": {"state_size": 8, "num_hidden_layers": 2},
    "jamba": {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "bloom": {"n_layer": 2, "n_head": 4},  # ALiBi positions
}


def small_model(kind: str, **changes) -> torch.nn.Module:
    """A randomly initialised fp32 model of the architecture, weights large enough to matter."""
    options = SIZES | (FOREST | RECURRENT)[kind] | changes
    config = CONFIG_MAPPING[kind](**options)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    disable_dropout(model)
    model.requires_grad_(False)
    return model.train()


def random_examples(number: int, responses: int, seed: int = 0) -> list[dict]:
    """Examples of uneven lengths, some prompts a single token long."""
    draw = random.Random(seed)

    def ids(low, high):
        return [draw.randrange(3, VOCAB) for _ in range(draw.randint(low, high))]

    return [
        {
            "prompt_ids": ids(1, 14),
            "response_ids": [ids(1, 12) for _ in range(responses)],
        }
        for _ in range(number)
    ]
