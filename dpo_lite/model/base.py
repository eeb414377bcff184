"""Load the frozen base model and its tokenizer."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from pathlib import Path

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import adapter_folder
from dpo_lite.model.experts import use_own_products
from dpo_lite.model.four_bits import experts_packed_too, reads_while_training
from dpo_lite.model.text_model import published_class, without_towers
from dpo_lite.names import is_public
from dpo_lite.recipe import ModelSection

BUILTIN = "builtin:"
JITTER = "jitter"
CHANCE = ("dropout", "pdrop", JITTER)
BUILTIN_FOLDER = Path(__file__).resolve().parent.parent / "builtin"


def base_location(base: str) -> str:
    """Return what transformers loads for ``model.base``: a folder, or the Hub id as it is."""
    if base.startswith(BUILTIN):
        folder = BUILTIN_FOLDER / base.removeprefix(BUILTIN)
        if not (folder / "config.json").is_file():
            names = ", ".join(
                f"{BUILTIN}{p.parent.name}" for p in BUILTIN_FOLDER.glob("*/config.json")
            )
            raise UserError(f"model.base: there is no {base}; the builtin bases are {names}.")
        return str(folder)
    path = Path(base)
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(f"model.base: {base} has no config.json; give a folder that holds a model.")
    looks_local = base.startswith((".", "/", "~")) or base.count("/") > 1
    if looks_local and not path.is_dir():
        raise UserError(f"model.base: there is no folder {base}; check the path.")
    return base


def compute_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device has it, else fp32. Never fp16: DPO's margins overflow its range."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def load_tokenizer(section: ModelSection) -> PreTrainedTokenizerBase:
    """The base's tokenizer; where it has no chat template, with that of the adapter to continue.

    A bare base mostly has none, and the adapter that taught it to chat brings the one it learned.
    """
    tokenizer = _load(AutoTokenizer, section)
    if not tokenizer.chat_template and section.adapter:
        # An adapter without a tokenizer changes nothing: the missing template is told later.
        with contextlib.suppress(OSError, ValueError, UserError):
            folder = adapter_folder(section.adapter)
            tokenizer.chat_template = AutoTokenizer.from_pretrained(folder).chat_template
    return tokenizer


def save_own_template(tokenizer, section: ModelSection, folder: Path) -> None:
    """Save the tokenizer beside an adapter whose chat template is not the base's."""
    if section.adapter is None:
        return  # only the adapter to continue brings a template
    plain = load_tokenizer(section.model_copy(update={"adapter": None}))
    if tokenizer.chat_template != plain.chat_template:
        tokenizer.save_pretrained(str(folder))


def true_base(section: ModelSection) -> str | None:
    """The model that a quantised base is a copy of, where its config.json names it."""
    values, _ = PreTrainedConfig.get_config_dict(
        base_location(section.base), revision=section.revision or "main"
    )
    original = values.get("_name_or_path")
    if not values.get("quantization_config") or not original or original == section.base:
        return None
    return original if is_public(original) else None


def load_config(section: ModelSection):
    """The base's configuration alone: a few kilobytes, no weights."""
    return _load(AutoConfig, section)


def position_limit(config) -> int | None:
    """The longest sequence that the base has positions for; None where it names no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def load_base(section: ModelSection, device: torch.device | None = None) -> PreTrainedModel:
    """Load the frozen base: NF4 with double quantisation, or 16-bit (fp32 on a CPU).

    Parts that bitsandbytes leaves alone (embeddings, norms, head) take the compute dtype; nothing
    is cast to fp32 behind the user's back, and ``prepare_model_for_kbit_training`` is not used.
    """
    device = device or compute_device()
    dtype = compute_dtype(device)
    options = {"dtype": dtype, "device_map": {"": device}, "use_safetensors": True}
    config = load_config(section)
    quantised_already = getattr(config, "quantization_config", None) is not None
    if section.quantization == "nf4" and not quantised_already:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    published = published_class(config)
    if published is None:
        kind = AutoModelForCausalLM
    else:
        kind, options["config"] = without_towers(published), config
    with experts_packed_too():
        model = _load(kind, section, **options)
    use_own_products(model)
    keep_cpu_gradients_right(model)
    disable_dropout(model)
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def keep_cpu_gradients_right(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking its 4-bit weights on AVX512-BF16 CPUs.

    A ``Linear4bit`` that runs once in eval mode without grad rewrites its weight for a kernel that
    has no backward formula; every gradient after that is silently wrong (relative error 0.74).
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def disable_dropout(model: torch.nn.Module) -> None:
    """Take all chance out of a model: policy and reference must be the same network at step 0.

    Dropout stands in modules, in their numbers and in the configuration's; routers of some mixtures
    also jitter, and draw experts while they train. These, and modules that while they train take
    their layers' weights without the layers, stay as they are for answers.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "config"):
            _without_chance(module.config.__dict__)
        _without_chance(module.__dict__)
        if any(JITTER in key for key in module.__dict__) or reads_while_training(module):
            module.eval().train = partial(_stay, module)


def _without_chance(values: dict) -> None:
    """Set those numbers to zero that say how much is left to chance."""
    for key, value in values.items():
        if isinstance(value, float) and any(word in key for word in CHANCE):
            values[key] = 0.0
        elif isinstance(value, PreTrainedConfig):
            _without_chance(value.__dict__)


def _stay(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    """In place of a module's ``train``: its mode does not change."""
    return module


def count_4bit(model: torch.nn.Module) -> int:
    """The number of linear layers held in 4 bits."""
    import bitsandbytes as bnb

    return sum(isinstance(module, bnb.nn.Linear4bit) for module in model.modules())


def _load(kind, section: ModelSection, **options):
    location = base_location(section.base)
    try:
        return kind.from_pretrained(
            location,
            revision=section.revision or "main",
            trust_remote_code=section.trust_remote_code,
            **options,
        )
    except (OSError, ValueError, ImportError, LookupError, AttributeError, TypeError) as error:
        raise UserError(_load_fault(section, error)) from error


def _load_fault(section: ModelSection, error: Exception) -> str:
    """Say in one sentence why a base did not load."""
    text = str(error)
    if isinstance(error, (LookupError, AttributeError, TypeError)):
        text = f"transformers {transformers.__version__} fails with {type(error).__name__}: {text}"
    base = section.base + (f" at {section.revision}" if section.revision else "")
    if "trust_remote_code" in text:
        return (
            f"model.base: {base} comes with Python code of its own; if you trust it, "
            "set model.trust_remote_code=true."
        )
    if isinstance(error, ImportError) and (named := re.search(r"pip install ([\w.-]+)", text)):
        return (
            f"model.base: {base} needs the package {named[1]}, which is not installed; run "
            f"`pip install {named[1]}`, or take a base of text alone."
        )
    if "gated" in text.lower() or "401" in text:
        return (
            f"model.base: {base} is gated or private; accept its licence on the Hub and log in "
            "with `hf auth login`."
        )
    if "couldn't connect" in text.lower() or "offline" in text.lower():
        return (
            f"model.base: {base} is neither a local folder nor in the cache, and the Hub cannot "
            "be reached; check the name and the network."
        )
    if "is not a local folder" in text or "not a valid model identifier" in text:
        return (
            f"model.base: there is no model {base} on the Hub and no such folder; check the name."
        )
    if "safetensors" in text:
        return f"model.base: {base} has no safetensors weights; pick a revision or a copy that has."
    return f"model.base: {base} does not load: {text.strip().splitlines()[0]}"
