"""Which settings of PEFT's LoRA mean here what they meant where an adapter was made.

A list of what is known to be right, not of what is known to be wrong: PEFT gets settings with every
release, and one that changes the base, the forward pass or what is saved would go by unseen. Each
field of ``LoraConfig`` is named here once. What the list says is tried: ``python -m
scripts.adapters`` has PEFT make adapters of every kind and writes docs/adapters.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MERGE = (
    "merge it into its base with PEFT (merge_and_unload) and take what comes of it for model.base"
)
CONVERT = (
    "save it again with PEFT as plain LoRA (save_pretrained with "
    "path_initial_model_for_weight_conversion, the adapter as it was before training), or " + MERGE
)

HEADED = "SEQ_CLS"  # PEFT's word for an adapter with a scalar head, which is a reward model
HEADS = {"score", "classifier"}  # how PEFT and transformers call its head


def is_head(tensor: str) -> bool:
    """Whether a tensor of an adapter's file is its scalar head."""
    return ".lora_" not in tensor and tensor.split(".")[-2] in HEADS


@dataclass(frozen=True)
class Setting:
    """Which values of a setting are right; what another does, and what helps."""

    right: Callable[[Any], bool]
    does: str = ""
    instead: Callable[[Any], str] = lambda value: MERGE


def _any(value: Any) -> bool:
    return True


def _off(value: Any) -> bool:
    return not value


def _converted(value: Any) -> str:
    return CONVERT if str(value).startswith(CONVERTIBLE) else MERGE


ANY = Setting(_any)
# What of an adapter's start is left in its tensors alone: the base stays as it is.
STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
CONVERTIBLE = ("pissa", "olora", "corda", "lora_ga")  # by PEFT
MUTATES = "takes the adapter's start off the base's weights, so it fits no base as it is published"

SETTINGS: dict[str, Setting] = {
    # Facts about the adapter, and what only its training needed. Dropout is never on here.
    **dict.fromkeys(
        (
            "task_type auto_mapping peft_type peft_version base_model_name_or_path revision"
            " inference_mode runtime_config lora_dropout eva_config corda_config loftq_config"
            " lora_ga_config megatron_core qalora_group_size"
        ).split(),
        ANY,
    ),
    # Which layers it has, its tensors say; the settings are only held against them.
    **dict.fromkeys(
        (
            "target_modules target_parameters exclude_modules layers_to_transform layers_pattern"
            " ensure_weight_tying"
        ).split(),
        ANY,
    ),
    # Ranks and scales.
    **dict.fromkeys("r lora_alpha rank_pattern alpha_pattern use_rslora".split(), ANY),
    # Kinds whose layers are scored, trained and merged as PEFT does.
    **dict.fromkeys("use_dora lora_bias fan_in_fan_out".split(), ANY),
    "init_lora_weights": Setting(lambda value: value in STARTS, MUTATES, _converted),
    "bias": Setting(
        lambda value: value in (None, "none"), "also trained biases of the base, which stay changed"
    ),
    "modules_to_save": Setting(_off, "also trained whole modules, which are not trained on here"),
    "trainable_token_indices": Setting(_off, "also trained embeddings of single tokens"),
    "layer_replication": Setting(_off, "makes a larger model by repeating layers"),
    "velora_config": Setting(_off, "keeps tensors of its backward pass (VeLoRA)"),
    "kasa_config": Setting(_off, "cuts the smallest components off the base's weights"),
    "alora_invocation_tokens": Setting(
        _off,
        "is worn only behind certain tokens (aLoRA), which no merged model can do",
        lambda value: "train a plain LoRA adapter",
    ),
    "arrow_config": Setting(
        _off,
        "chooses between several adapters at every token (Arrow)",
        lambda value: "name one of them",
    ),
    "use_qalora": Setting(_off, "reads its inputs in groups (QA-LoRA)"),
    "use_bdlora": Setting(_off, "has matrices in blocks (BD-LoRA)"),
    "monteclora_config": Setting(_off, "draws its weights at random (MonteCLoRA)"),
    "megatron_config": Setting(_off, "is cut up for Megatron"),
}


def refusal(config: dict[str, Any]) -> str | None:
    """Why an adapter of these settings is not taken, behind its name; None where it is.

    ``config``: the content of adapter_config.json. A setting that is not in the list is right where
    it is off.
    """
    kind = config.get("peft_type")
    if config.get("task_type") == HEADED:
        modules = set(config.get("modules_to_save") or ()) - HEADS
        config = config | {"modules_to_save": sorted(modules)}
    if kind != "LORA":
        return f"is of the kind {kind}; only LoRA is taken: {MERGE}."
    for key, value in config.items():
        setting = SETTINGS.get(key)
        if setting is None and not _off(value):
            made = config.get("peft_version")
            by = f" (PEFT {made})" if made else ""
            return (
                f"has a setting that is not known here ({_shown(key, value)}){by}; where it "
                "changes nothing that the adapter says, take it out of adapter_config.json, else "
                f"{MERGE}."
            )
        if setting is not None and not setting.right(value):
            return f"{setting.does} ({_shown(key, value)}); {setting.instead(value)}."
    return None


def _shown(key: str, value: Any) -> str:
    return key if isinstance(value, dict) else f"{key}: {value}"
