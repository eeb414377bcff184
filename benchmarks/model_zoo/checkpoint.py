"""The small checkpoint of an architecture on disk, with a tokenizer, and rows to train on."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from benchmarks.model_zoo.architectures import Architecture
from dpo_lite.data.packing import Encoded
from dpo_lite.model.text_model import published_class
from tests.cats import write_cats
from tests.conftest import CHATML

MARKS = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 ?\n"
# Prompts of a token, of less than a kernel's width, of several chunks of a recurrence.
LENGTHS = ((70, (5, 20)), (1, (4,)), (3, (9, 1, 7, 30)), (19, (34, 3)))


def save_checkpoint(architecture: Architecture, folder: Path) -> str:
    """Write the small checkpoint; returns its folder."""
    model = architecture.small()
    model.generation_config.eos_token_id = len(MARKS) - 1
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return str(folder)


def save_config(architecture: Architecture, folder: Path) -> str:
    """Write the config of a published size alone, which is all that a plan reads."""
    architecture.full_config().save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return str(folder)


def unmodified(folder: str) -> PreTrainedModel:
    """The checkpoint as transformers loads it: all of it, in fp32, nothing of ours."""
    published = published_class(AutoConfig.from_pretrained(folder))
    kind = published or AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    if hasattr(model.config, "rescale_every"):
        # RWKV halves its layers for inference, and not what an adapter adds to them.
        model.config.rescale_every = 0
    return model


def examples() -> list[Encoded]:
    """Trees of one, two and four responses, of letters alone."""
    draw = torch.Generator().manual_seed(0)
    first, last = len(MARKS), len(MARKS) + len(LETTERS)

    def ids(count: int) -> list[int]:
        return torch.randint(first, last, (count,), generator=draw).tolist()

    return [
        {"prompt_ids": ids(prompt), "response_ids": [ids(n) for n in responses]}
        for prompt, responses in LENGTHS
    ]


def rows(folder: Path) -> str:
    """A folder of preferences for a run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_cats(folder, train=range(8), test=range(8, 10))
    return str(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    """A letter a token, so that it fits the smallest vocabulary."""
    words = {text: number for number, text in enumerate([*MARKS, *LETTERS])}
    backend = Tokenizer(models.WordLevel(words, unk_token=MARKS[0]))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=MARKS[0],
        eos_token=MARKS[2],
        additional_special_tokens=MARKS[1:2],
    )
    tokenizer.chat_template = CHATML
    return tokenizer
