"""What GGUF calls a model of transformers: its settings, its weights' names, how their rows lie.

Only for architectures whose every setting is known here: one that is not would be left out of the
file without a word, and the model would say something else. All others are llama.cpp's converter's.
Weights' names are from the package gguf's own tables; the keys are those of its ``constants.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from dpo_lite.errors import UserError
from dpo_lite.export import gguf_gemma

# Architecture in GGUF by model_type; where llama.cpp rotates pairs of neighbours, ``paired``.
ARCHITECTURES = {
    **{"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"},
    **gguf_gemma.ARCHITECTURES,
}
PAIRED = ("llama", "mistral")
CONVERTER = (
    "llama.cpp's converter may know it: `dpo-lite export RUN --to gguf --llama-cpp FOLDER` where"
    " llama.cpp is at hand, or the commands that `dpo-lite merge RUN FOLDER --gguf-ready` prints"
)
YARN_DEFAULTS = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
FACTORS = "rope_freqs.weight"  # what a rotation's frequencies are divided by


@dataclass(frozen=True)
class GgufModel:
    """``settings`` by GGUF's keys without the architecture before them."""

    architecture: str
    settings: dict[str, Any]
    factors: torch.Tensor | None  # (head_dim / 2,), Llama 3.1's
    config: PreTrainedConfig
    note: str | None = None

    def known_name(self, weight: str) -> str | None:
        """GGUF's name of a weight of the model, if it has one: not of Gemma's tied head."""
        import gguf

        keys = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
        names = gguf.get_tensor_name_map(keys[self.architecture], self.config.num_hidden_layers)
        return names.get_name(weight, try_suffixes=(".weight", ".bias"))

    def name(self, weight: str) -> str:
        """The same; raises UserError where it has none."""
        found = self.known_name(weight)
        if found is None:
            raise UserError(f"GGUF has no name for the weight {weight}; {CONVERTER}.")
        return found

    def rows(self, weight: str, tensor: torch.Tensor) -> torch.Tensor:
        """Its rows in GGUF's order, (out, …) both.

        transformers turns dimension i of a head together with i + half, llama.cpp's llama i with
        its neighbour, so queries' and keys' rows are interleaved. Gemma's norms hold one more.
        """
        heads = self._heads(weight)
        if heads is None:
            return tensor + more if (more := gguf_gemma.shift(self.config, weight)) else tensor
        return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)

    def rows_back(self, weight: str, tensor: torch.Tensor) -> torch.Tensor:
        """Rows in GGUF's order, as transformers has them."""
        heads = self._heads(weight)
        if heads is None:
            return tensor - more if (more := gguf_gemma.shift(self.config, weight)) else tensor
        return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    def _heads(self, weight: str) -> int | None:
        if self.config.model_type in PAIRED:
            if ".q_proj." in weight:
                return self.config.num_attention_heads
            if ".k_proj." in weight:
                return self.config.num_key_value_heads
        return None


def gguf_model(config: PreTrainedConfig) -> GgufModel:
    """Raises UserError where the file could not say all that the config does."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"GGUF is written here for {known}, not for {kind}; {CONVERTER}.")
    gemma = gguf_gemma.is_gemma(config)
    acts = {getattr(config, key, None) for key in ("hidden_act", "hidden_activation")} - {None}
    wanted = "gelu_pytorch_tanh" if gemma else "silu"
    if acts != {wanted}:
        listed = ", ".join(sorted(map(str, acts)))
        raise UserError(f"GGUF's {kind} has the activation {wanted}, not {listed}.")
    heads, size = config.num_attention_heads, getattr(config, "head_dim", None)
    size = size or config.hidden_size // heads
    settings = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": size,
        **_rope(config),
        **(gguf_gemma.gemma_settings(config, size) if gemma else {}),
    }
    return GgufModel(ARCHITECTURES[kind], settings, _factors(config), config, _window(config))


def _rope(config: PreTrainedConfig) -> dict[str, Any]:
    rope, found = gguf_gemma.rope_of(config)
    kind, base = rope.pop("rope_type", "default"), float(rope.pop("rope_theta", 10000.0))
    if rope.pop("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"A part of each head is not rotated in this base; {CONVERTER}.")
    found["rope.freq_base"] = base
    if kind in ("default", "llama3"):
        return found
    found |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope.pop("factor"))}
    if kind == "linear":
        return found
    original = rope.pop("original_max_position_embeddings", None)
    found["rope.scaling.original_context_length"] = original or config.max_position_embeddings
    others = {k: v for k, v in rope.items() if v is not None and v != YARN_DEFAULTS.get(k)}
    if kind != "yarn" or others:
        listed = kind if kind != "yarn" else ", ".join(others)
        raise UserError(
            f"Positions are stretched in this base as is not written here ({listed}); {CONVERTER}."
        )
    return found


def _factors(config: PreTrainedConfig) -> torch.Tensor | None:
    """What Llama 3.1's frequencies are divided by: transformers' own plain ones over its own."""
    rope, _ = gguf_gemma.rope_of(config)
    if rope.get("rope_type") != "llama3":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    size = 2 * len(scaled)
    powers = torch.arange(0, size, 2, dtype=torch.float32) / size
    return 1.0 / rope["rope_theta"] ** powers / scaled


def _window(config: PreTrainedConfig) -> str | None:
    """llama.cpp's llama and qwen2 have no window: within it they say the same."""
    if gguf_gemma.is_gemma(config):
        return None
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if not window or not (sliding or config.model_type == "mistral"):
        return None
    if window >= config.max_position_embeddings:
        return None
    return (
        f"the base attends to the last {window:,} tokens, llama.cpp's {config.model_type} to all:"
        " they differ in longer texts"
    )
