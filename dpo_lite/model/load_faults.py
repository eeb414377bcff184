"""Why a base does not load, in one sentence."""

from __future__ import annotations

from pathlib import Path

import transformers
from safetensors import SafetensorError

from dpo_lite.model.tensor_files import damaged
from dpo_lite.model.text_model import missing_package
from dpo_lite.recipe import ModelSection

LOAD_FAULTS = (
    OSError,
    ValueError,
    ImportError,
    LookupError,
    AttributeError,
    TypeError,
    SafetensorError,
)


def damaged_files(location: str) -> str | None:
    """Which of a local base's files cannot be whole."""
    clause = damaged(Path(location)) if Path(location).is_dir() else None
    return clause and f"model.base: {clause}"


def load_fault(section: ModelSection, error: Exception) -> str:
    """Say in one sentence why a base did not load."""
    text = str(error)
    if isinstance(error, (LookupError, AttributeError, TypeError)):
        text = f"transformers {transformers.__version__} fails with {type(error).__name__}: {text}"
    base = section.base + (f" at {section.revision}" if section.revision else "")
    if isinstance(error, SafetensorError):
        return (
            f"model.base: weights of {base} in the Hub's cache are cut short; take them out of it "
            "(`hf cache ls`, `hf cache rm`), and they are downloaded again."
        )
    if "trust_remote_code" in text:
        return (
            f"model.base: {base} comes with Python code of its own; if you trust it, "
            "set model.trust_remote_code=true."
        )
    if isinstance(error, ImportError) and (missing := missing_package(base, error)):
        return missing
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
    if "file named config.json" in text:
        return (
            f"model.base: {base} has no config.json, so it is none of transformers' models (an "
            "adapter, a GGUF file or a pipeline that makes pictures has none); name its base, or a "
            "model in safetensors."
        )
    if "is not a local folder" in text or "not a valid model identifier" in text:
        return (
            f"model.base: there is no model {base} on the Hub and no such folder; check the name."
        )
    if "backend tokenizer" in text:
        return (
            f"model.base: {base} has no tokenizer that can be read (tokenizer.json); copy that of"
            " the model it was made from into its folder."
        )
    if "safetensors" in text:
        return f"model.base: {base} has no safetensors weights; pick a revision or a copy that has."
    return f"model.base: {base} does not load: {text.strip().splitlines()[0]}"
