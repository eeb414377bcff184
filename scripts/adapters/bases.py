"""Small bases with random weights, in fp32: the same code as of real ones, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

WORDS = 61
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
BASES = {
    "plain": ("llama", {"tie_word_embeddings": False}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biased": ("llama", {"attention_bias": True, "tie_word_embeddings": False}),
    "transposed": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "mixture": ("qwen3_moe", ROUTED | {"tie_word_embeddings": False}),
}
TOKENS = torch.arange(3, 23)[None]


def make_base(name: str, folder: Path) -> Path:
    """Write a base into ``folder``, unless it is there."""
    if not folder.is_dir():
        kind, options = BASES[name]
        sizes = {"vocab_size": WORDS} if kind == "gpt2" else SIZES
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**(sizes | options))).float()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3)
                elif not parameter.any():
                    parameter.normal_(0, 0.3)  # biases
        model.save_pretrained(folder)
    return folder


def open_base(folder: Path) -> torch.nn.Module:
    """As plain transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def says(model: torch.nn.Module) -> torch.Tensor:
    """Log-probabilities of the next token at every place, (places, words)."""
    model.eval()
    return model(TOKENS).logits[0].float().log_softmax(-1)
