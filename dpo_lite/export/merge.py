"""Merge an adapter into its 16-bit base, shard by shard, without ever loading the model.

W + c·B·A has the shape and the dtype of W. So each shard of the base is copied as it is, and the
changed weights are then written over in place, some rows at a time: the memory needed is that of a
few rows, whatever the model's size. What is tied stays tied, the index stays right.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from dpo_lite.errors import UserError
from dpo_lite.export.expert_deltas import ExpertDelta, expert_deltas
from dpo_lite.export.file_names import FileNames, file_names
from dpo_lite.files import read_json, write_json
from dpo_lite.model.adapter_files import WEIGHTS, adapter_folder
from dpo_lite.model.adapter_names import PREFIX, renaming
from dpo_lite.model.base import base_location
from dpo_lite.model.safetensors_header import Place, tensor_places
from dpo_lite.model.tensor_files import load_tensors
from dpo_lite.runs.folder import check_output

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
ROWS_BYTES = 64 * 2**20  # of the fp32 rows that are worked on at a time
FETCHED = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "*.py", "LICENSE*"]
NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".md")
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Delta:
    """What an adapter adds to one weight: scale · up @ down, transposed where it is stored so."""

    up: torch.Tensor  # (out, r)
    down: torch.Tensor  # (r, in)
    scale: float
    transposed: bool

    def rows(self, begin: int, end: int) -> torch.Tensor:
        """Rows ``begin`` to ``end`` of the change as the weight is stored, fp32."""
        if self.transposed:
            return self.scale * (self.down[:, begin:end].T @ self.up.T)
        return self.scale * (self.up[begin:end] @ self.down)

    @property
    def shape(self) -> tuple[int, ...]:
        shape = (self.up.shape[0], self.down.shape[1])
        return shape[::-1] if self.transposed else shape


def merge(
    base: str,
    revision: str | None,
    adapter: str,
    out: Path,
    say: Callable[[str], None] = lambda text: None,
    trusted: bool = False,
) -> dict[str, int]:
    """Write base + adapter to ``out``, a new folder; returns how much was changed.

    ``trusted``: whether Python code that comes with the base may run, to know its weights' names.

    Raises UserError where the base is not in 16 or 32 bits, or the two do not fit together.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty; give another folder.")
    check_output(out.parent)
    folder = adapter_folder(adapter)
    say(f"looking for the weights of {base}")
    source = base_folder(base, revision)
    config = read_json(source / "config.json") or {}
    if config.get("quantization_config"):
        original = config.get("_name_or_path") or "the 16-bit model"
        raise UserError(
            f"{base} is quantised itself, and merging into it would round twice; merge into what "
            f"it is a copy of: --base {original}."
        )
    places = weight_places(source)
    files = file_names(source, list(places), trusted)
    deltas = read_deltas(folder, files)
    tied = files.tied()
    apart = tied and {_tensor_of(layer, files) for layer in tied} & set(deltas)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _copy_small_files(source, partial)
        _write_shards(source, partial, places, deltas, say)
        if tied and apart:
            _untie_head(source, partial, places, files, deltas)
        if out.exists():
            out.rmdir()
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"changed": len(deltas), "tensors": len(places)}


def base_folder(base: str, revision: str | None = None) -> Path:
    """The base's files on this machine; from the Hub they are fetched into its cache."""
    location = Path(base_location(base))
    if location.is_dir():
        return location
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        return Path(
            snapshot_download(
                base, revision=revision, allow_patterns=FETCHED, ignore_patterns="*/*"
            )
        )
    except (HTTPError, OSError, ValueError) as error:
        raise UserError(
            f"The 16-bit base {base} is not in the cache and could not be fetched from the Hub "
            f"({str(error).strip().splitlines()[0]})."
        ) from None


def weight_places(folder: Path) -> dict[str, tuple[str, Place]]:
    """Every weight by its name: the shard it is in, and where."""
    index = read_json(folder / INDEX)
    files = sorted(set(index["weight_map"].values())) if index else [ONE_FILE]
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder} has no {missing[0]}; the base must be whole, in safetensors.")
    return {
        name: (file, place)
        for file in files
        for name, place in tensor_places(folder / file).items()
    }


def read_deltas(adapter: Path, files: FileNames) -> dict[str, Delta | ExpertDelta]:
    """The change of each of the base's tensors, from the adapter's files."""
    settings = read_json(adapter / "adapter_config.json") or {}
    odd = ["use_dora", "lora_bias", "modules_to_save", "layer_replication"]
    for key in [key for key in odd if settings.get(key)]:
        raise UserError(f"An adapter with {key} is not merged here; PEFT's merge_and_unload can.")
    saved = load_tensors(adapter / WEIGHTS)
    names = renaming(files.model, saved)
    saved = {names.tensor(name): tensor for name, tensor in saved.items()}
    settings = names.settings(settings)
    deltas: dict[str, Delta | ExpertDelta] = {}
    if settings.get("target_parameters"):
        of_experts, used = expert_deltas(files, settings, saved)
        saved = {name: tensor for name, tensor in saved.items() if name not in used}
        deltas.update(of_experts)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in saved.items()}
    modules = sorted({name.partition(".lora_")[0] for name in tensors})
    for module in modules:
        embedding = f"{module}.lora_embedding_A" in tensors
        suffix = "lora_embedding_{}" if embedding else "lora_{}.weight"
        down, up = (tensors[f"{module}.{suffix.format(part)}"].float() for part in "AB")
        if down.ndim != 2:
            raise UserError(f"{module} is no linear layer; PEFT's merge_and_unload can merge it.")
        deltas[_tensor_of(module, files)] = Delta(
            up,
            down,
            _scale(settings, module, down.shape[0]),
            embedding or bool(settings.get("fan_in_fan_out")),
        )
    return deltas


def _tensor_of(layer: str, files: FileNames) -> str:
    """The tensor in the files that is a layer's weight; the head's name where it is tied."""
    tied = files.tied()
    if not tied or layer not in tied:
        return files.of_layer(layer)
    weight = f"{layer}.weight"
    return HEAD if layer == tied[1] and weight not in files.renamed else files.found(weight, layer)


def _scale(settings: dict, module: str, rank: int) -> float:
    from peft.utils.other import get_pattern_key

    pattern = settings.get("alpha_pattern") or {}
    alpha = pattern.get(get_pattern_key(pattern.keys(), module), settings["lora_alpha"])
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _copy_small_files(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.is_file() and not path.name.startswith(".") and path.suffix not in NOT_COPIED:
            shutil.copyfile(path, target / path.name)


def _write_shards(
    source: Path,
    target: Path,
    places: dict[str, tuple[str, Place]],
    deltas: dict[str, Delta | ExpertDelta],
    say: Callable[[str], None],
) -> None:
    files = sorted({file for file, _ in places.values()})
    for number, file in enumerate(files, 1):
        say(f"merging shard {number} of {len(files)}: {file}")
        shutil.copyfile(source / file, target / file)
        with open(target / file, "r+b") as stream:
            for name, delta in deltas.items():
                if name in places and places[name][0] == file:
                    _add_in_place(stream, name, places[name][1], delta)


def _add_in_place(stream, name: str, place: Place, delta: Delta | ExpertDelta) -> None:
    """Add a change to a weight in a file, some rows at a time; rounding as the dtype rounds."""
    _check_fits(name, place, delta)
    dtype, width = DTYPES[place.dtype], place.shape[-1]
    rows = math.prod(place.shape[:-1])
    size = width * dtype.itemsize
    step = max(1, ROWS_BYTES // (width * 4))
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        stream.seek(place.begin + begin * size)
        block = bytearray(stream.read((end - begin) * size))
        weight = torch.frombuffer(block, dtype=dtype).view(end - begin, width)
        merged = (weight.float() + delta.rows(begin, end)).to(dtype)
        stream.seek(place.begin + begin * size)
        stream.write(merged.contiguous().view(torch.uint8).numpy().tobytes())


def _check_fits(name: str, place: Place, delta: Delta | ExpertDelta) -> None:
    if place.dtype not in DTYPES:
        raise UserError(f"{name} of the base is stored as {place.dtype}, not in 16 or 32 bits.")
    if place.shape != delta.shape:
        raise UserError(
            f"{name} has the shape {place.shape} in the base and {delta.shape} in the adapter; "
            "is it the base that the adapter was trained on?"
        )


def _untie_head(
    source: Path,
    target: Path,
    places: dict[str, tuple[str, Place]],
    files: FileNames,
    deltas: dict[str, Delta | ExpertDelta],
) -> None:
    """Give a head that shared the embedding's weight one of its own: only one of them is changed,
    or each by something of its own."""
    embedding, head = (_tensor_of(layer, files) for layer in files.tied() or ())
    if head not in places:
        _write_head(source, target, places, embedding, deltas.get(HEAD))
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    for part in (config, config.get("text_config") or {}):
        if "tie_word_embeddings" in part or part is config:
            part["tie_word_embeddings"] = False
    write_json(target / "config.json", config)


def _write_head(
    source: Path,
    target: Path,
    places: dict[str, tuple[str, Place]],
    embedding: str,
    delta: Delta | ExpertDelta | None,
) -> None:
    """A shard with the head: the unchanged embedding, and what the adapter adds to the head."""
    file, place = places[embedding]
    with open(source / file, "rb") as stream:
        stream.seek(place.begin)
        block = bytearray(stream.read(place.end - place.begin))
    weight = torch.frombuffer(block, dtype=DTYPES[place.dtype]).view(place.shape)
    if delta is not None:
        _check_fits(HEAD, place, delta)
        weight = (weight.float() + delta.rows(0, place.shape[0])).to(weight.dtype)
    extra = "model-head.safetensors"
    save_file({HEAD: weight.contiguous()}, target / extra, metadata={"format": "pt"})
    weight_map = {key: shard for key, (shard, _) in places.items()}
    if set(weight_map.values()) == {ONE_FILE}:  # its name would hide the index
        os.replace(target / ONE_FILE, target / "model-body.safetensors")
        weight_map = dict.fromkeys(weight_map, "model-body.safetensors")
    weight_map[HEAD] = extra
    total = sum(p.end - p.begin for _, p in places.values()) + len(block)
    write_json(target / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
