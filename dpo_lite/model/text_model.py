"""The text model of a checkpoint that also sees or hears, by the names of the published model.

Such a checkpoint is a text model with towers for other senses beside it. It is trained on text, so
the towers are taken out before a weight is read: they are neither loaded nor packed, adapted,
counted or computed again. What is left keeps its class and its names
(``model.language_model.layers``), so that an adapter of it loads with plain PEFT on the model as it
is published, and does there what it does here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from dpo_lite.errors import UserError
from dpo_lite.model.layers import decoder_of


def from_config(config: PreTrainedConfig, towers: bool = False, **options: Any) -> PreTrainedModel:
    """The model that a base's config describes, without its weights.

    ``towers``: with those of a published checkpoint, which is then built as it is there.
    """
    published = published_class(config)
    try:
        if published is None:
            return AutoModelForCausalLM.from_config(config, **options)
        kind = published if towers else without_towers(published)
        with _without_missing_packages():
            return kind._from_config(config, **options)
    except ImportError as error:
        name = config.name_or_path or config.model_type
        raise UserError(missing_package(name, error) or str(error)) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        name, fault = config.name_or_path or config.model_type, type(error).__name__
        raise UserError(
            f"model.base: transformers {transformers.__version__} cannot make a model from the "
            f"config of {name} ({fault}: {error}); check its config.json."
        ) from error


def missing_package(base: str, error: ImportError) -> str | None:
    """Which package a base needs, where the error says so, as a sentence."""
    named = re.search(r"pip install ([\w.-]+)|requires the ([\w.-]+) library", str(error))
    if named is None:
        return None
    package = (named[1] or named[2]).lower()
    return (
        f"model.base: {base} needs the package {package}, which is not installed; run `pip install "
        f"{package}`, or take a base of text alone."
    )


def published_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class of a checkpoint that has other senses beside its text model, else None."""
    if config.get_text_config() is config:
        return None
    text = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if text is not None and config.architectures == [text.__name__]:
        return text if text.config_class is type(config) else None
    mappings = (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING)
    return next((m[type(config)] for m in mappings if type(config) in m), None)


def classes(config: PreTrainedConfig) -> dict[str, str | None] | None:
    """The names of the classes that an adapter loads on, where the usual ones do not do: for
    answers, and with a scalar head (None where transformers has none)."""
    published = published_class(config)
    if published is None:
        return None
    scalar = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    return {"answers": published.__name__, "scalar": scalar and scalar.__name__}


def without_towers(published: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class, of the same name, whose models have no towers."""

    def build(self, config, *inputs, **options):
        with _without_missing_packages():
            published.__init__(self, config, *inputs, **options)
        _take_out_towers(self)

    own = {"__init__": build, "__module__": published.__module__}
    return type(published.__name__, (published,), own)


@contextmanager
def _without_missing_packages() -> Iterator[None]:
    """Inside, a tower whose package is not installed (Gemma 3n's timm) is left empty."""
    make = AutoModel.from_config

    def or_empty(*inputs, **options):
        try:
            return make(*inputs, **options)
        except ImportError:
            return torch.nn.Module()

    AutoModel.from_config = or_empty
    try:
        yield
    finally:
        AutoModel.from_config = make


def _take_out_towers(model: PreTrainedModel) -> None:
    """Leave nothing beside the decoder and the head, and remember the names of what was there."""
    text, head = decoder_of(model), model.get_output_embeddings()
    names = [name for name, _ in model.named_modules()]
    path = next(name for name, module in model.named_modules() if module is text)
    towers, owner = [], model
    for part in path.split("."):
        for name, child in list(owner.named_children()):
            # Gemma 3n looks up tokens of pictures and sounds in any text: that stays.
            needed = hasattr(child, "vocab_offset") or any(m is head for m in child.modules())
            if name != part and not needed:
                setattr(owner, name, None)
                towers.append(name)
        for name in [n for n, _ in owner.named_parameters(recurse=False)]:
            setattr(owner, name, None)  # such as the mark of a line's end in a picture
            towers.append(name)
        owner = getattr(owner, part)
    left = {name for name, _ in model.named_modules()}
    model.towers = [name for name in names if name not in left]
    ignored = {rf"(^|\.){re.escape(name)}(\.|$)" for name in towers}
    model._keys_to_ignore_on_load_unexpected = ignored | set(
        model._keys_to_ignore_on_load_unexpected or ()
    )


def tower_modules(lm: torch.nn.Module) -> list[str]:
    """Names of the modules that the published model has and this one was built without."""
    return getattr(lm, "towers", [])
