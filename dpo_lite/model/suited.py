"""Whether a base is a model that goes on with a text, which is what is trained here.

transformers loads more than that without a word: an encoder as if it wrote from left to right, a
classifier with a random head for words. A base is judged by its config, before a weight is read.
"""

from __future__ import annotations

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

from dpo_lite.errors import UserError
from dpo_lite.model.text_model import published_class

WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
INSTEAD = "take a model that answers in text (a causal language model)"


def check_suited(base: str, config: PreTrainedConfig) -> None:
    """Raise UserError where a base's config is that of another kind of model."""
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return  # its own code says what it is
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise UserError(
            f"model.base: {base} ({config.model_type}) reads with an encoder and writes with a "
            f"decoder, which is not trained here; {INSTEAD}."
        )
    text, published = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None), published_class(config)
    if text is None and published is None:
        raise UserError(
            f"model.base: {base} ({config.model_type}) is no language model that transformers "
            f"has; {INSTEAD}."
        )
    known = {kind.__name__ for kind in (text, published) if kind is not None}
    named = config.architectures or []
    if named and not any(name in known or name.endswith(WRITERS) for name in named):
        raise UserError(
            f"model.base: {base} is a {named[0]}, which has no trained head for the next word; "
            f"{INSTEAD}."
        )


def check_whole(base: str, missing: set[str]) -> None:
    """Raise UserError where weights that a base's files do not hold would be random."""
    if missing:
        name, more = min(missing), len(missing) - 1
        others = f" and {more} more" if more else ""
        raise UserError(
            f"model.base: the files of {base} hold no {name}{others}, so a part of the model would "
            f"be random; {INSTEAD}, or a copy that is whole."
        )
