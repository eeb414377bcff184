"""What a part is given: the device, the sizes that are asked for, and models of these on it.

Models have random weights of real shapes, drawn where they lie, so that an 8B takes seconds and no
disk. What follows the drawing is the product's own: its loader of 4 bits, its adapters, its recipe.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name

from benchmarks.dpo_speed import WORKLOADS, make_pairs, shape
from benchmarks.dpo_speed import config_of as published
from dpo_lite.data.lengths import Lengths
from dpo_lite.data.packing import Encoded
from dpo_lite.model import roles
from dpo_lite.model.base import as_trained
from dpo_lite.model.four_bits import our_loaders
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.text_model import from_config
from dpo_lite.recipe import Recipe, validate_recipe
from dpo_lite.training.method import Loaded

TINY_SHAPE = shape(128, 256, 2, 4, 2, 512)
PACKED = {"0.5b": "none", "1.5b": "nf4", "8b": "nf4", "tiny": "nf4"}  # how people train it
CUT_WORDS = 32_768
SPREAD = 3.0  # of the logits, as in models that have learned something


@dataclass(frozen=True)
class Bench:
    """``shape``: the one that this is about; ``shapes``: all that are asked for, small to large."""

    device: torch.device
    dtype: torch.dtype  # that trains here
    small: bool
    shapes: tuple[str, ...]
    shape: str | None
    folder: Path  # of its own, gone when the part is over
    ends: float  # time.time() when the part must be over

    @property
    def on_card(self) -> bool:
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        return self.ends - time.time()

    def config(self, size: str, layers: int | None = None) -> PreTrainedConfig:
        """Of a shape; with its first layers alone and fewer words, where not all are wanted."""
        config = _tiny() if self.small else published(size)
        if layers is not None:
            config.num_hidden_layers = min(layers, config.num_hidden_layers)
            config.vocab_size = min(config.vocab_size, CUT_WORDS)
            if getattr(config, "layer_types", None):
                config.layer_types = config.layer_types[: config.num_hidden_layers]
        return config

    def base(
        self,
        config: PreTrainedConfig,
        quantization: str = "nf4",
        dtype: torch.dtype | None = None,
    ) -> PreTrainedModel:
        return random_base(config, quantization, self.device, dtype or self.dtype)

    def pairs(self, workload: str, count: int, config: PreTrainedConfig) -> list[Encoded]:
        """Random pairs of a workload of benchmarks/dpo_speed.py, short in the small form."""
        prompt, response, _ = WORKLOADS[workload]
        if self.small:
            prompt, response = (prompt[0] // 8, prompt[1]), (response[0] // 8, response[1])
        return make_pairs(prompt, response, count, config.vocab_size)

    def recipe(self, task: str = "dpo", quantization: str = "nf4", **sections: Any) -> Recipe:
        train = {"lr": 1e-4, "scheduler": "constant", "warmup": 0} | sections.pop("train", {})
        values = {
            "task": task,
            "model": {"base": "random", "quantization": quantization},
            "data": {"train": "random"},
            "train": train,
        }
        return validate_recipe(values | sections, "benchmarks.gpu")

    def allocated(self) -> int:
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device)

    def forget_peak(self) -> None:
        if self.on_card:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)

    def clock(self) -> float:
        """Seconds, all that the card was told being done."""
        if self.on_card:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _tiny() -> PreTrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        **TINY_SHAPE,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def random_base(
    config: PreTrainedConfig, quantization: str, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    """The frozen base of a config as the product's loader leaves it, drawn on the device.

    Products keep the size of what goes through them, and the logits spread by SPREAD. For models
    whose only buffers are those of their rotation (Llama, Qwen 2).
    """
    config = deepcopy(config)
    with torch.device("meta"):
        model = from_config(config, dtype=dtype)
    quantizer = _quantizer(dtype) if quantization == "nf4" else None
    if quantizer is not None:
        quantizer.preprocess_model(model, dtype=dtype, device_map={"": device})
    draw = torch.Generator(device).manual_seed(0)
    embeddings = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    done: dict[int, torch.nn.Parameter] = {}  # the head may be the embedding
    for name, old in list(model.named_parameters(remove_duplicate=False)):
        module, leaf = get_module_from_name(model, name)
        if id(old) not in done:
            value = _drawn(name, old, id(module) in embeddings, device, dtype, draw)
            if quantizer is not None and quantizer.param_needs_quantization(model, name):
                done[id(old)] = quantizer.get_quantize_ops().convert({name: value}, model=model)[
                    name
                ]
            else:
                done[id(old)] = torch.nn.Parameter(value, requires_grad=False)
        setattr(module, leaf, done[id(old)])
    decoder = decoder_of(model)
    decoder.rotary_emb = type(decoder.rotary_emb)(config).to(device)
    if quantizer is not None:
        quantizer.postprocess_model(model)
        model.hf_quantizer = quantizer
    model.tie_weights()
    return as_trained(model).eval()


def _quantizer(dtype: torch.dtype) -> Any:
    wanted = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    with our_loaders():
        return AutoHfQuantizer.from_config(wanted, pre_quantized=False)


def _drawn(
    name: str, like: torch.Tensor, embeds: bool, device: torch.device, dtype: torch.dtype, draw
) -> torch.Tensor:
    if like.dim() == 1:  # of a norm, or a bias
        fill = 0.0 if name.endswith("bias") else 1.0
        return torch.full(like.shape, fill, dtype=dtype, device=device)
    width = like.shape[-1]
    value = torch.randn(like.shape, generator=draw, dtype=dtype, device=device)
    return value.mul_((SPREAD if embeds else 1.0) * width**-0.5)


def moved_policy(base: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """The base with a policy that has learned something: its adapter is not where it starts."""
    model = roles.add_policy(base, recipe.adapter, seed=0)
    move(model)
    return model.train()


def move(model: PeftModel) -> None:
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.add_(0.02 * noise.to(parameter.device))


def gradients(model: PeftModel) -> torch.Tensor:
    """All of the policy's gradients in a row, on the host, in fp64."""
    parts = [p.grad for p in roles.trainable_parameters(model) if p.grad is not None]
    return torch.cat([part.detach().double().cpu().flatten() for part in parts])


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far two gradients are from one another, as a share of the expected one."""
    return ((found - expected).norm() / expected.norm()).item()


def loaded(recipe: Recipe, model: PeftModel, pairs: Sequence[Encoded]) -> Loaded:
    """What a run has in memory when its preflight begins."""
    prompt = np.array([len(pair["prompt_ids"]) for pair in pairs])
    each = np.array([[len(ids) for ids in pair["response_ids"]] for pair in pairs])
    first, last = each[:, 0], each[:, -1]
    count = np.full_like(prompt, each.shape[1])
    lengths = Lengths(prompt, first, last, each.max(1), each.sum(1), count)
    data = SimpleNamespace(
        train=Dataset.from_list(list(pairs)),
        lengths=lengths,
        few=list(pairs[:3]),
        evals={},
        report=SimpleNamespace(responses={"fewest": 2, "most": 2}),
    )
    return Loaded(recipe, None, data, model)
