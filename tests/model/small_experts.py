"""Mixtures of experts, built small: fused layouts, shared experts, dense first layers."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DENSE_FIRST = {"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "n_shared_experts": 1}
MIXTURES = {
    "mixtral": {},
    "qwen3_moe": {},
    "gpt_oss": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5},
    "granitemoe": {},
    "deepseek_v3": DENSE_FIRST
    | {"q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "num_key_value_heads": 4}
    | {"qk_nope_head_dim": 16, "v_head_dim": 16, "head_dim": 8},
    "glm4_moe": DENSE_FIRST,
    "qwen3_5_moe_text": {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "shared_expert_intermediate_size": 32,
    },
}


def small_mixture(kind: str, **changes) -> torch.nn.Module:
    """A randomly initialised fp32 mixture, weights large enough to matter, routers undecided."""
    config = CONFIG_MAPPING[kind]()
    known = {key: value for key, value in SIZES.items() if hasattr(config, key)}
    config = CONFIG_MAPPING[kind](**known | MIXTURES.get(kind, {}) | changes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
            elif "bias" in name:
                parameter.normal_(std=0.02)
    return model


def save_mixture(kind: str, folder, **changes) -> str:
    small_mixture(kind, **changes).save_pretrained(folder)
    return str(folder)
