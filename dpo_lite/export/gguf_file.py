"""A model's folder as one GGUF file, and that file's weights back by the model's names.

One tensor after the other is read, turned, rounded and written, so the memory needed is that of
the largest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpo_lite.errors import UserError
from dpo_lite.export.file_names import file_names
from dpo_lite.export.gguf_levels import Level
from dpo_lite.export.gguf_model import FACTORS, GgufModel, gguf_model
from dpo_lite.export.gguf_quants import packed, type_of, unpacked
from dpo_lite.export.gguf_vocabulary import Vocabulary, vocabulary
from dpo_lite.export.merge import read_weight, weight_places
from dpo_lite.export.ollama import adds_begin
from dpo_lite.files import replaced
from dpo_lite.model.base import load_config, load_tokenizer
from dpo_lite.model.safetensors_header import Place
from dpo_lite.recipe import ModelSection

Say = Callable[[str], None]
MISSING = "GGUF is written by the package gguf, which is not installed; run `pip install gguf`."


def need_gguf() -> Any:
    """The package, which nothing else needs. Raises UserError where it is not there."""
    try:
        import gguf
    except ImportError:
        raise UserError(MISSING) from None
    return gguf


def writable(folder: Path) -> GgufModel:
    """Whether a model's folder can become a file. Raises UserError before anything is written."""
    need_gguf()
    section = ModelSection(base=str(folder), quantization="none")
    model = gguf_model(load_config(section))
    vocabulary(load_tokenizer(section), model.config.vocab_size)
    return model


def write_gguf(
    folder: Path, out: Path, level: Level, name: str, say: Say = lambda text: None
) -> None:
    """``folder``: a model as transformers saves it, in 16 or 32 bits, with its tokenizer."""
    gguf, model = need_gguf(), writable(folder)
    tokenizer = load_tokenizer(ModelSection(base=str(folder), quantization="none"))
    weights = _weights(folder, model)
    tied = "output.weight" not in weights
    layers = model.config.num_hidden_layers
    with replaced(out) as partial:
        writer = gguf.GGUFWriter(partial, model.architecture)
        try:
            _write_settings(writer, model, level, name)
            _write_vocabulary(writer, vocabulary(tokenizer, model.config.vocab_size), tokenizer)
            kinds = {}
            for target, weight in weights.items():
                kinds[target] = kind = type_of(level, target, weight.shape, layers, tied)
                _announce(gguf, writer, target, weight.shape, kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for count, (target, weight) in enumerate(weights.items(), 1):
                say(f"{level.name}: {count} of {len(weights)} weights")
                writer.write_tensor_data(packed(weight.read(folder, model), kinds[target]))
        finally:
            writer.close()


@dataclass(frozen=True)
class Weight:
    """Of the model: where it lies and what it is like. ``values`` where no file has it."""

    name: str
    shape: tuple[int, ...]
    place: tuple[str, Place] | None = None
    values: torch.Tensor | None = None

    def read(self, folder: Path, model: GgufModel) -> torch.Tensor:
        """In fp32, with its rows in GGUF's order."""
        if self.place is None:
            assert self.values is not None
            return self.values
        return model.rows(self.name, read_weight(folder, *self.place).float()).contiguous()


def _weights(folder: Path, model: GgufModel) -> dict[str, Weight]:
    """By GGUF's name. A tied head is left out: llama.cpp then takes the embedding."""
    places = weight_places(folder)
    names = file_names(folder, list(places))
    tied = names.tied()
    head = f"{tied[1]}.weight" if tied else None
    found = {
        model.name(weight): Weight(weight, tuple(places[some[0]][1].shape), places[some[0]])
        for weight, some in names.renamed.items()
        if weight != head
    }
    if missing := sorted(set(names.model.state_dict()) - set(names.renamed) - {head}):
        raise UserError(f"{folder} has no weight {missing[0]}; the model must be whole.")
    if model.factors is not None:
        shape = tuple(model.factors.shape)
        found[FACTORS] = Weight(FACTORS, shape, values=model.factors.contiguous())
    return found


def _announce(gguf: Any, writer: Any, name: str, shape: tuple[int, ...], kind: str) -> None:
    """The header comes before the bytes, and has the type and the size of each."""
    quantised = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[quantised]
    size = math.prod(shape) // block * size
    writer.add_tensor_info(name, shape, np.dtype(np.float32), size, quantised)


def _write_settings(writer: Any, model: GgufModel, level: Level, name: str) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(level.file_type)
    if level.name[0] == "q":
        writer.add_quantization_version(2)
    for key, value in model.settings.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](f"{model.architecture}.{key}", value)


def _write_vocabulary(writer: Any, words: Vocabulary, tokenizer: Any) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    if words.merges:
        writer.add_token_merges(words.merges)
    if words.scores:
        writer.add_token_scores(words.scores)
        writer.add_add_space_prefix(words.space_before)
    special = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    for kind, index in special.items():
        if index is not None:
            getattr(writer, f"add_{kind}_token_id")(index)
    writer.add_add_bos_token(adds_begin(tokenizer))
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def read_gguf(file: Path, model: GgufModel, names: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of ``names``, as the file holds them, in fp32; a tied head's is the embedding."""
    reader = need_gguf().GGUFReader(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for weight in names:
        tensor = tensors.get(model.known_name(weight) or "")
        if tensor is not None:
            values = unpacked(tensor.data, tensor.tensor_type)
            yield weight, model.rows_back(weight, values)
