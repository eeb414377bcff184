"""The architectures of the table: what each is called, who uses it, and how it is built small.

A published checkpoint's config is transformers' default one with some changes (``changes``), in
full size for the plan. The small checkpoint comes from the builders of the tests where they have
one for the architecture, else from cutting the full config down (dpo_lite.model.small_twin).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from dpo_lite.model.small_twin import small_twin
from dpo_lite.model.text_model import published_class, without_towers
from tests.model.small_experts import MIXTURES, small_mixture
from tests.model.small_models import (
    FOREST,
    GEMMA4_MOE,
    GEMMA4_SHARED,
    HYBRID,
    RECURRENT,
    small_model,
)
from tests.model.small_towers import TOWERS, small_tower


class Architecture(NamedTuple):
    """One row: ``kind`` is transformers' model type."""

    kind: str
    models: str  # published ones of this architecture
    changes: Mapping[str, Any] = MappingProxyType({})
    variant: str = ""
    own: Mapping[str, Any] = MappingProxyType({})  # of the small one

    @property
    def name(self) -> str:
        return f"{self.kind} ({self.variant})" if self.variant else self.kind

    def full_config(self) -> PreTrainedConfig:
        return CONFIG_MAPPING[self.kind](**self.changes)

    def small(self) -> PreTrainedModel:
        """The small checkpoint's model, in fp32, with random weights."""
        if not self.variant:
            for kinds, build in BUILDERS:
                if self.kind in kinds:
                    return build(self.kind, **self.own)
        config = self.full_config()
        published = published_class(config)
        torch.manual_seed(0)
        try:
            return small_twin(config, published)
        except ImportError:  # a tower needs a package that is not here
            return small_twin(config, without_towers(published))


BUILDERS = (
    ([*FOREST, *HYBRID, *RECURRENT], small_model),
    (list(MIXTURES), small_mixture),
    (list(TOWERS), small_tower),
)

LONG_ROPE = {
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 48,
        "long_factor": [2.0] * 48,
        "original_max_position_embeddings": 4096,
    },
}
HALF_TURNED = {
    "text_config": {
        "head_dim": 128,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [8, 12, 12],
        },
    }
}
DOTS = {
    "n_shared_experts": 2,
    "n_routed_experts": 128,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
}
INDEXED = {
    "indexer_n_heads": 8,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
}
DROPOUT = {"attention_dropout": 0.1, "residual_dropout": 0.1}

ATTENTION = [
    Architecture("llama", "Llama 3, SmolLM2, Yi"),
    Architecture("mistral", "Mistral 7B"),
    Architecture("ministral", "Ministral 8B (2410)", {"head_dim": 128}),
    Architecture("ministral3", "Ministral 3, its text model"),
    Architecture("qwen2", "Qwen 2, Qwen 2.5"),
    Architecture("qwen3", "Qwen 3"),
    Architecture("gemma", "Gemma 1"),
    Architecture("gemma2", "Gemma 2"),
    Architecture("gemma3_text", "Gemma 3 270M, 1B"),
    Architecture("gemma3n_text", "Gemma 3n, its text model"),
    Architecture("gemma4_text", "Gemma 4 E2B, E4B, their text model", GEMMA4_SHARED),
    Architecture("phi", "Phi 1, 2"),
    Architecture("phi3", "Phi 3, Phi 4 14B"),
    Architecture("phi3", "Phi 4 mini", LONG_ROPE, "long rope"),
    Architecture("smollm3", "SmolLM3"),
    Architecture("olmo2", "OLMo 2"),
    Architecture("olmo3", "OLMo 3"),
    Architecture("granite", "Granite 3", {"attention_multiplier": 0.0078125}),
    Architecture("granite_swa", "Granite with windows"),
    Architecture(
        "granitemoehybrid",
        "Granite 4 micro, 350M",
        {"layer_types": ["attention"] * 32, "num_local_experts": 0, "num_experts_per_tok": 0},
        "attention only",
    ),
    Architecture("glm", "GLM 4 9B"),
    Architecture("glm4", "GLM 4 0414, Z1"),
    Architecture("cohere", "Command R"),
    Architecture("cohere2", "Command R7B, A"),
    Architecture("exaone4", "EXAONE 4"),
    Architecture("ernie4_5", "ERNIE 4.5 0.3B"),
    Architecture("hunyuan_v1_dense", "Hunyuan dense", {"head_dim": 128, "num_key_value_heads": 8}),
    Architecture("seed_oss", "Seed-OSS", DROPOUT),
    Architecture("starcoder2", "StarCoder 2", DROPOUT | {"embedding_dropout": 0.1}),
    Architecture("arcee", "AFM 4.5B"),
    Architecture("helium", "Helium"),
    Architecture("nanochat", "nanochat"),
    Architecture("apertus", "Apertus"),
    Architecture("youtu", "Youtu-LLM"),
    Architecture("hyperclovax", "HyperCLOVA X SEED"),
    Architecture("internlm3", "InternLM 3"),
    Architecture("minicpm3", "MiniCPM 3"),
    Architecture("stablelm", "StableLM 2"),
    Architecture("nemotron", "Minitron", {"head_dim": 192, "num_key_value_heads": 8}),
    Architecture("cwm", "CWM"),
    Architecture("vaultgemma", "VaultGemma 1B"),
    Architecture("olmo", "OLMo 1"),
    Architecture("gpt2", "GPT-2"),
    Architecture("gpt_neox", "Pythia"),
    Architecture("gpt_bigcode", "StarCoder 1"),
    Architecture("opt", "OPT"),
    Architecture("bloom", "BLOOM"),
    Architecture("gptj", "GPT-J"),
    Architecture("mpt", "MPT"),
    Architecture("falcon", "Falcon 7B"),
]
MIXTURES_OF_EXPERTS = [
    Architecture("mixtral", "Mixtral"),
    Architecture("qwen2_moe", "Qwen 1.5 MoE, Qwen 2 57B"),
    Architecture("qwen3_moe", "Qwen 3 30B-A3B"),
    Architecture("gpt_oss", "gpt-oss 20B"),
    Architecture(
        "gemma4_text", "Gemma 4 26B-A4B, its text model", GEMMA4_MOE, "mixture of experts"
    ),
    Architecture("granitemoe", "Granite 3 MoE"),
    Architecture("olmoe", "OLMoE"),
    Architecture("phimoe", "Phi 3.5 MoE"),
    Architecture("deepseek_v2", "DeepSeek V2 Lite", {"num_experts_per_tok": 6}),
    Architecture("deepseek_v3", "DeepSeek V3, R1, Kimi K2, Moonlight"),
    Architecture("glm4_moe", "GLM 4.5 Air"),
    Architecture("glm4_moe_lite", "GLM 4.7 Flash"),
    Architecture("ernie4_5_moe", "ERNIE 4.5 21B-A3B"),
    Architecture(
        "hunyuan_v1_moe",
        "Hunyuan A13B",
        {"head_dim": 128, "num_experts": 16, "moe_topk": [8] * 32, "num_key_value_heads": 8},
    ),
    # transformers counts padding among the positions at which its queries grow (every 8,192).
    Architecture("llama4_text", "Llama 4, its text model", own={"floor_scale": 8192}),
    Architecture("afmoe", "Trinity"),
    Architecture("dots1", "dots.llm1", DOTS),
    Architecture("solar_open", "Solar Open"),
    Architecture("mimo_v2_flash", "MiMo V2 Flash"),
    Architecture("mellum", "Mellum 2"),
    Architecture("minimax_m2", "MiniMax M2"),
    Architecture("laguna", "Laguna XS.2"),
    Architecture("hy_v3", "Hy3"),
    Architecture("exaone_moe", "K-EXAONE 236B-A23B"),
    Architecture("cohere2_moe", "Command A+"),
    Architecture("granitemoe_swa", "Granite Swash 3B-A600M"),
    Architecture("granitemoeshared", "Granite 3 MoE with shared experts"),
    Architecture("flex_olmo", "FlexOlmo"),
    Architecture("jetmoe", "JetMoE 8B"),
    Architecture("deepseek_v32", "DeepSeek V3.2"),
    Architecture("glm_moe_dsa", "GLM 5"),
]
HYBRIDS = [
    Architecture("qwen3_5_text", "Qwen 3.5, its text model"),
    Architecture("qwen3_5_moe_text", "Qwen 3.5 35B-A3B, its text model"),
    Architecture("qwen3_next", "Qwen3-Next 80B"),
    Architecture("olmo_hybrid", "OLMo Hybrid"),
    Architecture("kimi_linear", "Kimi Linear"),
    Architecture("bailing_hybrid", "Ling, Ring 2.5"),
    Architecture("granitemoehybrid", "Granite 4 H"),
    Architecture(
        "granitemoehybrid",
        "Granite 4 H tiny, small",
        {"layer_types": (["mamba"] * 7 + ["attention"]) * 4},
        "mixture of experts",
    ),
    Architecture("bamba", "Bamba"),
    Architecture("falcon_h1", "Falcon-H1"),
    Architecture("nemotron_h", "Nemotron-H, Nemotron 3 Nano"),
    Architecture("zamba2", "Zamba2"),
    Architecture("mamba2", "Mamba 2, Codestral Mamba"),
    Architecture("lfm2", "LFM2 350M to 2.6B"),
    Architecture("lfm2_moe", "LFM2 8B-A1B", {"layer_types": ["conv", "full_attention"] * 16}),
    Architecture("lfm3", "LFM3"),
    Architecture("qwen4_exp_text", "Qwen4-exp, its text model", INDEXED),
    Architecture("mamba", "Mamba"),
    Architecture("jamba", "Jamba"),
    Architecture("minimax", "MiniMax Text 01, M1"),
    Architecture("recurrent_gemma", "RecurrentGemma"),
    Architecture("zaya", "ZAYA1 8B"),
    Architecture("falcon_mamba", "Falcon Mamba 7B"),
    Architecture("rwkv", "RWKV 4"),
]
PUBLISHED = [
    Architecture("qwen3_5", "Qwen 3.5 0.8B to 27B"),
    Architecture("qwen3_5_moe", "Qwen 3.5 35B-A3B"),
    Architecture("gemma3", "Gemma 3 4B to 27B"),
    Architecture("gemma3n", "Gemma 3n E2B, E4B"),
    Architecture("gemma4", "Gemma 4 E2B, E4B"),
    Architecture("gemma4", "Gemma 4 26B-A4B", {"text_config": GEMMA4_MOE}, "mixture of experts"),
    Architecture("mistral3", "Ministral 3, Mistral Small 3"),
    Architecture("qwen2_5_vl", "Qwen2.5-VL"),
    Architecture("qwen3_vl", "Qwen3-VL"),
    Architecture("qwen3_vl_moe", "Qwen3-VL 30B-A3B"),
    Architecture("glm4v", "GLM 4.1V, 4.6V Flash", HALF_TURNED),
    Architecture("glm4v_moe", "GLM 4.5V", HALF_TURNED),
    Architecture("internvl", "InternVL 3.5"),
    Architecture("lfm2_vl", "LFM2-VL"),
    Architecture("llama4", "Llama 4 Scout"),
]
GROUPS = {
    "Attention": ATTENTION,
    "Mixtures of experts": MIXTURES_OF_EXPERTS,
    "Recurrent layers and convolutions": HYBRIDS,
    "Checkpoints that also see or hear": PUBLISHED,
}
ARCHITECTURES = {each.name: each for group in GROUPS.values() for each in group}
