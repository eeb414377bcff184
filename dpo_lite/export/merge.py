"""Merge an adapter into its 16-bit base, shard by shard, without ever loading the model.

What becomes of a weight W, W + c·B·A, has its shape and its dtype. So each shard of the base is
copied as it is, and the changed weights are then written over in place, some rows at a time: the
memory needed is that of a few rows, whatever the model's size. What is tied stays tied unless only
one of the two is changed, and the index stays right.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from dpo_lite.errors import UserError
from dpo_lite.export.deltas import HEAD, Change, read_deltas, tensor_of
from dpo_lite.export.file_names import FileNames, file_names
from dpo_lite.files import read_json, write_json
from dpo_lite.model.adapter_files import adapter_folder
from dpo_lite.model.base import base_location
from dpo_lite.model.safetensors_header import Place, files_of_index, tensor_places
from dpo_lite.runs.room import check_output

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
ROWS_BYTES = 64 * 2**20  # of the fp32 rows that are worked on at a time
FETCHED = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "*.py", "LICENSE*"]
NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".md")


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
    deltas = read_deltas(folder, files, lambda name: read_weight(source, *places[name]))
    tied = files.tied()
    apart = tied and {tensor_of(layer, files) for layer in tied} & set(deltas)
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
    files = files_of_index(folder / INDEX) if (folder / INDEX).is_file() else [ONE_FILE]
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder} has no {missing[0]}; the base must be whole, in safetensors.")
    return {
        name: (file, place)
        for file in files
        for name, place in tensor_places(folder / file).items()
    }


def _copy_small_files(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if path.is_file() and not path.name.startswith(".") and path.suffix not in NOT_COPIED:
            shutil.copyfile(path, target / path.name)


def _write_shards(
    source: Path,
    target: Path,
    places: dict[str, tuple[str, Place]],
    deltas: dict[str, Change],
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


def _add_in_place(stream, name: str, place: Place, delta: Change) -> None:
    """Change a weight in a file, some rows at a time; rounding as the dtype rounds."""
    _check_fits(name, place, delta)
    dtype, width = DTYPES[place.dtype], place.shape[-1]
    rows = math.prod(place.shape[:-1])
    size = width * dtype.itemsize
    step = rows if delta.whole else max(1, ROWS_BYTES // (width * 4))
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        stream.seek(place.begin + begin * size)
        block = bytearray(stream.read((end - begin) * size))
        weight = torch.frombuffer(block, dtype=dtype).view(end - begin, width)
        merged = delta.merged(weight.float(), begin, end).to(dtype)
        stream.seek(place.begin + begin * size)
        stream.write(merged.contiguous().view(torch.uint8).numpy().tobytes())


def _check_fits(name: str, place: Place, delta: Change) -> None:
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
    deltas: dict[str, Change],
) -> None:
    """Give a head that shared the embedding's weight one of its own: only one of them is changed,
    or each by something of its own."""
    embedding, head = (tensor_of(layer, files) for layer in files.tied() or ())
    if head not in places:
        _write_head(source, target, places, embedding, deltas.get(HEAD))
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    for part in (config, config.get("text_config") or {}):
        if "tie_word_embeddings" in part or part is config:
            part["tie_word_embeddings"] = False
    write_json(target / "config.json", config)


def read_weight(folder: Path, file: str, place: Place) -> torch.Tensor:
    """One tensor of a base's files."""
    if place.dtype not in DTYPES:
        raise UserError(f"A weight of the base is stored as {place.dtype}, not in 16 or 32 bits.")
    with open(folder / file, "rb") as stream:
        stream.seek(place.begin)
        block = bytearray(stream.read(place.end - place.begin))
    return torch.frombuffer(block, dtype=DTYPES[place.dtype]).view(place.shape)


def _write_head(
    source: Path,
    target: Path,
    places: dict[str, tuple[str, Place]],
    embedding: str,
    delta: Change | None,
) -> None:
    """A shard with the head: the unchanged embedding, and what the adapter adds to the head."""
    place = places[embedding][1]
    weight = read_weight(source, *places[embedding])
    if delta is not None:
        _check_fits(HEAD, place, delta)
        weight = delta.merged(weight.float(), 0, place.shape[0]).to(weight.dtype)
    extra = "model-head.safetensors"
    save_file({HEAD: weight.contiguous()}, target / extra, metadata={"format": "pt"})
    weight_map = {key: shard for key, (shard, _) in places.items()}
    if set(weight_map.values()) == {ONE_FILE}:  # its name would hide the index
        os.replace(target / ONE_FILE, target / "model-body.safetensors")
        weight_map = dict.fromkeys(weight_map, "model-body.safetensors")
    weight_map[HEAD] = extra
    total = sum(p.end - p.begin for _, p in places.values()) + place.end - place.begin
    write_json(target / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
