"""What GGUF says of Gemma, Gemma 2 and Gemma 3's language model, and what it cannot say.

llama.cpp multiplies embeddings by sqrt(width) itself, and a norm's weight where Gemma multiplies by
1 + weight: files hold weight + 1. Every second layer of Gemma 2 and five of six of Gemma 3 have a
window; how many are by the architecture, how wide is in the file. How scores are scaled follows
there from the sizes too. Facts from llama.cpp's src/models/gemma*.cpp and conversion/gemma.py.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from dpo_lite.errors import UserError

ARCHITECTURES = {"gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3"}
PERIOD = {"gemma2": 2, "gemma3_text": 6}  # every so many-th layer attends to all
LARGEST = {"gemma2": 46, "gemma3_text": 62}  # layers of 27B, whose scores are scaled otherwise
ROPE_SLIDING = "rope.freq_base_swa"


def is_gemma(config: PreTrainedConfig) -> bool:
    return config.model_type in ARCHITECTURES


def shift(config: PreTrainedConfig, weight: str) -> float:
    """What is added to a weight in the file."""
    return 1.0 if is_gemma(config) and weight.endswith("norm.weight") else 0.0


def rope_of(config: PreTrainedConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Positions of layers that attend to all, and what the file says of those with a window."""
    rope = dict(config.rope_parameters or {})
    if "full_attention" not in rope:
        return rope, {}
    near = dict(rope["sliding_attention"] or {})
    if near.pop("rope_type", "default") != "default":
        raise UserError("Positions within the window are stretched in this base, as GGUF has not.")
    return dict(rope["full_attention"]), {ROPE_SLIDING: float(near["rope_theta"])}


def gemma_settings(config: PreTrainedConfig, head_size: int) -> dict[str, Any]:
    """By GGUF's keys; raises UserError for a setting that llama.cpp takes to be another."""
    kind = config.model_type
    if getattr(config, "use_bidirectional_attention", None):
        _refuse(kind, "attends both ways")
    if config.attention_bias:
        _refuse(kind, "has biases in its attention")
    scaled_by = getattr(config, "query_pre_attn_scalar", head_size)
    largest = config.num_hidden_layers == LARGEST.get(kind)
    expected = config.hidden_size // config.num_attention_heads if largest else head_size
    if scaled_by != expected:
        _refuse(kind, f"scales scores by 1/sqrt({scaled_by}), llama.cpp by 1/sqrt({expected})")
    if kind == "gemma":
        return {}
    period = PERIOD[kind]
    usual = [
        "full_attention" if (layer + 1) % period == 0 else "sliding_attention"
        for layer in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != usual:
        _refuse(kind, f"has its window not in all but each {period}th layer")
    caps = config.attn_logit_softcapping, config.final_logit_softcapping
    found: dict[str, Any] = {"attention.sliding_window": int(config.sliding_window)}
    if kind == "gemma3_text":
        if caps != (None, None):
            _refuse(kind, "caps its scores")
        return found
    if None in caps:
        _refuse(kind, "does not cap its scores")
    scores, logits = caps
    return found | {
        "attn_logit_softcapping": float(scores),
        "final_logit_softcapping": float(logits),
    }


def _refuse(kind: str, what: str) -> None:
    raise UserError(f"This {kind} {what}, which GGUF cannot say; serve the merged model itself.")
