"""The architectures that recipes use, and some that must fall back, built small."""

import random

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from dpo_lite.model.chance import disable_dropout

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
GEMMA_3N = {
    "vocab_size_per_layer_input": 97,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "laurel_rank": 8,
    "altup_num_inputs": 2,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "activation_sparsity_pattern": [0.0, 0.0],
    "layer_types": ["sliding_attention", "full_attention"],
    "intermediate_size": [96, 96],
}
FOREST = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 5, "layer_types": MIXED_LAYERS},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 5},
    "gemma2": {"head_dim": 16, "sliding_window": 5, "layer_types": MIXED_LAYERS},
    "gemma3_text": {"head_dim": 16, "sliding_window": 5, "layer_types": MIXED_LAYERS},
    "gemma3n_text": GEMMA_3N | {"sliding_window": 5},
    "phi3": {"sliding_window": 5},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 32},  # the head's input is narrower
    # Chunks of 5, and queries that grow with every fourth position where there is no rotation.
    "llama4_text": {
        "head_dim": 16,
        "intermediate_size_mlp": 96,
        "num_local_experts": 2,
        "moe_layers": [1],
        "no_rope_layers": [1, 0, 1],
        "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
        "attention_chunk_size": 5,
        "floor_scale": 4,
    },
}
# As published, where a config's own defaults are another model: E2B's, and the mixture's.
GEMMA4_SHARED = {
    "num_hidden_layers": 35,
    "num_kv_shared_layers": 20,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
}
GEMMA4_MOE = {
    "enable_moe_block": True,
    "num_experts": 128,
    "top_k_experts": 8,
    "moe_intermediate_size": 704,
    "hidden_size_per_layer_input": 0,
}
# Recurrent layers and short convolutions beside attention, by what carries the state.
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "num_hidden_layers": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
ROUTED = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
LATENT = {
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"],
    "mlp_layer_types": ["dense", "sparse"],
    "linear_num_heads": 2,
    "linear_head_dim": 16,
    "kv_lora_rank": 16,
    "q_lora_rank": None,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "num_experts": 4,
    "num_experts_per_token": 2,
    "num_expert_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
}
MAMBA = {
    "num_hidden_layers": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 16,
}
DELTA_RULE = {
    "qwen3_5_text": LINEAR | {"head_dim": 16},
    "qwen3_5_moe_text": LINEAR | ROUTED | {"head_dim": 16},
    "qwen3_next": LINEAR | ROUTED | {"head_dim": 16},
    "olmo_hybrid": LINEAR | {"linear_num_key_heads": 4},
    "kimi_linear": LATENT,
    "bailing_hybrid": LATENT,
}
STATE_SPACE = {
    "granitemoehybrid": MAMBA
    | {
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 96,
    },
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "falcon_h1": MAMBA | {"head_dim": 16, "mamba_d_ssm": 128},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "full_attention", "mlp"],
        "head_dim": 16,
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "ssm_state_size": 8,
        "n_groups": 2,
        "chunk_size": 16,
    },
    "zamba2": {
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention"],
        "attention_head_dim": 32,
        "n_mamba_heads": 4,
        "mamba_headdim": 32,
        "mamba_d_state": 8,
        "mamba_ngroups": 2,
        "chunk_size": 16,
        "adapter_rank": 4,
    },
    "mamba2": {
        "num_hidden_layers": 2,
        "num_heads": 4,
        "head_dim": 32,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 16,
    },
}
SHORT = {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}
CONVOLUTION = {
    "lfm2": SHORT | {"block_auto_adjust_ff_dim": False, "conv_L_cache": 4},
    "lfm2_moe": SHORT | ROUTED | {"num_dense_layers": 1},
    "lfm3": {
        "num_hidden_layers": 3,
        "layer_types": ["conv", "full_attention", "sliding_attention"],
        "head_dim": 16,
        "sliding_window": 5,
    },
}
HYBRID = DELTA_RULE | STATE_SPACE | CONVOLUTION
RECURRENT = {
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
    "rwkv": {"attention_hidden_size": 64, "rescale_every": 2},
}


def small_model(kind: str, **changes) -> torch.nn.Module:
    """A randomly initialised fp32 model of the architecture, weights large enough to matter."""
    options = SIZES | (FOREST | HYBRID | RECURRENT)[kind] | changes
    if kind == "nemotron_h":  # counts its layers itself
        del options["num_hidden_layers"]
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
