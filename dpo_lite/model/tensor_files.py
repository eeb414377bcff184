"""Read weights so that a damaged file is a sentence: which file, what is wrong, what to do."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dpo_lite.errors import UserError
from dpo_lite.files import is_pointer
from dpo_lite.model.safetensors_header import tensor_places


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of an adapter's .safetensors file.

    Raises UserError where it is none, cut short, or holds what is no number any more.
    """
    tensor_places(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:  # holes, or a kind of number that nobody knows
        hint = "copy or download it again"
        raise UserError(f"{path} is no safetensors file, or it is cut short; {hint}.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"{path} holds NaN or infinity (in {name}): its training went astray; take an "
                "earlier checkpoint, or train again with a lower train.lr."
            )
    return tensors


def refuse_pointers(folder: Path, key: str) -> None:
    """Raises UserError where a clone without Git LFS left notes in place of the files."""
    left = [path.name for path in sorted(folder.iterdir()) if path.is_file() and is_pointer(path)]
    if left:
        names = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
        raise UserError(
            f"{key}: {folder} holds only Git LFS's notes of {names}; `git lfs pull` there gets the "
            "files."
        )


def damaged(folder: Path) -> str | None:
    """A clause about the first weights or settings of a folder that cannot be whole, or None."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return f"{path} is no JSON, or it is cut short; copy or download it again."
    for path in sorted(folder.glob("*.safetensors.index.json")):
        named = json.loads(path.read_bytes())
        shards = named.get("weight_map") if isinstance(named, dict) else None
        files = sorted({str(name) for name in shards.values()} if isinstance(shards, dict) else [])
        if missing := [name for name in files if not (folder / name).is_file()]:
            return (
                f"{folder} has {len(files) - len(missing)} of the {len(files)} files of its"
                f" weights, and not {missing[0]}; copy or download it again."
            )
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tensor_places(path)
        except UserError as error:
            return str(error)
    return None
