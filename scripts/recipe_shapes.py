"""The shapes of the bases that shipped recipes name: estimates need no network and no weights.

As in the bases' config.json, under transformers' names for the keys; where a shape was read is said
above it. Of a base that also sees or hears it is the text model, the part that is trained on text.
"""

from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

Shape = dict[str, Any]


def shape(
    kind: str,
    layers: int,
    hidden: int,
    inner: int,
    heads: int,
    shared: int,
    vocabulary: int,
    tied: bool,
    **more: Any,
) -> Shape:
    """Layers, hidden and feed-forward size, query and key-value heads, vocabulary, whether the head
    is the input embedding; then what this kind alone has."""
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "head_dim": hidden // heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        **more,
    }


def full_every(each: int, layers: int, other: str) -> list[str]:
    """Every so many layers full attention, the ``other`` kind between."""
    return [other if place % each else "full_attention" for place in range(1, layers + 1)]


def delta_heads(values: int) -> Shape:
    """Qwen3.5's layers: wide heads of attention in every fourth, gated delta rules between. The
    layer that predicts further tokens is not part of transformers' model."""
    return {
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": values,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    }


# LFM2's places of attention among 16 layers, the others are short convolutions.
LFM2_ATTENTION = [2, 5, 8, 10, 12, 14]

SHAPES: dict[str, Shape] = {
    "Qwen/Qwen2.5-0.5B-Instruct": shape("qwen2", 24, 896, 4864, 14, 2, 151936, True),
    "meta-llama/Llama-3.2-1B-Instruct": shape("llama", 16, 2048, 8192, 32, 8, 128256, True),
    "meta-llama/Llama-3.1-8B-Instruct": shape("llama", 32, 4096, 14336, 32, 8, 128256, False),
    "mistralai/Mistral-7B-v0.1": shape("mistral", 32, 4096, 14336, 32, 8, 32000, False),
    "Qwen/Qwen3-1.7B": shape("qwen3", 28, 2048, 6144, 16, 8, 151936, True, head_dim=128),
    "Qwen/Qwen3-4B": shape("qwen3", 36, 2560, 9728, 32, 8, 151936, True, head_dim=128),
    "Qwen/Qwen3-14B": shape("qwen3", 40, 5120, 17408, 40, 8, 151936, False, head_dim=128),
    "HuggingFaceTB/SmolLM3-3B": shape("smollm3", 36, 2048, 11008, 16, 4, 128256, True),
    # LitGPT, litgpt/config.py
    "HuggingFaceTB/SmolLM2-135M-Instruct": shape("llama", 30, 576, 1536, 9, 3, 49152, True),
    "HuggingFaceTB/SmolLM2-360M-Instruct": shape("llama", 32, 960, 2560, 15, 5, 49152, True),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": shape(
        "qwen3_moe",
        *(48, 2048, 6144, 32, 4, 151936, False),
        head_dim=128,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
    ),
    # slime, scripts/models/qwen3.5-*.sh; 2B: copies of its config.json, and the sum of its parts
    "Qwen/Qwen3.5-0.8B": shape(
        "qwen3_5_text", 24, 1024, 3584, 8, 2, 248320, True, **delta_heads(16)
    ),
    "Qwen/Qwen3.5-2B": shape("qwen3_5_text", 24, 2048, 6144, 8, 2, 248320, True, **delta_heads(16)),
    "Qwen/Qwen3.5-4B": shape(
        "qwen3_5_text", 32, 2560, 9216, 16, 4, 248320, True, **delta_heads(32)
    ),
    "Qwen/Qwen3.5-9B": shape(
        "qwen3_5_text", 32, 4096, 12288, 16, 4, 248320, False, **delta_heads(32)
    ),
    # google-deepmind/gemma, gm/nn/gemma4/_gemma4.py; 12B: copies of its config.json
    "google/gemma-4-E4B-it": shape(
        "gemma4_text",
        *(42, 2560, 10240, 8, 2, 262144, True),
        head_dim=256,
        global_head_dim=512,
        layer_types=full_every(6, 42, "sliding_attention"),
        sliding_window=512,
        num_kv_shared_layers=18,
        final_logit_softcapping=30.0,
    ),
    "google/gemma-4-12B-it": shape(
        "gemma4_unified_text",
        *(48, 3840, 15360, 16, 8, 262144, True),
        head_dim=256,
        global_head_dim=512,
        num_global_key_value_heads=1,
        attention_k_eq_v=True,
        layer_types=full_every(6, 48, "sliding_attention"),
        sliding_window=1024,
        final_logit_softcapping=30.0,
    ),
    # Megatron-Bridge, docs/models/mistral/ministral3.md; inner sizes: copies of config.json
    "mistralai/Ministral-3-3B-Instruct-2512-BF16": shape(
        "ministral3", 26, 3072, 9216, 32, 8, 131072, True, head_dim=128
    ),
    "mistralai/Ministral-3-8B-Instruct-2512-BF16": shape(
        "ministral3", 34, 4096, 14336, 32, 8, 131072, False
    ),
    # LFM2.5 (as LFM2-1.2B) and Granite: copies of config.json, and the sum of their parts
    "LiquidAI/LFM2.5-1.2B-Instruct": shape(
        "lfm2", 16, 2048, 12288, 32, 8, 65536, True, full_attn_idxs=LFM2_ATTENTION
    ),
    "ibm-granite/granite-4.0-micro": shape(
        "granitemoehybrid",
        *(40, 2560, 8192, 40, 8, 100352, True),
        shared_intermediate_size=8192,
        num_local_experts=0,
        layer_types=["full_attention"] * 40,
        position_embedding_type="rope",
    ),
    # MaxText, configs/models/gpt-oss-20b.yml
    "openai/gpt-oss-20b": shape(
        "gpt_oss",
        *(24, 2880, 2880, 64, 8, 201088, False),
        head_dim=64,
        num_local_experts=32,
        num_experts_per_tok=4,
        quantization_config={"quant_method": "mxfp4"},
    ),
}


def config_of(base: str) -> PreTrainedConfig:
    """The configuration of a base of the table."""
    values = dict(SHAPES[base])
    return CONFIG_MAPPING[values.pop("model_type")](pad_token_id=0, **values)
