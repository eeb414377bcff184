"""Every setting of PEFT's LoRA as somebody may have set it, and adapters that PEFT makes by it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoHaConfig, LoraConfig, VeraConfig, get_peft_model
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, MontecloraConfig, VeloraConfig

from scripts.adapters.bases import open_base, says


@dataclass(frozen=True)
class Kind:
    """An adapter with settings of its own.

    ``written``: settings that are written into a plain adapter's file instead: of kinds that PEFT
    makes only with data, on a card or with another library, and of a PEFT that is yet to come.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    base: str = "plain"
    config: type = LoraConfig
    written: dict[str, Any] = field(default_factory=dict)
    converted: bool = False  # as PEFT turns it into plain LoRA


SOME = ["q_proj", "v_proj", "down_proj"]
QUARTER = {"target_modules_bd_a": ["down_proj"], "target_modules_bd_b": ["q_proj", "v_proj"]}


def _starts(name: str) -> Kind:
    return Kind(f"init_lora_weights: {name}", {"init_lora_weights": name})


KINDS = [
    Kind("plain LoRA"),
    Kind("init_lora_weights: false", {"init_lora_weights": False}),
    *(_starts(name) for name in ("gaussian", "orthogonal", "eva", "mica")),
    *(_starts(name) for name in ("pissa", "pissa_niter_4", "olora")),
    Kind("init_lora_weights: pissa, converted", {"init_lora_weights": "pissa"}, converted=True),
    Kind("init_lora_weights: olora, converted", {"init_lora_weights": "olora"}, converted=True),
    Kind("init_lora_weights: corda", written={"init_lora_weights": "corda", "corda_config": {}}),
    Kind("init_lora_weights: lora_ga", written={"init_lora_weights": "lora_ga"}),
    Kind("init_lora_weights: loftq", written={"init_lora_weights": "loftq"}),
    Kind("lora_dropout: 0.1", {"lora_dropout": 0.1}),
    Kind("use_rslora", {"use_rslora": True}),
    Kind("use_dora", {"use_dora": True}),
    Kind(
        "use_dora on the embedding and the head",
        {"use_dora": True, "target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    ),
    Kind(
        "use_dora, fan_in_fan_out",
        {"use_dora": True, "target_modules": ["c_attn"], "fan_in_fan_out": True},
        "transposed",
    ),
    Kind("fan_in_fan_out", {"target_modules": ["c_attn"], "fan_in_fan_out": True}, "transposed"),
    Kind("rank_pattern", {"rank_pattern": {"q_proj": 6, r"layers\.1\..*v_proj": 2}}),
    Kind("alpha_pattern", {"alpha_pattern": {"layers.1.self_attn.q_proj": 32}}),
    Kind(
        "rank_pattern and alpha_pattern with use_rslora",
        {"use_rslora": True, "rank_pattern": {"q_proj": 6}, "alpha_pattern": {"v_proj": 3}},
    ),
    Kind(
        "lora_bias on layers with a bias", {"lora_bias": True, "target_modules": SOME[:2]}, "biased"
    ),
    Kind("lora_bias on layers without", {"lora_bias": True}),
    Kind("target_modules: a pattern", {"target_modules": r".*self_attn.*(q|v)_proj"}),
    Kind("target_modules: all-linear", {"target_modules": "all-linear"}),
    Kind("layers_to_transform", {"layers_to_transform": [1]}),
    Kind(
        "layers_to_transform and layers_pattern",
        {"layers_to_transform": [0], "layers_pattern": "layers"},
    ),
    Kind("exclude_modules", {"exclude_modules": ["layers.0.self_attn.q_proj"]}),
    Kind("exclude_modules: a pattern", {"exclude_modules": r".*layers\.1.*"}),
    Kind(
        "target_parameters of experts",
        {"target_modules": ["q_proj"], "target_parameters": ["experts.down_proj"]},
        "mixture",
    ),
    Kind(
        "target_parameters of linear layers",
        {"target_modules": ["q_proj"], "target_parameters": ["v_proj.weight"]},
    ),
    Kind("embed_tokens adapted", {"target_modules": ["q_proj", "embed_tokens"]}),
    Kind("lm_head adapted", {"target_modules": ["q_proj", "lm_head"]}),
    Kind("embed_tokens adapted, tied", {"target_modules": ["q_proj", "embed_tokens"]}, "tied"),
    Kind("lm_head adapted, tied", {"target_modules": ["q_proj", "lm_head"]}, "tied"),
    Kind("both adapted, tied", {"target_modules": ["embed_tokens", "lm_head"]}, "tied"),
    Kind(
        "ensure_weight_tying, both adapted",
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "ensure_weight_tying": True},
        "tied",
    ),
    Kind(
        "ensure_weight_tying, embed_tokens adapted",
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
        "tied",
    ),
    Kind("bias: all", {"bias": "all"}, "biased"),
    Kind("bias: lora_only", {"bias": "lora_only"}, "biased"),
    Kind("modules_to_save", {"modules_to_save": ["lm_head"]}),
    Kind("trainable_token_indices", {"trainable_token_indices": {"embed_tokens": [5, 7]}}),
    Kind("layer_replication", {"layer_replication": [[0, 2], [1, 2]]}),
    Kind("velora_config", {"velora_config": VeloraConfig(num_groups=4)}),
    Kind("kasa_config", {"kasa_config": KasaConfig()}),
    Kind("monteclora_config", {"monteclora_config": MontecloraConfig()}),
    Kind("use_bdlora", {"use_bdlora": BdLoraConfig(nblocks=2, **QUARTER)}),
    Kind("use_qalora", written={"use_qalora": True}),
    Kind("alora_invocation_tokens", {"alora_invocation_tokens": [9, 10]}),
    Kind("arrow_config", written={"arrow_config": {"top_k": 2}}),
    Kind("megatron_config", written={"megatron_config": {"tensor_model_parallel_size": 2}}),
    Kind("a setting of a newer PEFT, off", written={"use_yet_unknown": False}),
    Kind("a setting of a newer PEFT, on", written={"use_yet_unknown": True}),
    Kind("IA³", {"target_modules": ["v_proj"], "feedforward_modules": []}, config=IA3Config),
    Kind("LoHa", {"target_modules": SOME}, config=LoHaConfig),
    Kind("VeRA", {"target_modules": ["q_proj"]}, config=VeraConfig),
]


def make_adapter(kind: Kind, base: Path, folder: Path) -> torch.Tensor:
    """Have PEFT make, train (by random numbers) and save an adapter; returns what it says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = kind.settings
        if kind.config is LoraConfig:
            settings = {"r": 4, "lora_alpha": 6, "target_modules": SOME} | settings
        torch.manual_seed(1)
        config = kind.config(task_type="CAUSAL_LM", **settings)
        model = get_peft_model(open_base(base), config)
        if kind.converted:
            model.save_pretrained(folder / "start")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad or "lora_" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        said = says(model)
        how = {"path_initial_model_for_weight_conversion": str(folder / "start")}
        model.peft_config["default"].base_model_name_or_path = str(base)
        model.save_pretrained(folder, **(how if kind.converted else {}))
    file = folder / "adapter_config.json"
    saved = json.loads(file.read_text("utf-8")) | kind.written
    file.write_text(json.dumps(saved, indent=2), "utf-8")
    return said
