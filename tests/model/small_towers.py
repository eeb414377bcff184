"""Checkpoints that also see (or hear), built small, as they are published."""

from copy import deepcopy

import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

TEXT = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "sliding_window": 5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "image_size": 32,
    "patch_size": 16,
    "depth": 2,
    "num_heads": 2,
    "out_hidden_size": 64,
    "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [0],
}
IMAGE_IDS = {
    "image_token_id": 90,
    "video_token_id": 91,
    "audio_token_id": 92,
    "image_token_index": 90,
    "vision_start_token_id": 93,
    "vision_end_token_id": 94,
}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
HALF_TURNED = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.5,
        "mrope_section": [1, 1, 2],
    }
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
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
DENSE_FIRST = {
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
# Changes of the text's config, of the tower's, and of what holds both.
TOWERS = {
    "qwen3_5": (LINEAR | MROPE, {}, {}),
    "qwen3_5_moe": (LINEAR | ROUTED | MROPE, {}, {}),
    "gemma3": (MIXED, {"vision_use_head": False}, {"mm_tokens_per_image": 4}),
    "gemma4": (
        {
            "layer_types": MIXED["layer_types"] * 2,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 97,
            "global_head_dim": 16,
        },
        {},
        {"audio_config": None},
    ),
    "mistral3": ({}, {}, {"spatial_merge_size": 1}),
    "qwen2_5_vl": (MROPE, {}, {}),
    "qwen3_vl": (MROPE, {}, {}),
    "glm4v": (MROPE, {"out_hidden_size": 64}, {}),
    "qwen3_vl_moe": (ROUTED | MROPE | {"sliding_window": None}, {}, {}),
    "glm4v_moe": (DENSE_FIRST | HALF_TURNED, {}, {}),
    "internvl": ({}, {"image_size": [32, 32], "patch_size": [16, 16]}, {}),
    "lfm2_vl": ({"layer_types": ["conv", "full_attention"]}, {}, {}),
    "llama4": (
        {
            "intermediate_size_mlp": 96,
            "num_local_experts": 2,
            "interleave_moe_layer_step": 2,
            "moe_layers": [1],
            "no_rope_layers": [1, 0],
            "layer_types": ["chunked_attention", "full_attention"],
            "attention_chunk_size": 64,
        },
        {
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "pixel_shuffle_ratio": 0.5,
        },
        {},
    ),
}
TEXT_KIND = {"mistral3": "ministral3", "internvl": "qwen2", "lfm2_vl": "lfm2"}


def small_config(kind: str):
    text, vision, whole = deepcopy(TOWERS[kind])  # configs write into their dicts
    both = CONFIG_MAPPING[kind]
    plain = both()
    inner = type(plain.text_config) if kind not in TEXT_KIND else CONFIG_MAPPING[TEXT_KIND[kind]]
    seen = type(plain.vision_config) if plain.vision_config else both.sub_configs["vision_config"]
    known, tower, ids = (
        {key: value for key, value in values.items() if key in config.to_dict()}
        for values, config in ((TEXT, inner()), (VISION, seen()), (IMAGE_IDS, plain))
    )
    return both(
        text_config=inner(**known | text).to_dict(),
        vision_config=seen(**tower | vision).to_dict(),
        **ids | whole,
    )


def small_tower(kind: str) -> torch.nn.Module:
    """The published class with random weights, large enough to matter."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(small_config(kind)).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
            elif "bias" in name:
                parameter.normal_(std=0.02)
    return model.eval().requires_grad_(False)
